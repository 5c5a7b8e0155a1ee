"""The function `embed`, for programs and notebooks."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, get_args

from ..common.config import CONFIG
from ..common.errors import CommandError
from ..database.index import IndexChoice
from .arguments import (
    check_choice,
    database_of,
    globs_of,
    number,
    optional_text,
    path_of,
    paths_of,
    text_of,
    whole_number,
)
from .options import EmbedOptions
from .report import EmbedProgress, EmbedReport
from .run import embed_images

StrPath = str | os.PathLike[str]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
TowerPrecision = Literal["auto", "8-bit", "16-bit", "32-bit", "none"]
IndexKind = Literal["auto", "flat", "ivf-sq8", "ivf-sq4", "ivf-rabitq2", "ivf-rabitq"]
ProgressCallback = Callable[[str, int, int], object]


def embed(
    database: StrPath,
    pictures: StrPath | Iterable[StrPath] = (),
    *,
    sql: str | None = None,
    exclude: str | Iterable[str] = (),
    table: str | None = None,
    model: str | None = None,
    pretrained: StrPath | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | None = None,
    max_megapixels: float = CONFIG.max_megapixels,
    text_tower: TowerPrecision = "auto",
    with_image_search: bool = False,
    image_tower: TowerPrecision | None = None,
    thumbnails: bool = True,
    index: IndexKind | None = None,
    memory: int | None = None,
    rehash: bool = False,
    retry_failed: bool = False,
    prune: bool = False,
    progress: ProgressCallback | None = None,
) -> EmbedReport:
    """Embed pictures into a database, as the command embed-images does, and return a report.

    `pictures` are folders, files, globs, and tar and zip archives; `~` is the home folder. The
    other arguments are the command's options of the same names, except `thumbnails=False`, which is
    --no-thumbnails, and `memory`, which is in bytes.

    It prints nothing except the progress of a download. `progress` is called with a stage such as
    "Embedding", how much of it is done, and the total; both numbers are 0 if they are not known.
    `progress=print` shows them. Ctrl-C ends the run between two batches: what has been embedded is
    kept, and the report's `interrupted` is true.

    Raises ClipSearchError, before anything is written, for pictures, options, models and databases
    that can't be used. A picture that can't be embedded is not an error: the report's `failed` has
    its path and the reason.
    """
    path = database_of("database", database)
    arguments = paths_of("pictures", pictures)
    if not arguments and sql is None:
        raise CommandError("There are no pictures to embed. Give folders, files, archives, or sql")
    if "-" in arguments:
        raise CommandError("embed() reads no list from standard input. Give the paths themselves")
    check_choice("precision", precision, get_args(Precision))
    check_choice("text_tower", text_tower, get_args(TowerPrecision))
    check_choice("image_tower", image_tower, (None, *get_args(TowerPrecision)))
    check_choice("index", index, (None, *get_args(IndexKind)))
    if progress is not None and not callable(progress):
        raise CommandError(f"progress is {progress!r:.80}. Expected a function, such as print")
    index_memory = whole_number("memory", memory)
    if with_image_search and image_tower == "none":
        raise CommandError("with_image_search keeps the tower that image_tower='none' deletes")
    options = EmbedOptions(
        table=optional_text("table", table),
        model=optional_text("model", model),
        pretrained=None if pretrained is None else path_of("pretrained", pretrained),
        device=text_of("device", device),
        precision=precision,
        batch_size=whole_number("batch_size", batch_size),
        max_megapixels=number("max_megapixels", max_megapixels),
        sql=optional_text("sql", sql),
        exclude=globs_of("exclude", exclude),
        rehash=rehash,
        retry_failed=retry_failed,
        prune=prune,
        thumbnails=thumbnails,
        index_choice=None
        if index is None and index_memory is None
        else IndexChoice(index or "auto", index_memory),
        text_tower=text_tower,
        image_tower=image_tower or ("auto" if with_image_search else None),
    )
    shown = EmbedProgress() if progress is None else _CalledProgress(progress)
    return embed_images(Path(path), arguments, options, shown)


class _CalledProgress(EmbedProgress):
    """Pass the stages of a run on to a function."""

    def __init__(self, call: ProgressCallback):
        self._call = call
        self._done = self._pictures = 0

    def looking(self) -> None:
        self._call("Looking for pictures", 0, 0)

    def loading(self, model: str) -> None:
        self._call(f"Loading {model}", 0, 0)

    def start(self, pictures: int) -> None:
        self._done, self._pictures = 0, pictures
        self.advance(0)

    def advance(self, pictures: int) -> None:
        self._done += pictures
        self._call("Embedding", self._done, self._pictures)

    def making_tower(self, tower: str) -> None:
        self._call(f"Making the {tower} tower", 0, 0)

    def finishing(self) -> None:
        self._call("Stopping after the current batch", 0, 0)

    def indexing(self, what: str, done: int, of: int) -> None:
        self._call(what, done, of)
