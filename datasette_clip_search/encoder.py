"""An OpenCLIP model at work: pictures and words to unit vectors."""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import checkpoint as checkpoints
from .checkpoint import Checkpoint
from .config import CONFIG
from .errors import CommandError, EncoderUnavailable, ModelMismatch

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# The least cosine between a vector and the one that float32 on the CPU makes.
FAITHFUL = 0.999


class Encoder:
    """Both towers of one checkpoint on one device."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "fp32"):
        """Loads the model; `checkpoint` must be located.

        Raises CommandError for a device that is not there or a precision that changes the vectors
        of this model, EncoderUnavailable for weights that do not load.
        """
        checkpoints.import_open_clip()
        import torch

        self.checkpoint = checkpoint
        self.fingerprint = checkpoints.fingerprint(checkpoint)
        self.precision = precision
        self.device = _choose_device(device)
        self._model, self._preprocess, self._tokenizer = _load(checkpoint)
        self.image_size: int = _shorter(self._model.visual.image_size)
        self.preprocess: dict[str, Any] = _plain(self._model.visual.preprocess_cfg)
        self._dtype = getattr(torch, PRECISIONS[precision])
        reference = self._encode_reference(torch.float32)
        self.dimension = reference.shape[1]
        if self.device != "cpu" or precision != "fp32":
            self._model.to(self.device, self._dtype)
            self._check_faithful(reference)

    def encode_images(self, images: Sequence[Any]) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of n upright RGB pictures."""
        import torch

        pixels = torch.stack([self._preprocess(image) for image in images])
        with torch.inference_mode():
            features = self._model.encode_image(pixels.to(self.device, self._dtype))
        return _unit(features)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of n texts."""
        import torch

        with torch.inference_mode():
            features = self._model.encode_text(self._tokenizer(list(texts)).to(self.device))
        return _unit(features)

    def _encode_reference(self, dtype: Any) -> Vectors:
        """Encodes a fixed picture of smooth colour and of noise."""
        import torch

        noise = np.random.default_rng(0).uniform(-1, 1, (1, 3, self.image_size, self.image_size))
        ramp = np.linspace(-1, 1, self.image_size)
        pixels = torch.from_numpy((noise + ramp + ramp[:, None]) / 2).to(self.device, dtype)
        with torch.inference_mode():
            return _unit(self._model.to(self.device).encode_image(pixels))

    def _check_faithful(self, reference: Vectors) -> None:
        cosine = float((self._encode_reference(self._dtype) * reference).sum())
        if not cosine >= FAITHFUL:
            raise CommandError(
                f"{self.checkpoint.label} in {self.precision} on {self.device} makes vectors that "
                f"differ from float32's: cosine {cosine:.4f}, expected at least {FAITHFUL}. "
                "Use --precision fp32, or --device cpu"
            )


def _load(checkpoint: Checkpoint) -> tuple[Any, Any, Any]:
    import open_clip

    options: dict[str, Any]
    if checkpoint.folder:
        name = f"local-dir:{checkpoint.folder}"
        options = {}
    elif checkpoint.config:
        name, options = checkpoint.name, {}
    else:
        name = checkpoint.name
        tag = checkpoints.tag_settings(checkpoint) or {}
        options = {
            "pretrained": str(checkpoint.weights),
            "force_quick_gelu": bool(tag.get("quick_gelu")),
            "force_preprocess_cfg": tag,
        }
    try:
        model = open_clip.create_model(name, require_pretrained=True, **options)
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        # Weights of another shape, a broken file, a missing tokenizer: each its own exception.
        reason = " ".join(str(error).split("\n")[:1])
        raise EncoderUnavailable(
            f"The weights of {checkpoint.label} do not load from {checkpoint.weights}: "
            f"{type(error).__name__}: {reason}"
        ) from error
    # create_model returns a model in training mode, in which BatchNorm mixes up the batch.
    model.eval()
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**_plain(model.visual.preprocess_cfg)), is_train=False
    )
    return model, preprocess, tokenizer


def _choose_device(device: str) -> str:
    import torch

    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CommandError(
            f"The device {device} can't be used here: {str(error).splitlines()[0]}. "
            "Use --device cpu, or leave --device out"
        ) from error
    return device


def _unit(features: Any) -> Vectors:
    vectors: Vectors = features.float().cpu().numpy()
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors


def _shorter(size: int | tuple[int, int]) -> int:
    return size if isinstance(size, int) else min(size)


def _plain(settings: Any) -> dict[str, Any]:
    return asdict(settings) if is_dataclass(settings) else dict(settings)  # type: ignore[arg-type]


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
    checkpoints.import_open_clip()
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
            return Encoder(checkpoint)
    except (EncoderUnavailable, CommandError, OSError) as error:
        # What a library says of a broken file names the file, which is no visitor's business.
        log.warning("%s", error)
        raise EncoderUnavailable(f"The weights of {name} do not load; the log says why") from error
