"""The options of a run."""

from dataclasses import dataclass

from ..common.config import CONFIG
from ..database.index import IndexChoice
from ..models.towers.making.checks import AUTO


@dataclass(frozen=True)
class EmbedOptions:
    """How to embed; the fields are named as the command's options are."""

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
    # Whether what is absent is kept where a place shows no picture, even if it is named alone.
    is_watch: bool = False
    # Whether it is a later run of --watch, in which what was given may be absent.
    is_again: bool = False
    thumbnails: bool = True
    # The kind of index; None is the kind that the database's index is of.
    index_choice: IndexChoice | None = None
    text_tower: str = AUTO
    # A precision, auto, or none; None leaves the database's own as it is.
    image_tower: str | None = None
