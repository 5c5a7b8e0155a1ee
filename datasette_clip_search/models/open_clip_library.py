"""The library open_clip: importing it when it is needed, its names, and its use of the network."""

import atexit
import difflib
import gc
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

from ..common.errors import CommandError, EncoderUnavailable

INSTALL = "pip install 'datasette-clip-search[embed]'"


@cache
def is_torch_installed() -> bool:
    """Tell whether torch and open_clip are installed, without importing them."""
    return all(importlib.util.find_spec(name) for name in ("torch", "open_clip"))


def import_open_clip() -> ModuleType:
    """Import open_clip.

    Raises EncoderUnavailable, which says what to install, where it can't be imported.
    """
    if "open_clip" not in sys.modules:
        # Otherwise Python searches it for garbage once more at exit, which takes a second.
        atexit.register(gc.freeze)
    is_collecting = gc.isenabled()
    # None of it is garbage, and searching it repeatedly takes half a second.
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


def check_architecture(name: str) -> None:
    names = import_open_clip().list_models()
    if name not in names:
        raise CommandError(
            f"OpenCLIP has no model {name}. {suggest_names(name, names)}"
            'All names: python -c "import open_clip; print(open_clip.list_models())"'
        )


def suggest_names(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 3)
    return f"Did you mean {' or '.join(close)}? " if close else ""


# An entry for each thread that keeps the hub client offline, and the switch's value before.
_offline: list[bool] = []
_before: list[bool] = []
_offline_lock = threading.Lock()


@contextmanager
def network(allowed: bool) -> Iterator[None]:
    """Keep the hub client off the network unless `allowed`."""
    if allowed:
        yield
        return
    # Its switch is an environment variable that it reads at import; it reads the constant at each
    # call.
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
