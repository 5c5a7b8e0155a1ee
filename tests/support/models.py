"""OpenCLIP models that are too small to mean anything."""

import json
from pathlib import Path

TINY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def make_model(folder: Path, seed: int = 0, dimension: int = 16) -> Path:
    """Save a genuine OpenCLIP model with random weights, too small to mean anything."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    settings = {**TINY_CONFIG, "embed_dim": dimension}
    model = open_clip.CLIP(**settings)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": settings, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
