"""Which model is meant: from a name and a tag, file or folder to weights on disk.

Nothing here imports torch, and a local checkpoint is identified without open_clip too: a second
run that has nothing to embed must not wait for either.
"""

import atexit
import difflib
import gc
import hashlib
import importlib
import json
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..common.errors import CommandError, EncoderUnavailable

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
WEIGHTS_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth"}
# Bytes of a configuration, which have some thousand.
_MOST_CONFIG = 1_000_000
HUB_PREFIX = "hf-hub:"
INSTALL = "pip install 'datasette-clip-search[embed]'"


@dataclass(frozen=True)
class Checkpoint:
    """One model in one pretraining.

    `name` and `pretrained` are what people call it; `weights` is the local file, or None until
    `locate` has found or fetched it; `config` is OpenCLIP's model configuration where the
    checkpoint brings its own.
    """

    name: str
    pretrained: str
    folder: Path | None = None
    weights: Path | None = None
    config: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether `pretrained` is a path, rather than a tag."""
        return self.folder is not None or os.path.isabs(self.pretrained)

    @property
    def label(self) -> str:
        """The model's name with its tag, for messages; never a path."""
        tag = "" if self.is_local else self.pretrained
        return f"{self.name} ({tag})" if tag else self.name


def resolve(model: str | None, pretrained: str | None) -> Checkpoint:
    """Returns the checkpoint that `--model` and `--pretrained` mean, without fetching anything.

    `pretrained` is a folder with an `open_clip_config.json` and weights, a weights file, or one
    of OpenCLIP's tags; for a folder `model` is a name of one's own choice.

    Raises CommandError when nothing can be meant.
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
            f"Say which model {pretrained} is the weights of: "
            f"--model NAME --pretrained {pretrained}"
        )
    if not pretrained:
        _check_architecture(model)
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
            f"The folder {folder} holds no {CONFIG_FILE}, which says what model its weights are. "
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
            f"Say which architecture {file.name} holds the weights of, for instance "
            f"--model ViT-B-32, or put it in a folder with its {CONFIG_FILE}"
        )
    return Checkpoint(model, str(file), weights=file)


def fingerprint(checkpoint: Checkpoint, is_stopped: Callable[[], bool] = lambda: False) -> str:
    """Returns the SHA-256, in hex, of the weights file and the model's configuration.

    Raises OSError for a file that can't be read, or where `is_stopped`.
    """
    assert checkpoint.weights is not None, "locate() first"
    digest = hashlib.sha256((checkpoint.config or checkpoint.name).encode())
    with open(checkpoint.weights, "rb", opener=_regular) as file:
        # In large blocks, so that a thread seldom waits for the interpreter.
        while block := file.read(1 << 24):
            if is_stopped():
                raise OSError("Reading the weights was ended")
            digest.update(block)
    return digest.hexdigest()


def _regular(path: str, flags: int) -> int:
    """Opens a file that is neither a pipe, which may never be written to, nor a device."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a file")
    return descriptor


def check_unpickling(checkpoint: Checkpoint) -> None:
    """Raises EncoderUnavailable for weights that a database names and that could run code.

    OpenCLIP asks torch for weights only, which before torch 2.6 did not keep out all else. The
    weights of OpenCLIP's own tags are as its release has them.
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


def import_open_clip() -> ModuleType:
    """Imports open_clip, or raises EncoderUnavailable that says what to install."""
    if "open_clip" not in sys.modules:
        # Else Python looks for garbage in all of it once more before it ends, for a second.
        atexit.register(gc.freeze)
    is_collecting = gc.isenabled()
    # Nothing of it is garbage, and to look through all of it again and again takes half a second.
    gc.disable()
    try:
        return importlib.import_module("open_clip")
    except ModuleNotFoundError as error:
        raise EncoderUnavailable(
            "Turning pictures and words into vectors needs torch and open_clip, which are not "
            f"installed. Run: {INSTALL}"
        ) from error
    except ImportError as error:
        raise EncoderUnavailable(
            f"torch and open_clip are installed, but can't be imported: {error}"
        ) from error
    finally:
        if is_collecting:
            gc.enable()


def locate(checkpoint: Checkpoint, fetch: bool) -> Checkpoint:
    """Returns the checkpoint with its weights on disk.

    With `fetch`, open_clip downloads what is missing; without it, only what it downloaded before
    is used, and nothing is asked of the network.

    Raises CommandError for a name or tag that does not exist, EncoderUnavailable when the weights
    can't be had.
    """
    if checkpoint.weights:
        if not checkpoint.folder:
            _check_architecture(checkpoint.name)
        return checkpoint
    open_clip = import_open_clip()
    from open_clip import pretrained as downloads

    if checkpoint.name.startswith(HUB_PREFIX):
        hub = checkpoint.name.removeprefix(HUB_PREFIX)

        def download_with_config() -> tuple[Path, str | None]:
            config = Path(downloads.download_pretrained_from_hf(hub, filename=CONFIG_FILE))
            model_config = json.loads(config.read_text("utf-8"))["model_cfg"]
            weights = Path(downloads.download_pretrained_from_hf(hub))
            return weights, json.dumps(model_config, sort_keys=True)

        return _obtain(checkpoint, download_with_config, fetch)
    source = tag_settings(checkpoint)
    if source is None:
        _check_architecture(checkpoint.name)
        tags = open_clip.list_pretrained_tags_by_model(checkpoint.name)
        raise CommandError(
            f"OpenCLIP has no weights tagged {checkpoint.pretrained} for {checkpoint.name}. "
            f"{_suggest(checkpoint.pretrained, tags)}Its tags: {', '.join(tags) or 'none'}"
        )

    def download() -> tuple[Path, str | None]:
        return Path(downloads.download_pretrained(source)), None

    if not source.get("hf_hub"):
        # Not from the hub: open_clip keeps the file under its own name, here.
        kept = Path("~/.cache/clip", Path(source["url"]).name).expanduser()
        if kept.is_file():
            return replace(checkpoint, weights=kept)
        if not fetch:
            raise _not_here(checkpoint)
    return _obtain(checkpoint, download, fetch)


def _obtain(
    checkpoint: Checkpoint, download: Callable[[], tuple[Path, str | None]], fetch: bool
) -> Checkpoint:
    """Takes the weights from the hub's cache, or fetches them."""
    # Hub clients raise many kinds of error, and only their last line says what happened.
    try:
        with network(allowed=False):
            weights, config = download()
    except Exception as missing:
        if not fetch:
            raise _not_here(checkpoint) from missing
        try:
            _check_reachable()
            weights, config = download()
        except Exception as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise EncoderUnavailable(
                f"Can't fetch the weights of {checkpoint.label}: {reason[0]}\n"
                "Where the network can't be reached, give a local checkpoint: --pretrained FOLDER "
                f"(with {CONFIG_FILE} and {WEIGHTS_FILE}), "
                "or --model NAME --pretrained WEIGHTS_FILE"
            ) from error
    return replace(checkpoint, weights=weights, config=config)


def _not_here(checkpoint: Checkpoint) -> EncoderUnavailable:
    return EncoderUnavailable(
        f"The weights of {checkpoint.label} are not on this machine, and nothing is fetched while "
        "answering a query. Run sqlite-utils embed-images once here"
    )


def _check_reachable() -> None:
    """Fails at once without a network, where the hub client tries for most of a minute."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if not getproxies():
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise OSError(f"the host {host} can't be reached ({error.strerror})") from error


def tag_settings(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Returns what OpenCLIP knows of a tag: where its weights are, how to preprocess for them."""
    settings: dict[str, Any] | None = import_open_clip().get_pretrained_cfg(
        checkpoint.name, checkpoint.pretrained
    )
    return settings or None


def _check_architecture(name: str) -> None:
    names = import_open_clip().list_models()
    if name not in names:
        raise CommandError(
            f"OpenCLIP has no model {name}. {_suggest(name, names)}"
            'All names: python -c "import open_clip; print(open_clip.list_models())"'
        )


def _suggest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 3)
    return f"Did you mean {' or '.join(close)}? " if close else ""


# For the threads that keep it off the network now, and what the switch was before.
_offline: list[bool] = []
_before: list[bool] = []
_offline_lock = threading.Lock()


@contextmanager
def network(allowed: bool) -> Iterator[None]:
    """Keeps the hub client off the network unless `allowed`."""
    if allowed:
        yield
        return
    # Its switch is an environment variable read at import; the constant is asked at each call.
    from huggingface_hub import constants

    with _offline_lock:
        if not _offline:
            _before.append(constants.HF_HUB_OFFLINE)
        _offline.append(True)
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        with _offline_lock:
            _offline.pop()
            if not _offline:
                constants.HF_HUB_OFFLINE = _before.pop()
