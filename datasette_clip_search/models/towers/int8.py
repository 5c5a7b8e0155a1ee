"""An int8 model at work, and as a database keeps it: later runs embed with it, without torch."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...common.arrays import Pixels, Vectors
from ...common.config import CONFIG
from ...database.schema import Model
from ...pictures.preprocess import Preprocess
from ..int8.quantize import VERSION, Int8Tower, Ranges, features_of_noise
from ..torch_model import Encoder, normalized
from .border import broken, unit_vectors
from .image import given
from .stored import (
    INT8,
    Kept,
    TowerUnusable,
    keep,
    parse,
    read_manifest,
    read_tower,
    unfit,
    write_tower,
)


class Int8Encoder:
    """An int8 image tower that embeds as an Encoder does, for any number of threads at once."""

    device = "cpu"
    precision = "int8"
    # None of torch's settings matter.
    matmul = None
    label = "The int8 model"

    def __init__(self, kept: Kept):
        """Loads a tower.

        Raises TowerUnusable for one that does not load.
        """
        facts = kept.facts
        try:
            self.preprocess = Preprocess.from_identity(facts["preprocess"])
            self.dimension = int(facts["dimension"])
            self.fingerprint = str(facts["fingerprint"])
            of_noise = np.frombuffer(kept.sections["of_noise"], "<f4").reshape(-1, self.dimension)
            self._tower = Int8Tower(kept.sections["onnx"], of_noise, given(self.preprocess))
        except Exception as error:
            # ONNX Runtime has an exception each for what is broken.
            raise unfit(INT8, error) from error

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of (n, height, width, 3) uint8."""
        with broken(INT8):
            return unit_vectors(self._tower.encode(normalized(self.preprocess, pixels)))


@dataclass(frozen=True)
class Made:
    """An int8 tower to be kept, with what it was calibrated to."""

    ranges: Ranges
    manifest: str
    kept: Kept


def made(encoder: Encoder, onnx: bytes, ranges: Ranges) -> Made:
    """Takes what was built from an encoder's model by these ranges."""
    about = {
        "precision": "int8",
        "fingerprint": encoder.fingerprint,
        "dimension": encoder.dimension,
        "preprocess": encoder.preprocess.identity,
        **_made_by(ranges),
    }
    of_noise = features_of_noise(onnx).astype("<f4").tobytes()
    return Made(ranges, *keep(about, {"onnx": onnx, "of_noise": of_noise}))


def keep_int8(connection: sqlite3.Connection, model: Model, made: Made) -> None:
    """Has a database keep a model's int8 tower, in place of another one, unless it is too large."""
    is_kept = read_manifest(connection, model, INT8) == made.manifest
    if not is_kept and sum(map(len, made.kept.sections.values())) <= CONFIG.max_tower_bytes:
        write_tower(connection, model, made.manifest, made.kept.sections, INT8)


def find_int8(
    connection: sqlite3.Connection, model: Model, ranges: Ranges | None
) -> Int8Encoder | None:
    """Returns the int8 tower that a database keeps of a model.

    None stands for one that has to be made: there is none, it is damaged, or was made by other
    ranges or another release.
    """
    manifest = read_manifest(connection, model, INT8)
    if manifest is None or ranges is None:
        return None
    try:
        if not _made_by(ranges).items() <= parse(manifest, model, INT8).items():
            return None
        return Int8Encoder(read_tower(connection, model, manifest, INT8))
    except TowerUnusable:
        return None


def _made_by(ranges: Ranges) -> Mapping[str, object]:
    digest = hashlib.sha256(json.dumps(ranges, sort_keys=True).encode()).hexdigest()
    return {"calibration": digest, "version": VERSION}
