"""Keep a text or image tower of a run's model in the database, unless a working one is there."""

import importlib.util
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from ....common.arrays import Pixels, Vectors
from ....common.errors import ClipSearchError, EncoderUnavailable
from ....common.stopping import Stopped
from ....database.connection import fetch, transaction
from ....database.model import Model
from ....database.schema import EMBEDDINGS
from ....database.vectors import count_vectors, decode_vectors, has_length
from ....pictures.preprocess import Preprocess
from ...torch_model import TorchModel
from ..figures import TowerFigures, tower_figures
from ..stored import (
    IMAGE,
    TEXT,
    NoTower,
    TowerUnusable,
    delete_tower,
    pack_tower,
    parse_manifest,
    read_manifest,
    read_tower,
    write_tower,
)
from .checks import AUTO, NONE, CheckedTower, Rejection

# The packages that making a tower takes, besides those that are always installed.
_NEEDED = {
    TEXT: ("torch", "open_clip", "onnx"),
    IMAGE: ("torch", "open_clip", "onnx", "onnxscript"),
}

# Pictures to check an image tower with; torch embeds them once more, in float32.
_PIXELS = 32
# The most vectors of the collection in which a tower's answers are compared with torch's.
_VECTORS = 5_000


@dataclass(frozen=True)
class TowerReport:
    """The result of `TowerKeeper.keep`.

    `figures` are those of the tower that the database holds now, None where queries need torch.
    `seconds` is the time that making it took, None where it was there before, and `rejections`
    are the precisions that did not pass then. Where the `wanted` tower was not made, `missing` are
    the packages that it takes, or else `problem` says why.
    """

    kind: str
    wanted: str | None
    figures: TowerFigures | None = None
    seconds: float | None = None
    rejections: tuple[Rejection, ...] = ()
    missing: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class TowerKeeper:
    """Makes and stores the towers of one model in a database.

    `load` returns the model in float32 on the CPU, and `sample` decodes some pictures of the run.
    `making` is called, with the kind of tower, before one is made.
    """

    connection: sqlite3.Connection
    model: Model
    load: Callable[[], TorchModel]
    sample: Callable[[Preprocess, int], Pixels]
    making: Callable[[str], None]
    is_stopped: Callable[[], bool]

    def keep(self, kind: str, wanted: str | None) -> TowerReport | None:
        """Make a model's text or image tower unless the database holds a working one, and store it.

        `wanted` is a precision, "auto", "none", which deletes the tower, or None, which leaves it
        as it is. Return None when stopped, and where there is no tower and none is wanted. A tower
        that can't be made is not an error: queries then use torch.
        """
        if wanted == NONE:
            with transaction(self.connection):
                delete_tower(self.connection, self.model, kind)
            return TowerReport(kind, wanted)
        figures, unusable = self._stored(kind, is_whole=wanted is not None)
        if wanted is None:
            if figures is None and unusable is None:
                return None
            return TowerReport(kind, wanted, figures, problem=str(unusable or ""))
        if figures and wanted in (AUTO, figures.precision):
            return TowerReport(kind, wanted, figures)
        if isinstance(unusable, NoTower) and wanted == AUTO and unusable.release == _release():
            # Another release, or another precision, may succeed.
            return TowerReport(kind, wanted, problem=unusable.reason)
        missing = tuple(name for name in _NEEDED[kind] if importlib.util.find_spec(name) is None)
        if missing:
            return TowerReport(kind, wanted, figures, missing=missing)
        try:
            return self._make(kind, wanted, is_first=figures is None)
        except Stopped:
            return None
        except (ClipSearchError, OSError) as error:
            return TowerReport(kind, wanted, figures, problem=str(error))

    def _stored(
        self, kind: str, is_whole: bool
    ) -> tuple[TowerFigures | None, TowerUnusable | None]:
        """Return the figures of the tower in the database, or why it can't be used.

        With `is_whole`, read all of it, which may be hundreds of megabytes.
        """
        manifest = read_manifest(self.connection, self.model, kind)
        if manifest is None:
            return None, None
        try:
            figures = tower_figures(parse_manifest(manifest, self.model, kind), kind)
            if is_whole:
                read_tower(self.connection, self.model, manifest, kind)
        except TowerUnusable as error:
            return None, error
        return figures, None

    def _make(self, kind: str, wanted: str, is_first: bool) -> TowerReport | None:
        """Make a tower and store it, or store why none can be made where it would be the first.

        Raises Stopped, and ClipSearchError or OSError where none can be made.
        """
        started = time.monotonic()
        self.making(kind)
        model = self.load()
        if model.fingerprint != self.model.fingerprint:
            raise EncoderUnavailable("The model's weights have changed")
        try:
            made = self._checked(kind, wanted, model)
        except EncoderUnavailable as refused:
            if is_first and kind == TEXT:
                # So that the next run does not try in vain.
                facts = {"refused": str(refused), "release": _release()}
                write_tower(self.connection, self.model, pack_tower(facts, {})[0], {})
            raise
        write_tower(self.connection, self.model, made.manifest, made.stored.sections, kind)
        figures = tower_figures(made.stored.facts, kind)
        seconds = time.monotonic() - started
        return TowerReport(kind, wanted, figures, seconds, made.rejections)

    def _checked(self, kind: str, wanted: str, model: TorchModel) -> CheckedTower:
        """Make a tower that passes its checks.

        Raises EncoderUnavailable where none does, and Stopped.
        """
        pictures = self._sample_vectors()
        is_image = kind == IMAGE
        pixels = self.sample(model.preprocess, _PIXELS) if is_image else None
        try:
            if pixels is None:
                from .make_text import make_text_tower

                return make_text_tower(model, pictures, wanted, self.is_stopped)
            from .make_image import make_image_tower

            return make_image_tower(model, pixels, pictures, wanted, self.is_stopped)
        except (EncoderUnavailable, Stopped):
            raise
        except Exception as error:
            # torch, onnx and ONNX Runtime have an exception each.
            reason = (str(error).strip().splitlines() or [""])[0]
            raise EncoderUnavailable(f"{type(error).__name__}: {reason}") from error

    def _sample_vectors(self) -> Vectors:
        """Return vectors (n, d), float32, from all over the collection."""
        step = max(1, count_vectors(self.connection, self.model) // _VECTORS)
        sql = f"""select embedding from main.{EMBEDDINGS} where model_id = ? and image_id % ? = 0
            order by image_id limit ?"""
        rows = fetch(self.connection, sql, self.model.id, step, _VECTORS)
        blobs = [blob for (blob,) in rows if has_length(blob, self.model.dimension)]
        return decode_vectors(blobs, self.model.dimension)


def _release() -> str:
    return version("datasette-clip-search")
