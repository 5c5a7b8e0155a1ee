"""Which model a run uses, and how: chosen at once, loaded when the first picture needs it."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from ..common.arrays import Pixels
from ..common.config import CONFIG
from ..common.cores import cores
from ..common.errors import DatabaseError, EncoderUnavailable
from ..database.model import Model
from ..models.checkpoint import Checkpoint, check_unpickling, compute_fingerprint, resolve
from ..models.device import use_device
from ..models.encoding import PictureEncoder
from ..models.expected_preprocess import expected_preprocess
from ..models.open_clip_library import INSTALL, is_torch_installed, network
from ..models.precision import Choice, use_precision
from ..models.torch_model import TorchModel
from ..models.towers.beside_weights import copy_towers, find_tower
from ..models.towers.image import ImageTower
from ..models.towers.int8 import find_int8_tower
from ..models.towers.making.keep import TowerReport
from ..models.towers.making.make_int8 import INT8_SAMPLE, MadeInt8, keep_int8_tower, make_int8_tower
from ..models.towers.stored import IMAGE, TowerUnusable, read_manifest
from ..models.weights_files import locate_weights
from ..pictures.preprocess import Preprocess
from ..pictures.processes.pool import DecoderPool, Settings
from ..pictures.sources import Source
from ..pictures.sources.source import stored_path
from .decode_ahead import Ahead, stacked
from .plan import Work
from .store import Store


@dataclass
class Loaded:
    """A loaded model, and how it came to be used as it is; for runs that follow each other."""

    encoder: PictureEncoder | None = None
    choice: Choice = field(default_factory=Choice)
    # The int8 tower, if this process has made one.
    int8: MadeInt8 | None = None
    # What became of the towers, once that is known.
    text_tower: TowerReport | None = None
    image_tower: TowerReport | None = None


class Loader:
    """The model of a run over one database."""

    def __init__(self, store: Store, model: str | None, pretrained: str | None, loaded: Loaded):
        """Takes the model asked for, with the weights the database knows it by if none are given.

        Without either it is the database's own default, and for a new database ours.
        """
        self._store = store
        self._loaded = loaded
        recorded = None
        if pretrained is None:
            known = (known for known in store.models if model in (None, known.name))
            recorded = next(known, None)
        # By the database, which may be a stranger's, and not by whoever runs this.
        self._is_recorded = recorded is not None
        if recorded:
            beside = store.folder / recorded.pretrained
            model, pretrained = recorded.name, recorded.pretrained or None
            if pretrained and beside.exists():
                pretrained = str(beside)
        elif model is None and pretrained is None:
            model, pretrained = CONFIG.model, CONFIG.pretrained
        elif pretrained is None and model == CONFIG.model:
            pretrained = CONFIG.pretrained
        # Of weights that were here before anything was fetched.
        self._fingerprint: str | None = None
        self._is_gone = bool(
            recorded and not _is_tag(recorded) and not os.path.exists(pretrained or "")
        )
        if recorded and self._is_gone and read_manifest(store.connection, recorded, IMAGE):
            # What the database brings does without them.
            gone = os.path.normpath(store.folder / recorded.pretrained)
            self.checkpoint = Checkpoint(recorded.name, gone)
            store.model = recorded
            return
        self.checkpoint = resolve(model, pretrained)
        store.model = self._recorded_model()
        if store.model and self.checkpoint.is_local:
            store.note_place(self._stored_pretrained())

    def _recorded_model(self) -> Model | None:
        """Finds the model's row without loading the model, as far as that can be told."""
        if self._store.models and self.checkpoint.weights:
            self._fingerprint = compute_fingerprint(self.checkpoint)
        for model in self._store.models:
            if self._fingerprint:
                if model.fingerprint == self._fingerprint:
                    return model
            elif (model.name, model.pretrained) == (
                self.checkpoint.name,
                self.checkpoint.pretrained,
            ):
                return model
        return None

    @property
    def expected_preprocess(self) -> Preprocess:
        """What the model sees of a picture, as far as that can be told without loading it."""
        if self._loaded.encoder:
            return self._loaded.encoder.preprocess
        if recorded := self._store.model:
            try:
                return Preprocess.from_identity(json.loads(recorded.preprocess))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise DatabaseError(
                    f"What {recorded.label} sees of pictures is damaged in clip_models.preprocess. "
                    "Delete the model's row there, and its pictures are embedded anew"
                ) from error
        return expected_preprocess(self.checkpoint)

    def load(
        self,
        device: str,
        precision: str,
        work: Sequence[Work],
        decoders: DecoderPool,
        settings: Settings,
        ahead: Ahead,
    ) -> Loaded:
        """Loads the model, and chooses device and number format with some pictures of the work.

        Raises ClipSearchError for a model, device or format that can't be used.
        """
        loaded = self._loaded
        if loaded.encoder is None and precision == "int8" and self._store.model:
            ranges = self._store.calibration()
            loaded.encoder = find_int8_tower(self._store.connection, self._store.model, ranges)
        if loaded.encoder is None and (tower := self._find_tower(device, precision)):
            loaded.encoder = tower
            loaded.choice = Choice(notes=[_note(tower, self._is_gone)])
        if loaded.encoder is None:
            self.checkpoint = locate_weights(self.checkpoint, fetch=True)
            if self._is_recorded:
                check_unpickling(self.checkpoint)
            encoder = TorchModel(self.checkpoint, self._fingerprint)
            ahead.use(encoder.preprocess)
            if precision == "int8":
                settings = replace(settings, preprocess=encoder.preprocess, thumbnails=False)
                ranges = self._store.calibration()
                sample = None if ranges else _sample(work, INT8_SAMPLE, decoders, settings)
                loaded.int8, notes = make_int8_tower(encoder, ranges, sample)
                loaded.encoder, loaded.choice = loaded.int8.tower, Choice(notes=notes)
            else:
                note = use_device(encoder, device)
                is_worth_it = len(work) >= CONFIG.precision_from
                is_wanted = is_worth_it and not ahead.is_stopped()
                sample = ahead.sample(CONFIG.precision_sample) if is_wanted else None
                # Without a sample nothing is timed.
                with nullcontext() if sample is None else decoders.paused():
                    loaded.choice = use_precision(encoder, precision, sample)
                loaded.choice.notes[:0] = [note] if note else []
                loaded.encoder = encoder
        if self._store.exists:
            self.use_model()
        return loaded

    def _find_tower(self, device: str, precision: str) -> ImageTower | None:
        """Returns an image tower to embed with, where torch or the weights are not here.

        Raises EncoderUnavailable where there is none that does as asked.
        """
        if not self._is_gone and is_torch_installed():
            return None
        lacks = "torch and open_clip are not installed"
        if self._is_gone:
            lacks = f"The weights of {self.checkpoint.label} are not where they were"
        if device not in ("auto", "cpu") or precision != "auto":
            raise EncoderUnavailable(
                f"{lacks}, and --device {device} --precision {precision} needs them. Leave both "
                f"out, or run: {INSTALL}"
            )
        try:
            tower = find_tower(self._store.connection, self._store.model, self.checkpoint)
        except TowerUnusable as error:
            raise EncoderUnavailable(f"{lacks}. {error}. Or run: {INSTALL}") from error
        if tower is None:
            raise EncoderUnavailable(
                f"{lacks}, and the database brings no image tower of {self.checkpoint.label} to "
                f"embed without them. Run: {INSTALL}"
            )
        return tower

    def copy_towers(self) -> None:
        """Where torch is not here, has the database bring the towers beside the model's weights."""
        if self._store.model and not is_torch_installed():
            copy_towers(self._store.connection, self._store.model, self.checkpoint)

    def sample(self, sources: Sequence[Source], preprocess: Preprocess, count: int) -> Pixels:
        """Decodes so many pictures from all over some, (n, height, width, 3) uint8."""
        work = [(source, None) for source in sources]
        settings = Settings(preprocess, CONFIG.max_megapixels, thumbnails=False)
        with DecoderPool(min(cores(), max(len(work), 1))) as decoders:
            pixels = _sample(work, count, decoders, settings)
        empty = np.empty((0, preprocess.height, preprocess.width, 3), np.uint8)
        return empty if pixels is None else pixels

    def load_exact(self) -> TorchModel:
        """Returns the model in float32 on the CPU: the loaded one where it is that; unfetched.

        Raises ClipSearchError for a model that can't be used.
        """
        encoder = self._loaded.encoder
        if isinstance(encoder, TorchModel) and (encoder.device, encoder.precision) == (
            "cpu",
            "fp32",
        ):
            return encoder
        fingerprint = encoder.fingerprint if encoder else self._fingerprint
        with network(allowed=False):
            return TorchModel(locate_weights(self.checkpoint, fetch=False), fingerprint)

    def use_model(self) -> None:
        """Gives the model its row, and the database its tables if need be."""
        encoder = self._loaded.encoder
        assert encoder is not None
        self._store.use_model(
            self.checkpoint.name,
            self._stored_pretrained(),
            encoder.dimension,
            encoder.fingerprint,
            json.dumps(encoder.preprocess.identity, sort_keys=True),
        )
        if (made := self._loaded.int8) and self._store.model:
            self._store.note_calibration(made.ranges)
            keep_int8_tower(self._store.connection, self._store.model, made)

    def _stored_pretrained(self) -> str:
        pretrained = self.checkpoint.pretrained
        if not self.checkpoint.is_local:
            return pretrained
        stored = stored_path(pretrained, str(self._store.folder))
        # Never to be taken for a tag.
        return stored if os.path.isabs(stored) else f"./{stored}"


def _is_tag(model: Model) -> bool:
    return not model.pretrained or re.fullmatch(r"[^/\\]+", model.pretrained) is not None


def _note(tower: ImageTower, is_gone: bool) -> str:
    why = "The model's weights are not where they were" if is_gone else "torch is not installed"
    return f"{why}, so that the kept image tower embeds, in {tower.precision}"


def _sample(
    work: Sequence[Work], count: int, decoders: DecoderPool, settings: Settings
) -> Pixels | None:
    """Decodes pictures from all over the work; None where there are none."""
    step = max(1, len(work) // count)
    chosen = [source for source, _ in work[::step] if not source.in_order][:count]
    outcomes = [decoders.submit(source, None, settings) for source in chosen]
    return stacked([future.result() for future in outcomes])
