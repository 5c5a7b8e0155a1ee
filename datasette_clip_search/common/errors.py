"""Every error a person can meet. The library raises these; cli, web and sql pass their text on.

The text of a `ClipSearchError` is written for its reader and may be shown to anyone who can
query the database, so it names no folder of the machine it happened on. Errors of the command
line are the exception: their reader owns the files they name.
"""

from .terminal_text import visible


class ClipSearchError(Exception):
    "Something is wrong that the person who asked can mend; the message says how"

    # What stays of control codes.
    _keep = ""

    def __str__(self) -> str:
        # It may quote a stranger's database, and end in a terminal by many ways.
        return visible(super().__str__(), self._keep)


class CommandError(ClipSearchError):
    "A command was given something that can't be used; may name the user's own files"

    # Some are lists.
    _keep = "\n"


class NoEmbeddings(ClipSearchError):
    "The database holds no embeddings"


class QueryError(ClipSearchError):
    "The query, or k, is not one that can be searched for"


class NotAPicture(QueryError):
    "The bytes of a query are no picture that can be decoded; the message is the reason"


class TooBusy(ClipSearchError):
    "Too much is asked of a server at a time; the message says to try again"


class EncoderUnavailable(ClipSearchError):
    "The encoder needed to turn a text or an image into a vector can't be had here"

    # Some have two lines.
    _keep = "\n"


class ModelMismatch(ClipSearchError):
    "Weights were found that are not the ones that made the vectors"


class DatabaseError(ClipSearchError):
    "The tables of the database are not as this release expects them"


class TookTooLong(ClipSearchError):
    "A database takes longer to read than a server has time for it"


class PictureError(ClipSearchError):
    "A file could not be read as a picture"


class PictureTooLarge(PictureError):
    "A picture has more pixels than the limit allows"


class PictureUnreadable(PictureError):
    "A file could not be read at all"


class NotEnoughMemory(PictureError):
    "A picture takes more memory to decode than there is now"
