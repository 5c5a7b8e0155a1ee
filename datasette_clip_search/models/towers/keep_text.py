"""The text tower of a run's model: kept in the database, unless a sound one is there."""

import importlib.util
import sqlite3
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ...common.arrays import Vectors
from ...common.errors import ClipSearchError, EncoderUnavailable
from ...database.connection import fetch, transaction
from ...database.model import Model
from ...database.schema import EMBEDDINGS
from ...database.vectors import count_vectors, decode_vectors, has_length
from ..checkpoint import INSTALL
from ..torch_model import Encoder
from .stored import (
    TEXT,
    NoTower,
    TowerUnusable,
    damaged,
    delete_tower,
    keep,
    read_manifest,
    read_tower,
    write_tower,
)

if TYPE_CHECKING:
    from .making.make_text import Made

AUTO, NONE = "auto", "none"
# The most pictures that a text tower is checked with.
_PICTURES = 5_000
PRECISIONS = ("8-bit", "16-bit", "32-bit")
# What one is made with, besides what an install without extras has.
NEEDED = ("torch", "open_clip", "onnx")


def keep_text_tower(
    connection: sqlite3.Connection,
    model: Model,
    wanted: str,
    load: Callable[[], Encoder],
    making: Callable[[], None],
    is_stopped: Callable[[], bool],
) -> str:
    """Makes the text tower of a model unless the database holds a sound one, and keeps it.

    `wanted` is a precision, "auto", or "none", which deletes it. `load` gives the model in float32
    on the CPU, `making` is told before that. Returns what to tell about text queries, nothing when
    stopped. What can't be made is no error: queries go on with torch.
    """
    if wanted == NONE:
        with transaction(connection):
            delete_tower(connection, model)
        return "need torch (--text-tower none)"
    kept, is_wanted = _kept(connection, model, wanted)
    if is_wanted:
        return kept
    instead = f"{kept}; no {wanted} one is made" if kept else "need torch; no text tower is made"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return f"{instead}, which takes {' and '.join(missing)}. Run: {INSTALL}"
    started = time.monotonic()
    making()
    try:
        encoder = load()
    except (ClipSearchError, OSError) as error:
        return f"{instead}: {error}"
    if encoder.fingerprint != model.fingerprint:
        return f"{instead}: the model's weights have changed"
    try:
        return _make(connection, model, wanted, encoder, is_stopped, started)
    except EncoderUnavailable as refused:
        if not kept:
            facts = {"refused": str(refused), "release": version("datasette-clip-search")}
            write_tower(connection, model, keep(facts, {})[0], {})
        return f"{instead}: {refused}"


def _kept(connection: sqlite3.Connection, model: Model, wanted: str) -> tuple[str, bool]:
    """Returns what to tell about what is there, and whether it is what is wanted."""
    nothing = "", False
    manifest = read_manifest(connection, model)
    if manifest is None:
        return nothing
    try:
        facts = read_tower(connection, model, manifest).facts
        told = f"{shown(facts)}  (up to date)"
    except NoTower as refused:
        # By another release, or of another precision, it may be possible.
        if wanted != AUTO or refused.release != version("datasette-clip-search"):
            return nothing
        return f"need torch; no text tower is made: {refused.reason}", True
    except TowerUnusable:
        return nothing
    return told, wanted in (AUTO, facts["precision"])


def _make(
    connection: sqlite3.Connection,
    model: Model,
    wanted: str,
    encoder: Encoder,
    is_stopped: Callable[[], bool],
    started: float,
) -> str:
    from .making.make_text import make

    pictures = sample_of(connection, model)
    return keep_made(
        connection, model, lambda: make(encoder, pictures, wanted, is_stopped), started
    )


def keep_made(
    connection: sqlite3.Connection,
    model: Model,
    make: "Callable[[], Made]",
    started: float,
    tower: str = TEXT,
) -> str:
    """Keeps a tower that is made now; returns what to tell about it, nothing when stopped.

    Raises EncoderUnavailable where none can be made.
    """
    from .making.make_text import Stopped

    try:
        made = make()
    except Stopped:
        return ""
    except EncoderUnavailable:
        raise
    except Exception as error:
        # Each of torch, onnx and ONNX Runtime has its own.
        reason = (str(error).strip().splitlines() or [""])[0]
        raise EncoderUnavailable(f"{type(error).__name__}: {reason}") from error
    write_tower(connection, model, made.manifest, made.kept.sections, tower)
    notes = f"; {'; '.join(made.notes)}" if made.notes else ""
    seconds = time.monotonic() - started
    return f"{shown(made.kept.facts, tower)}  (made in {seconds:.1f} s{notes})"


def shown(facts: dict[str, Any], tower: str = TEXT) -> str:
    """Returns a line about a kept tower: its precision, size, and how well it passed.

    Raises TowerUnusable for one whose manifest lacks that, or holds something else.
    """
    try:
        return _shown(facts, tower)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged(tower) from error


def _shown(facts: dict[str, Any], tower: str) -> str:
    size = sum(facts["sections"].values()) / 1e6
    verified = facts["verified"]
    agreement = ""
    if verified["agreement"] is not None:
        agreement = f", {verified['agreement']:.1%} of the best pictures the same"
    if facts["precision"] not in PRECISIONS:
        raise ValueError("precision")
    needs = ""
    if tower == TEXT and facts["tokenizer"]["kind"] == "tokenizers":
        needs = ", takes the package tokenizers (pip install tokenizers)"
    # Rounded down, as the least it is.
    cosine = int(verified["cosine"] * 10_000) / 10_000
    megabytes = f"{size:.1f}" if size < 10 else f"{size:.0f}"
    least = f"cosine at least {cosine:.4f}{agreement}"
    return f"{facts['precision']} {tower} tower, {megabytes} MB, {least}{needs}"


def sample_of(connection: sqlite3.Connection, model: Model) -> Vectors:
    """Returns vectors, (n, d) float32, from all over the collection."""
    step = max(1, count_vectors(connection, model) // _PICTURES)
    sql = f"""select embedding from main.{EMBEDDINGS} where model_id = ? and image_id % ? = 0
        order by image_id limit ?"""
    rows = fetch(connection, sql, model.id, step, _PICTURES)
    blobs = [blob for (blob,) in rows if has_length(blob, model.dimension)]
    return decode_vectors(blobs, model.dimension)
