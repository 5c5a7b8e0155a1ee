"""Load the model of a run when its first picture needs it. Nothing here writes."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from ..common.arrays import Pixels
from ..common.config import CONFIG
from ..common.cores import cores
from ..common.errors import DatabaseError, EncoderUnavailable
from ..models.checkpoint import check_unpickling
from ..models.device import use_device
from ..models.encoding import PictureEncoder
from ..models.expected_preprocess import expected_preprocess
from ..models.open_clip_library import INSTALL, is_torch_installed, network
from ..models.precision import Choice, use_precision
from ..models.torch_model import TorchModel
from ..models.towers.beside_weights import find_tower
from ..models.towers.image import ImageTower
from ..models.towers.int8 import find_int8_tower
from ..models.towers.int8_ranges import Ranges
from ..models.towers.making.keep import TowerReport
from ..models.towers.making.make_int8 import INT8_SAMPLE, MadeInt8, make_int8_tower
from ..models.towers.stored import TowerUnusable
from ..models.weights_files import locate_weights
from ..pictures.preprocess import Preprocess
from ..pictures.processes.pool import DecoderPool, Settings
from ..pictures.sources import Source
from .decode_ahead import Ahead, stacked
from .plan import Work
from .run_model import RunModel


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model, and the choice of its number format.

    `int8` is the int8 tower, if this process made it.
    """

    encoder: PictureEncoder
    choice: Choice = field(default_factory=Choice)
    int8: MadeInt8 | None = None


@dataclass
class RunCache:
    """What consecutive runs share: the loaded model, and the reports of its towers."""

    model: LoadedModel | None = None
    text_tower: TowerReport | None = None
    image_tower: TowerReport | None = None


class Loader:
    """Loads the model of a run over one database."""

    def __init__(
        self, connection: sqlite3.Connection, model: RunModel, loaded: LoadedModel | None = None
    ):
        """`loaded` is the model where a run before this one has loaded it."""
        self._connection = connection
        self._model = model
        self._loaded = loaded

    @property
    def expected_preprocess(self) -> Preprocess:
        """What the model sees of a picture, as far as that is known before it is loaded."""
        if self._loaded:
            return self._loaded.encoder.preprocess
        if recorded := self._model.recorded:
            try:
                return Preprocess.from_identity(json.loads(recorded.preprocess))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise DatabaseError(
                    f"The preprocessing of {recorded.label} is damaged in clip_models.preprocess. "
                    "Delete the model's row, and run the command again"
                ) from error
        return expected_preprocess(self._model.checkpoint)

    def load(
        self,
        device: str,
        precision: str,
        ranges: Ranges | None,
        work: Sequence[Work],
        decoders: DecoderPool,
        settings: Settings,
        ahead: Ahead,
    ) -> LoadedModel:
        """Return the loaded model; choose device and number format with pictures of the work.

        `ranges` are those that the model was calibrated for int8 with.

        Raises ClipSearchError for a model, device or format that can't be used.
        """
        if self._loaded is None:
            self._loaded = self._find_int8(precision, ranges) or self._find_tower(device, precision)
        if self._loaded is None:
            checkpoint = locate_weights(self._model.checkpoint, fetch=True)
            if self._model.is_from_database:
                check_unpickling(checkpoint)
            model = TorchModel(checkpoint, self._model.fingerprint)
            ahead.use(model.preprocess)
            if precision == "int8":
                settings = replace(settings, preprocess=model.preprocess, thumbnails=False)
                self._loaded = _make_int8(model, ranges, work, decoders, settings)
            else:
                self._loaded = _tune(model, device, precision, work, decoders, ahead)
        return self._loaded

    def load_exact(self) -> TorchModel:
        """Return the model in float32 on the CPU, the loaded one if it is that; fetch nothing.

        Raises ClipSearchError for a model that can't be used.
        """
        encoder = self._loaded.encoder if self._loaded else None
        if isinstance(encoder, TorchModel) and (encoder.device, encoder.precision) == (
            "cpu",
            "fp32",
        ):
            return encoder
        fingerprint = encoder.fingerprint if encoder else self._model.fingerprint
        with network(allowed=False):
            return TorchModel(locate_weights(self._model.checkpoint, fetch=False), fingerprint)

    def _find_int8(self, precision: str, ranges: Ranges | None) -> LoadedModel | None:
        if precision != "int8" or self._model.recorded is None:
            return None
        tower = find_int8_tower(self._connection, self._model.recorded, ranges)
        return LoadedModel(tower) if tower else None

    def _find_tower(self, device: str, precision: str) -> LoadedModel | None:
        """Return an image tower to embed with, where torch or the weights are missing.

        Raises EncoderUnavailable if there is none, or none for this device and precision.
        """
        is_gone, checkpoint = self._model.is_gone, self._model.checkpoint
        if not is_gone and is_torch_installed():
            return None
        lacks = "torch and open_clip are not installed"
        if is_gone:
            lacks = f"The weights of {checkpoint.label} are not where they were"
        if device not in ("auto", "cpu") or precision != "auto":
            raise EncoderUnavailable(
                f"{lacks}, and --device {device} --precision {precision} needs them. Leave both "
                f"out, or run: {INSTALL}"
            )
        try:
            tower = find_tower(self._connection, self._model.recorded, checkpoint)
        except TowerUnusable as error:
            raise EncoderUnavailable(f"{lacks}. {error}. Or run: {INSTALL}") from error
        if tower is None:
            raise EncoderUnavailable(
                f"{lacks}, and this database stores no image tower of {checkpoint.label}. "
                f"Run: {INSTALL}"
            )
        return LoadedModel(tower, Choice(notes=[_tower_note(tower, is_gone)]))


def sample_pixels(sources: Sequence[Source], preprocess: Preprocess, count: int) -> Pixels:
    """Decode at most `count` pictures from all over the sources, (n, height, width, 3) uint8."""
    work = [(source, None) for source in sources]
    settings = Settings(preprocess, CONFIG.max_megapixels, thumbnails=False)
    with DecoderPool(min(cores(), max(len(work), 1))) as decoders:
        pixels = _sample(work, count, decoders, settings)
    empty = np.empty((0, preprocess.height, preprocess.width, 3), np.uint8)
    return empty if pixels is None else pixels


def _make_int8(
    model: TorchModel,
    ranges: Ranges | None,
    work: Sequence[Work],
    decoders: DecoderPool,
    settings: Settings,
) -> LoadedModel:
    sample = None if ranges else _sample(work, INT8_SAMPLE, decoders, settings)
    made, notes = make_int8_tower(model, ranges, sample)
    return LoadedModel(made.tower, Choice(notes=notes), made)


def _tune(
    model: TorchModel,
    device: str,
    precision: str,
    work: Sequence[Work],
    decoders: DecoderPool,
    ahead: Ahead,
) -> LoadedModel:
    note = use_device(model, device)
    is_worth_it = len(work) >= CONFIG.precision_from and not ahead.is_stopped()
    sample = ahead.sample(CONFIG.precision_sample) if is_worth_it else None
    # Without a sample nothing is timed.
    with nullcontext() if sample is None else decoders.paused():
        choice = use_precision(model, precision, sample)
    choice.notes[:0] = [note] if note else []
    return LoadedModel(model, choice)


def _tower_note(tower: ImageTower, is_gone: bool) -> str:
    why = "The model's weights are not where they were" if is_gone else "torch is not installed"
    return f"{why}, so the pictures were embedded with the stored image tower ({tower.precision})"


def _sample(
    work: Sequence[Work], count: int, decoders: DecoderPool, settings: Settings
) -> Pixels | None:
    """Decode pictures from all over the work; None where none can be decoded."""
    step = max(1, len(work) // count)
    chosen = [source for source, _ in work[::step] if not source.in_order][:count]
    outcomes = [decoders.submit(source, None, settings) for source in chosen]
    return stacked([future.result() for future in outcomes])
