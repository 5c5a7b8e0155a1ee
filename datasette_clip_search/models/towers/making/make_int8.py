"""Make an int8 image tower, check it with the user's pictures, and keep it."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ....common.arrays import Pixels, Vectors
from ....common.config import CONFIG
from ....common.errors import CommandError
from ....database.model import Model
from ...encoding import normalized
from ...precision import encode_on_all_cores, time_encoding, use_faster_products
from ...torch_model import TorchModel
from ..int8 import Int8Tower, calibration_facts
from ..int8_ranges import Ranges
from ..int8_session import features_of_noise
from ..stored import INT8, StoredTower, pack_tower, read_manifest, write_tower
from .checks import AGREEMENT, neighbour_agreement
from .quantize import build_int8

# Pictures of a run that int8 is calibrated and checked with, and the fewest that will do.
INT8_SAMPLE = 144
_SAMPLE_AT_LEAST = 30


@dataclass(frozen=True)
class MadeInt8:
    """An int8 tower that was made in this run, with the ranges that it was calibrated to."""

    tower: Int8Tower
    ranges: Ranges
    manifest: str
    stored: StoredTower


def make_int8_tower(
    model: TorchModel, ranges: Ranges | None, sample: Pixels | None
) -> tuple[MadeInt8, list[str]]:
    """Make a model's int8 tower: with the `ranges` of an earlier calibration, or with a sample.

    A third of the sample calibrates it. The rest checks that it finds the same nearest pictures as
    float32. Also return notes for the user.

    Raises CommandError where it doesn't, and EncoderUnavailable where ONNX Runtime is missing.
    """
    model.use("cpu", "fp32")
    if ranges is not None:
        return _build(model, ranges), []
    count = 0 if sample is None else len(sample)
    if sample is None or count < _SAMPLE_AT_LEAST:
        raise CommandError(
            f"--precision int8 is calibrated and checked with pictures, at least "
            f"{_SAMPLE_AT_LEAST} of them, and there are {count} to embed. "
            "Use --precision auto"
        )
    is_calibrating = np.arange(count) % 3 == 0
    checked = sample[~is_calibrating]
    few = sample[: CONFIG.precision_sample]
    use_faster_products(model, few, *time_encoding(model, few))
    exact = encode_on_all_cores(model, checked)
    batches = (
        normalized(model.preprocess, picture[np.newaxis]) for picture in sample[is_calibrating]
    )
    made = _build(model, batches)
    agreement = neighbour_agreement(exact, encode_on_all_cores(made.tower, checked))
    if agreement < AGREEMENT:
        raise CommandError(
            f"{model.checkpoint.label} in int8 finds {agreement:.1%} of the pictures that it "
            f"finds in float32, in a sample of {len(checked)} of yours; expected at least "
            f"{AGREEMENT:.0%}. Use --precision auto, which changes nothing"
        )
    note = (
        f"int8 finds {agreement:.1%} of the same ten nearest pictures as fp32, in a sample of "
        f"{len(checked)} of yours"
    )
    return made, [note]


def _build(model: TorchModel, sample: Iterable[Vectors] | Ranges) -> MadeInt8:
    size = model.preprocess.height, model.preprocess.width
    onnx, ranges = build_int8(model.model, size, sample)
    facts = {
        "precision": "int8",
        "fingerprint": model.fingerprint,
        "dimension": model.dimension,
        "preprocess": model.preprocess.identity,
        **calibration_facts(ranges),
    }
    of_noise = features_of_noise(onnx).astype("<f4").tobytes()
    manifest, stored = pack_tower(facts, {"onnx": onnx, "of_noise": of_noise})
    return MadeInt8(Int8Tower(stored), ranges, manifest, stored)


def keep_int8_tower(connection: sqlite3.Connection, model: Model, made: MadeInt8) -> None:
    """Write a model's int8 tower into the database, unless it is there or too large."""
    if read_manifest(connection, model, INT8) == made.manifest:
        return
    if sum(map(len, made.stored.sections.values())) <= CONFIG.max_tower_bytes:
        write_tower(connection, model, made.manifest, made.stored.sections, INT8)
