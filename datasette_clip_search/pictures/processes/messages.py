"""What goes between a run and the processes that decode for it.

What decodes imports numpy for the few pictures that need it, not here: that takes as long as all
the rest of starting.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...common.errors import NotEnoughMemory, PictureError, PictureTooLarge, PictureUnreadable
from ..exif import Facts
from ..preprocess import ModelInput, Preprocess

if TYPE_CHECKING:
    from ...common.arrays import Pixels


# A decoder sends this while the files that it was given arrive slowly.
ARRIVING = "arriving"


@dataclass(frozen=True)
class Settings:
    """How to decode.

    Without `preprocess` there are no pixels for a model, without `thumbnails` no thumbnails.
    `max_megapixels`, `max_decoded_megapixels` and `formats` are those of pictures.decode; without
    `seconds`, `CONFIG.decode_seconds` are the limit.
    """

    preprocess: Preprocess | None
    max_megapixels: float
    thumbnails: bool
    max_decoded_megapixels: float | None = None
    formats: tuple[str, ...] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Job:
    """One file: its name, and its bytes or the path to read them from."""

    settings: Settings
    name: str
    path: str | None
    data: bytes | None


@dataclass(frozen=True)
class Decoded:
    """A picture, ready for the model and for the database.

    `width` and `height` are the upright picture's own, in pixels; `thumbnail` is a picture file,
    and empty where none is wanted; `model_input` is what the model sees.
    """

    content_hash: str
    width: int
    height: int
    format: str
    facts: Facts
    thumbnail: bytes
    model_input: ModelInput | None

    @property
    def pixels(self) -> "Pixels | None":
        """What the model sees, (height, width, 3) uint8."""
        return None if self.model_input is None else self.model_input.pixels


@dataclass(frozen=True)
class Unneeded:
    """A file that was read, but whose content need not be decoded."""

    content_hash: str


@dataclass(frozen=True)
class DecodeFailure:
    """Why a file is no picture, and whether to try it again though it hasn't changed.

    Of an `unread` one it isn't known what it holds now. One that is `too_large` or `too_slow` may
    be a picture, but is over the limit of the settings.
    """

    reason: str
    again: bool = False
    unread: bool = False
    too_large: bool = False
    too_slow: bool = False

    @classmethod
    def of(cls, error: PictureError) -> "DecodeFailure":
        """What another limit, permission or installation would mend is tried again."""
        if isinstance(error, PictureTooLarge):
            return cls(str(error), again=True, too_large=True)
        if isinstance(error, NotEnoughMemory):
            return cls(str(error), again=True)
        unread = isinstance(error, PictureUnreadable)
        return cls(str(error), again=unread, unread=unread)

    @property
    def advice(self) -> str:
        """The reason, for who runs embed-images."""
        return f"{self.reason}. Raise it with --max-megapixels" if self.too_large else self.reason


Outcome = Decoded | Unneeded | DecodeFailure
