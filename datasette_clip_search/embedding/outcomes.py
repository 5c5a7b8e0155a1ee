"""What can become of a picture, and what the database knows of one."""

from dataclasses import dataclass

from ..common.arrays import Vectors
from ..pictures.processes.pool import Decoded
from ..pictures.sources import Source


@dataclass(frozen=True)
class Embedded:
    """A picture that was embedded: its unit vector (d,) float32, and in what number format."""

    source: Source
    decoded: Decoded
    vector: Vectors
    precision: str


@dataclass(frozen=True)
class Same:
    """A picture whose content is embedded already.

    `image_id` is the picture with that content, or None where that is another one of this run;
    `is_itself` tells that it is this very picture, whose file was only touched.
    """

    source: Source
    content_hash: str
    image_id: int | None
    is_itself: bool = False


@dataclass(frozen=True)
class Moved:
    """A picture whose file was called otherwise when it was embedded, as the picture `image_id`."""

    source: Source
    content_hash: str
    image_id: int


@dataclass(frozen=True)
class Failed:
    """A picture that could not be embedded, why, and whether to try it again though unchanged.

    Of an `unread` one it isn't known whether it has changed, so what is stored of it stays.
    """

    source: Source
    reason: str
    again: bool = False
    unread: bool = False


Result = Embedded | Same | Moved | Failed


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """What the database knows of a stored path."""

    image_id: int
    size: int
    mtime: float
    content_hash: str
    embedded: bool
    key: object = None
    key_table: str | None = None
