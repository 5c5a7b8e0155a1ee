"""The encoders that queries are turned into vectors with: one per model and process."""

import logging
import os
import sqlite3
import threading
from pathlib import Path

from . import checkpoint as checkpoints
from .checkpoint import Checkpoint
from .config import CONFIG
from .encoder import Encoder
from .errors import CommandError, EncoderUnavailable, ModelMismatch
from .loaded import database_path
from .precision import use_device
from .recent import Recent
from .schema import Model
from .terminal_text import visible

log = logging.getLogger(__name__)

_encoders: Recent[str, Encoder] = Recent(CONFIG.encoder_cache_entries)
# By the weights file with its size and time: where it is another one than it was, each query would
# read all of it to see that.
_fingerprints: Recent[tuple[object, ...], str] = Recent(CONFIG.encoder_cache_entries)
_loading = threading.Lock()


def encoder_of(connection: sqlite3.Connection, model: Model) -> Encoder:
    """Returns the encoder of a model of a database, as `encoder_for` does."""
    path = database_path(connection)
    folder = path.parent if path else None
    return encoder_for(model.name, model.pretrained, model.fingerprint, folder)


def encoder_for(name: str, pretrained: str, fingerprint: str, folder: Path | None) -> Encoder:
    """Returns the encoder of a model recorded in a database, one per process.

    `folder` is the database file's own; a local checkpoint is looked for from there. Nothing is
    fetched.

    Raises EncoderUnavailable when its weights or torch are not here, ModelMismatch when other
    weights are.
    """
    encoder = _encoders.get(fingerprint)
    if encoder is None:
        with _loading:
            # Another thread may have loaded it while this one waited.
            encoder = _encoders.get(fingerprint)
            if encoder is None:
                encoder = _load_recorded(name, pretrained, fingerprint, folder)
                _encoders.put(fingerprint, encoder)
    return encoder


def _load_recorded(name: str, pretrained: str, recorded: str, folder: Path | None) -> Encoder:
    try:
        checkpoints.import_open_clip()
    except EncoderUnavailable as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise
        # It names the library's file, which is no visitor's business.
        log.warning("%s", visible(str(error)))
        raise EncoderUnavailable(
            "torch and open_clip are installed, but can't be imported; the log says why"
        ) from error
    import torch

    # Queries are single and come from many threads at once: where those also share their work
    # out among threads, on a busy machine each waits for all the others, several times as long.
    torch.set_num_threads(1)
    local = os.path.join(folder or "", pretrained)
    try:
        found = checkpoints.resolve(name, local if os.path.exists(local) else pretrained)
        checkpoint = checkpoints.locate(found, fetch=False)
    except (CommandError, OSError) as error:
        raise EncoderUnavailable(
            f"The weights of {name} are not where they were when it embedded the pictures. Run "
            "sqlite-utils embed-images again with --pretrained and the place they are now"
        ) from error
    actual = _fingerprint(checkpoint)
    if actual != recorded:
        raise ModelMismatch(
            f"The pictures were embedded by {name} with weights {recorded[:12]}, but the weights "
            f"found in their place are {actual[:12]}. Bring the old weights back, or embed the "
            "pictures again with the new ones: sqlite-utils embed-images"
        )
    try:
        with checkpoints.network(allowed=False):
            encoder = Encoder(checkpoint, actual)
            use_device(encoder, "auto")
            return encoder
    except (EncoderUnavailable, CommandError, OSError) as error:
        # What a library says of a broken file names the file, which is no visitor's business.
        log.warning("%s", visible(str(error)))
        raise EncoderUnavailable(f"The weights of {name} do not load; the log says why") from error


def _fingerprint(checkpoint: Checkpoint) -> str:
    assert checkpoint.weights is not None
    stat = os.stat(checkpoint.weights)
    key = (checkpoint, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    known = _fingerprints.get(key)
    if known is None:
        known = checkpoints.fingerprint(checkpoint)
        _fingerprints.put(key, known)
    return known
