"""Checkpoints: the weights that a model's name, with a tag, file or folder, refers to.

Nothing here imports torch, and local checkpoints do not need open_clip either: a second run that
has nothing to embed must not wait for them.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import CommandError, EncoderUnavailable
from .open_clip_library import check_architecture, import_open_clip

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
WEIGHTS_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth"}
# The most bytes in a configuration; most have a few thousand.
_MOST_CONFIG = 1_000_000
HUB_PREFIX = "hf-hub:"


@dataclass(frozen=True)
class Checkpoint:
    """One model with one set of weights.

    `name` and `pretrained` are what people call it. `weights` is the local file, None until
    `locate_weights` has found or fetched it. `config` is OpenCLIP's model configuration, where the
    checkpoint has its own.
    """

    name: str
    pretrained: str
    folder: Path | None = None
    weights: Path | None = None
    config: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether `pretrained` is a path and not a tag."""
        return self.folder is not None or os.path.isabs(self.pretrained)

    @property
    def label(self) -> str:
        """The model's name with its tag, for messages; never a path."""
        tag = "" if self.is_local else self.pretrained
        return f"{self.name} ({tag})" if tag else self.name


def resolve(model: str | None, pretrained: str | None) -> Checkpoint:
    """Return the checkpoint that --model and --pretrained name, without fetching anything.

    `pretrained` is a folder with an open_clip_config.json and weights, a weights file, or one of
    OpenCLIP's tags. For a folder, `model` can be any name.

    Raises CommandError for a combination that names no checkpoint.
    """
    if pretrained and Path(pretrained).is_dir():
        return _from_folder(model, Path(pretrained).resolve())
    if pretrained and Path(pretrained).is_file():
        return _from_file(model, Path(pretrained).resolve())
    if pretrained and _looks_like_path(pretrained):
        raise CommandError(f"There is no checkpoint file or folder {pretrained}")
    if model and model.startswith(HUB_PREFIX):
        return Checkpoint(model, "")
    if not model:
        raise CommandError(
            f"Say which model the weights {pretrained} belong to: "
            f"--model NAME --pretrained {pretrained}"
        )
    if not pretrained:
        check_architecture(model)
        tags = import_open_clip().list_pretrained_tags_by_model(model)
        raise CommandError(
            f"Say which weights of {model} to use: --model {model} --pretrained TAG. "
            f"Its tags: {', '.join(tags) or 'none'}"
        )
    return Checkpoint(model, pretrained)


def _looks_like_path(pretrained: str) -> bool:
    return (
        os.sep in pretrained
        or pretrained.startswith((".", "~"))
        or Path(pretrained).suffix in WEIGHTS_SUFFIXES
    )


def _from_folder(model: str | None, folder: Path) -> Checkpoint:
    config = folder / CONFIG_FILE
    if not config.is_file():
        raise CommandError(
            f"The folder {folder} holds no {CONFIG_FILE}, which describes the model. "
            "Give a folder in OpenCLIP's layout, or --model NAME with --pretrained WEIGHTS_FILE"
        )
    try:
        with open(config, "rb", opener=_regular) as file:
            model_config = json.loads(file.read(_MOST_CONFIG).decode())["model_cfg"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CommandError(f"{config} is not an OpenCLIP model configuration: {error}") from error
    files = sorted(file for file in folder.iterdir() if file.suffix in WEIGHTS_SUFFIXES)
    preferred = [file for file in files if file.name == WEIGHTS_FILE] or files
    if len(preferred) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise CommandError(
            f"The folder {folder} should hold one file of weights, named {WEIGHTS_FILE}; "
            f"found: {found}"
        )
    return Checkpoint(
        name=model or folder.name,
        pretrained=str(folder),
        folder=folder,
        weights=preferred[0],
        config=json.dumps(model_config, sort_keys=True),
    )


def _from_file(model: str | None, file: Path) -> Checkpoint:
    if (file.parent / CONFIG_FILE).is_file():
        return _from_folder(model, file.parent)
    if not model:
        raise CommandError(
            f"Say which architecture the weights {file.name} belong to, for instance "
            f"--model ViT-B-32, or put the file in a folder with its {CONFIG_FILE}"
        )
    return Checkpoint(model, str(file), weights=file)


def compute_fingerprint(
    checkpoint: Checkpoint, is_stopped: Callable[[], bool] = lambda: False
) -> str:
    """Return the SHA-256, in hex, of the model's configuration and its weights file.

    Raises OSError for a file that can't be read, and when `is_stopped` returns True.
    """
    assert checkpoint.weights is not None, "locate_weights() first"
    digest = hashlib.sha256((checkpoint.config or checkpoint.name).encode())
    with open(checkpoint.weights, "rb", opener=_regular) as file:
        # In large blocks, because the thread waits for the interpreter between them.
        while block := file.read(1 << 24):
            if is_stopped():
                raise OSError("Reading the weights was stopped")
            digest.update(block)
    return digest.hexdigest()


def _regular(path: str, flags: int) -> int:
    """Open a regular file: no device, and no pipe, which may never be written to."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a file")
    return descriptor


def check_unpickling(checkpoint: Checkpoint) -> None:
    """Refuse weights that a database names and that could run code when they are loaded.

    OpenCLIP asks torch to load weights only, but before torch 2.6 that did not keep code out. The
    weights of OpenCLIP's own tags are trusted.

    Raises EncoderUnavailable.
    """
    from importlib.metadata import version

    if not checkpoint.is_local and not checkpoint.name.startswith(HUB_PREFIX):
        return
    parts = version("torch").split(".")[:2]
    is_safe = [int(part) if part.isdigit() else 0 for part in parts] >= [2, 6]
    if checkpoint.weights and checkpoint.weights.suffix != ".safetensors" and not is_safe:
        raise EncoderUnavailable(
            f"{checkpoint.weights.name} could run code when it is loaded. Give it with "
            "--pretrained if you trust it, or update: pip install --upgrade torch"
        )
