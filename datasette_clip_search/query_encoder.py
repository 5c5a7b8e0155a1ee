"""The encoders that queries are turned into vectors with: one per model and process."""

import logging
import os
import threading
from collections import OrderedDict
from pathlib import Path

from . import checkpoint as checkpoints
from .config import CONFIG
from .encoder import Encoder
from .errors import CommandError, EncoderUnavailable, ModelMismatch
from .precision import use_device

log = logging.getLogger(__name__)

_encoders: OrderedDict[str, Encoder] = OrderedDict()
_loading = threading.Lock()


def encoder_for(name: str, pretrained: str, fingerprint: str, folder: Path | None) -> Encoder:
    """Returns the encoder of a model recorded in a database, one per process.

    `folder` is the database file's own; a local checkpoint is looked for from there. Nothing is
    fetched.

    Raises EncoderUnavailable when its weights or torch are not here, ModelMismatch when other
    weights are.
    """
    with _loading:
        encoder = _encoders.get(fingerprint)
        if encoder is None:
            encoder = _load_recorded(name, pretrained, fingerprint, folder)
            _encoders[fingerprint] = encoder
            if len(_encoders) > CONFIG.encoder_cache_entries:
                _encoders.popitem(last=False)
        _encoders.move_to_end(fingerprint)
        return encoder


def _load_recorded(name: str, pretrained: str, recorded: str, folder: Path | None) -> Encoder:
    try:
        checkpoints.import_open_clip()
    except EncoderUnavailable as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise
        # It names the library's file, which is no visitor's business.
        log.warning("%s", error)
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
    actual = checkpoints.fingerprint(checkpoint)
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
        log.warning("%s", error)
        raise EncoderUnavailable(f"The weights of {name} do not load; the log says why") from error
