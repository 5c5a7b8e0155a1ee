"""The outcomes of a picture in a run, and the facts about it in the database."""

from dataclasses import dataclass

from ..common.arrays import Vectors
from ..pictures.processes.pool import Decoded
from ..pictures.sources import Source


@dataclass(frozen=True)
class Embedded:
    """An embedded picture: its unit vector (d,) float32, and the number format that made it."""

    source: Source
    decoded: Decoded
    vector: Vectors
    precision: str


@dataclass(frozen=True)
class Same:
    """A picture whose content is already embedded.

    `image_id` is the picture with that content, or None if that is another one of this run.
    `is_itself` says that it is the same picture, and only the time of its file has changed.
    """

    source: Source
    content_hash: str
    image_id: int | None
    is_itself: bool = False


@dataclass(frozen=True)
class Moved:
    """A picture whose file had another path when it was embedded as the picture `image_id`."""

    source: Source
    content_hash: str
    image_id: int


@dataclass(frozen=True)
class Failed:
    """A picture that could not be embedded, and the reason.

    With `again`, the next run tries it again even if it has not changed. An `unread` file may be
    unchanged, so its row stays.
    """

    source: Source
    reason: str
    again: bool = False
    unread: bool = False


Result = Embedded | Same | Moved | Failed


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """A row of the pictures' table; `embedded` says whether the run's model has its vector."""

    image_id: int
    size: int
    mtime: float
    content_hash: str
    embedded: bool
    key: object = None
    key_table: str | None = None
