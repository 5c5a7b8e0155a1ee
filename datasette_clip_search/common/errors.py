"""The errors for people. The library raises them; cli, web and sql show their text.

Anyone who can query the database may read the text of a `ClipSearchError`, so it names no folder
of the machine. Errors of the command line are the exception: their reader owns the files.
"""

from .terminal_text import visible


class ClipSearchError(Exception):
    "Something went wrong that the reader can fix; the message says how"

    # The control codes that the message may contain.
    _keep = ""

    def __str__(self) -> str:
        # It may quote a stranger's database, and may be printed in a terminal.
        return visible(super().__str__(), self._keep)


class CommandError(ClipSearchError):
    "A command was given something that it can't use; may name the user's own files"

    # Some messages are lists.
    _keep = "\n"


class NoEmbeddings(ClipSearchError):
    "The database holds no embeddings"


class QueryError(ClipSearchError):
    "The query, or k, can't be searched for"


class NotAPicture(QueryError):
    "The bytes of a query can't be decoded as a picture; the message is the reason"


class TooBusy(ClipSearchError):
    "A server has too much to do at the moment; the message says to try again"


class EncoderUnavailable(ClipSearchError):
    "The encoder for a text or a picture is not available here"

    # Some messages have two lines.
    _keep = "\n"


class ModelMismatch(ClipSearchError):
    "The weights found are not the ones that made the vectors"


class DatabaseError(ClipSearchError):
    "The tables of the database differ from what this release expects"


class TookTooLong(ClipSearchError):
    "A database takes longer to read than a server allows"


class PictureError(ClipSearchError):
    "A file could not be read as a picture"


class PictureTooLarge(PictureError):
    "A picture has more pixels than the limit allows"


class PictureUnreadable(PictureError):
    "A file could not be read at all"


class NotEnoughMemory(PictureError):
    "A picture takes more memory to decode than there is now"
