"""The image tower of a run's model: kept in the database where that is asked for."""

import importlib.util
import sqlite3
import time
from collections.abc import Callable

from ...common.arrays import Pixels
from ...common.errors import ClipSearchError
from ...database.connection import transaction
from ...database.model import Model
from ...pictures.preprocess import Preprocess
from ..checkpoint import INSTALL
from ..torch_model import Encoder
from .keep_text import AUTO, NONE, keep_made, sample_of, shown
from .stored import IMAGE, TowerUnusable, delete_tower, parse, read_manifest, read_tower

# Pictures that an image tower is checked with; torch embeds them once more, in float32.
_SAMPLE = 32
NEEDED = ("torch", "open_clip", "onnx", "onnxscript")


def keep_image_tower(
    connection: sqlite3.Connection,
    model: Model,
    wanted: str | None,
    load: Callable[[], Encoder],
    sample: Callable[[Preprocess, int], Pixels],
    making: Callable[[], None],
    is_stopped: Callable[[], bool],
) -> str:
    """Makes the image tower of a model unless the database holds a sound one, and keeps it.

    `wanted` is a precision, "auto", "none", which deletes it, or None, which leaves it as it is.
    `load` gives the model in float32 on the CPU, `sample` so many of the run's pictures, `making`
    is told before. Returns what to tell about queries by pictures; nothing when stopped, or where
    there is no tower and none is wanted. What can't be made is no error.
    """
    if wanted == NONE:
        with transaction(connection):
            delete_tower(connection, model, IMAGE)
        return "need torch (--image-tower none)"
    kept, precision = _kept(connection, model, is_whole=wanted is not None)
    if wanted is None or (precision and wanted in (AUTO, precision)):
        return kept
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    instead = f"{kept}; no {wanted} one is made" if precision else "need torch; no tower is made"
    if missing:
        return f"{instead}, which takes {' and '.join(missing)}. Run: {INSTALL}"
    started = time.monotonic()
    making()
    try:
        encoder = load()
        if encoder.fingerprint != model.fingerprint:
            return f"{instead}: the model's weights have changed"
        return _make(connection, model, wanted, encoder, sample, is_stopped, started)
    except (ClipSearchError, OSError) as error:
        return f"{instead}: {error}"


def _kept(connection: sqlite3.Connection, model: Model, is_whole: bool) -> tuple[str, str]:
    """Returns what to tell about what is there, and its precision if it is sound.

    Only with `is_whole` all of it is read, which may be hundreds of megabytes.
    """
    manifest = read_manifest(connection, model, IMAGE)
    if manifest is None:
        return "", ""
    try:
        facts = parse(manifest, model, IMAGE)
        if is_whole:
            read_tower(connection, model, manifest, IMAGE)
        return f"{shown(facts, IMAGE)}  (up to date)", facts["precision"]
    except TowerUnusable as error:
        return str(error), ""


def _make(
    connection: sqlite3.Connection,
    model: Model,
    wanted: str,
    encoder: Encoder,
    sample: Callable[[Preprocess, int], Pixels],
    is_stopped: Callable[[], bool],
    started: float,
) -> str:
    from .making.make_image import make

    pixels = sample(encoder.preprocess, _SAMPLE)
    pictures = sample_of(connection, model)
    return keep_made(
        connection,
        model,
        lambda: make(encoder, pixels, pictures, wanted, is_stopped),
        started,
        IMAGE,
    )
