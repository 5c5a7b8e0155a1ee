"""The options of a run of embed-images."""

from dataclasses import dataclass

from ..common.config import CONFIG
from ..database.index import IndexChoice
from ..models.towers.making.checks import AUTO


@dataclass(frozen=True)
class EmbedOptions:
    """How to embed. The fields have the names of the command's options."""

    table: str | None = None
    model: str | None = None
    pretrained: str | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    max_megapixels: float = CONFIG.max_megapixels
    sql: str | None = None
    exclude: tuple[str, ...] = ()
    rehash: bool = False
    retry_failed: bool = False
    prune: bool = False
    # With --watch, a place without pictures keeps its rows, even if it is the only one named.
    is_watch: bool = False
    # In a later run of --watch, the given folders may be absent.
    is_again: bool = False
    thumbnails: bool = True
    # The kind of index; None keeps the kind that the database has.
    index_choice: IndexChoice | None = None
    text_tower: str = AUTO
    # A precision, auto, or none; None leaves the database's tower as it is.
    image_tower: str | None = None
