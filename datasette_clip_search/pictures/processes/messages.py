"""The messages between a program and its decoding processes.

This module must not import numpy, which takes as long as the rest of a process's start. Decoding
imports it for the few pictures that need it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...common.errors import NotEnoughMemory, PictureError, PictureTooLarge, PictureUnreadable
from ..exif import Facts
from ..preprocess import ModelInput, Preprocess

if TYPE_CHECKING:
    from ...common.arrays import Pixels


# A decoding process sends this while the files that it reads arrive slowly.
ARRIVING = "arriving"


@dataclass(frozen=True)
class Settings:
    """How to decode pictures.

    Without `preprocess`, there are no pixels for a model; without `thumbnails`, no thumbnails.
    `max_megapixels`, `max_decoded_megapixels` and `formats` are those of decode_picture().
    `seconds` is the time limit for one picture, or None for `CONFIG.decode_seconds`.
    """

    preprocess: Preprocess | None
    max_megapixels: float
    thumbnails: bool
    max_decoded_megapixels: float | None = None
    formats: tuple[str, ...] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Job:
    """One file to decode: its name, and its bytes or the path to read them from."""

    settings: Settings
    name: str
    path: str | None
    data: bytes | None


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, ready for the model and for the database.

    `width` and `height` are the full size of the upright picture, in pixels. `thumbnail` is a
    picture file, empty if none was wanted.
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
        """The model's input, an array (height, width, 3) uint8."""
        return None if self.model_input is None else self.model_input.pixels


@dataclass(frozen=True)
class Unneeded:
    """A file that was read, and whose content need not be decoded."""

    content_hash: str


@dataclass(frozen=True)
class DecodeFailure:
    """Why a file could not be decoded.

    `again` says whether to try it again even if it hasn't changed. The current content of an
    `unread` file is unknown. A file that is `too_large` or `too_slow` may be a picture, but is over
    a limit of the settings.
    """

    reason: str
    again: bool = False
    unread: bool = False
    too_large: bool = False
    too_slow: bool = False

    @classmethod
    def of(cls, error: PictureError) -> "DecodeFailure":
        """Return the failure for an error: `again` if a limit, memory or access was the cause."""
        if isinstance(error, PictureTooLarge):
            return cls(str(error), again=True, too_large=True)
        if isinstance(error, NotEnoughMemory):
            return cls(str(error), again=True)
        unread = isinstance(error, PictureUnreadable)
        return cls(str(error), again=unread, unread=unread)

    @property
    def advice(self) -> str:
        """The reason, and the advice for users of embed-images."""
        return (
            f"{self.reason}. Raise the limit with --max-megapixels"
            if self.too_large
            else self.reason
        )


Outcome = Decoded | Unneeded | DecodeFailure
