"""The preprocessing that a new model most likely has, found without importing open_clip."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from ..pictures.preprocess import Preprocess
from .checkpoint import CONFIG_FILE, Checkpoint

_USUAL = {"size": 224, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def expected_preprocess(checkpoint: Checkpoint) -> Preprocess:
    """Return the preprocessing to begin with, until the model is loaded.

    It comes from the model's configuration, or else is the one that most models use. Mean and
    deviation, which do not change the pixels, are left out.
    """
    try:
        return Preprocess.from_open_clip(_USUAL | _configured(checkpoint))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Preprocess.from_open_clip(_USUAL)


def _configured(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.folder:
        file = checkpoint.folder / CONFIG_FILE
    else:
        spec = importlib.util.find_spec("open_clip")
        if spec is None or spec.origin is None:
            return {}
        file = Path(spec.origin).parent / "model_configs" / f"{checkpoint.name}.json"
    config = json.loads(file.read_text("utf-8"))
    vision = config.get("model_cfg", config)["vision_cfg"]
    settings = {key: value for key, value in config.get("preprocess_cfg", {}).items() if value}
    # As in open_clip, the size is the image tower's own.
    return settings | {key: value for key, value in [("size", vision.get("image_size"))] if value}
