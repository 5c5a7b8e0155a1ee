"""The torch models that encode queries: one per model and process.

- A database records which weights made its vectors, and where they were. That is only a claim:
  weights are used if their SHA-256 is the recorded one.
- A recorded path is opened only if it is that of a file of weights or a folder.
- Whatever goes wrong, the error is the same sentence, so that nobody learns about files here.
- Nothing is fetched.
"""

import logging
import os
import sqlite3
from pathlib import Path

from ...common.cache import LRUCache
from ...common.config import CONFIG
from ...common.errors import CommandError, EncoderUnavailable
from ...common.interrupts import heed_time_limit
from ...common.shared_loading import SharedLoading
from ...common.stopping import Stopping
from ...common.terminal_text import visible
from ...database.connection import database_path
from ...database.model import Model
from ...database.publication import is_published
from ..checkpoint import (
    WEIGHTS_SUFFIXES,
    Checkpoint,
    check_unpickling,
    compute_fingerprint,
    resolve,
)
from ..device import use_device
from ..open_clip_library import import_open_clip, network
from ..torch_model import TorchModel
from ..weights_files import locate_weights

log = logging.getLogger(__name__)


def _too_slow() -> EncoderUnavailable:
    return EncoderUnavailable("The model's weights take too long to load here")


# Importing the libraries can take a minute on a busy machine, and can't be interrupted.
_encoders: SharedLoading[TorchModel] = SharedLoading(_too_slow, None, seconds=600, end_seconds=600)
# The key is the checkpoint with its file's size and time. Without this cache, every query would
# read a file of other weights to the end.
_fingerprints: LRUCache[tuple[object, ...], str] = LRUCache(CONFIG.unusable_towers_remembered)


def torch_model_of(connection: sqlite3.Connection, model: Model) -> TorchModel:
    """Return the torch model of a database's model, one per process.

    A local checkpoint is relative to the folder of the database file; a published database has
    none.

    Raises EncoderUnavailable where its weights or torch are missing, and sqlite3.OperationalError
    "interrupted" when the statement of `connection` has to end.
    """
    encoder = _encoders.get(model.fingerprint)
    if encoder is not None:
        return encoder
    path = database_path(connection)
    folder = None if is_published(connection) else path.parent if path else Path()
    return _encoders.load(
        str(path or f"in memory {id(connection)}"),
        model.fingerprint,
        lambda: None,
        lambda _, stopping: _load_recorded(model, folder, stopping),
        lambda: heed_time_limit(connection),
    )


def _load_recorded(model: Model, folder: Path | None, stopping: Stopping) -> TorchModel:
    try:
        import_open_clip()
    except EncoderUnavailable as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise
        # It names a file of the library, which visitors need not know.
        log.warning("%s", visible(str(error)))
        raise EncoderUnavailable(
            "torch and open_clip are installed, but can't be imported; the log says why"
        ) from error
    import torch

    # Single queries come from many threads at once. If each also split its work among threads, on
    # a busy machine each would wait for all the others, several times as long.
    torch.set_num_threads(1)
    try:
        checkpoint = locate_weights(_recorded(model, folder), fetch=False)
        check_unpickling(checkpoint)
        if _fingerprint(checkpoint, stopping) != model.fingerprint:
            raise EncoderUnavailable("Other weights are in their place")
        with network(allowed=False):
            encoder = TorchModel(checkpoint, model.fingerprint)
            use_device(encoder, "auto")
            return encoder
    except (EncoderUnavailable, CommandError, OSError) as error:
        # One sentence for all of them, which reveals nothing about files.
        log.info("%s", visible(f"{model.label}: {error}"))
        raise EncoderUnavailable(
            f"The weights of {model.name} are not where they were when it embedded the pictures, "
            "or they have changed. Run sqlite-utils embed-images again with --pretrained and their "
            "place"
        ) from error


def _recorded(model: Model, folder: Path | None) -> Checkpoint:
    """Return the checkpoint that a database names.

    Raises CommandError or EncoderUnavailable for one that must not be opened.
    """
    if not model.has_path:
        return Checkpoint(model.name, model.pretrained)
    if folder is None:
        raise EncoderUnavailable("A published database has no files beside it")
    path = folder / model.pretrained
    if not path.is_dir() and path.suffix not in WEIGHTS_SUFFIXES:
        raise EncoderUnavailable("The path is not one of weights")
    return resolve(model.name, os.fspath(path))


def _fingerprint(checkpoint: Checkpoint, stopping: Stopping) -> str:
    assert checkpoint.weights is not None
    stat = os.stat(checkpoint.weights)
    if stat.st_size > CONFIG.max_weights_bytes:
        raise EncoderUnavailable("The file is larger than any weights")
    key = (checkpoint, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    known = _fingerprints.get(key)
    if known is None:
        known = compute_fingerprint(checkpoint, lambda: stopping.is_set)
        _fingerprints.put(key, known)
    return known
