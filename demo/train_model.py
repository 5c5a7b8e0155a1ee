"""Train the demo's small OpenCLIP model from scratch, on scenes drawn for the purpose.

    python demo/train_model.py --font PATH

It draws a pool of training scenes, then trains pictures and true captions with CLIP's contrastive
loss. The pool never includes the demo's own pictures or the held-out combinations.
"""

import argparse
import copy
import io
import json
import math
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from captions import Caption, all_words, describe
from glyphs import DEBIAN_FONT, Glyphs
from PIL import Image
from safetensors.torch import save_file
from scenes import Scene, draw_scene, training_scene
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
IMAGE_SIZE = 96
POOL_SIDE = 104  # a little larger than the model's input, so that crops can move about
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "layers": [1, 1, 1, 1],
        "width": 16,
        "head_width": 32,
        "image_size": IMAGE_SIZE,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 48,
        "heads": 4,
        "layers": 3,
    },
}
PREPROCESS_CFG = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
PLACEHOLDER = "unspecified"  # stands for every word that no training caption has

_glyphs: Glyphs


def _start_drawing(font: str) -> None:
    global _glyphs
    _glyphs = Glyphs(font)


def _draw_for_pool(scene: Scene) -> np.ndarray:
    """Draw a scene as a photo that was saved to a file and then shrunk."""
    rng = random.Random(scene.seed + 1)
    short = rng.choices((192, 216, 256, 360), (3, 4, 2, 1))[0]
    longer = round(short * rng.choice((1.0, 1.2, 4 / 3, 1.5)))
    size = (longer, short) if rng.random() < 0.75 else (short, longer)
    picture = draw_scene(scene, _glyphs, size)
    left, top = (size[0] - short) // 2, (size[1] - short) // 2
    picture = picture.crop((left, top, left + short, top + short))
    if rng.random() < 0.6:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=rng.randint(60, 95))
        picture = Image.open(file).convert("RGB")
    kernel = rng.choices((Image.Resampling.BICUBIC, Image.Resampling.BILINEAR), (4, 1))[0]
    return np.asarray(picture.resize((POOL_SIDE, POOL_SIDE), kernel))


def draw_pool(count: int, seed: int, font: str) -> tuple[list[Scene], np.ndarray]:
    """Draw `count` training scenes as uint8 pixels (count, side, side, 3)."""
    rng = random.Random(seed)
    scenes = [training_scene(rng) for _ in range(count)]
    pixels = np.empty((count, POOL_SIDE, POOL_SIDE, 3), np.uint8)
    with multiprocessing.get_context("spawn").Pool(
        initializer=_start_drawing, initargs=(font,)
    ) as pool:
        for row, picture in enumerate(pool.imap(_draw_for_pool, scenes, chunksize=64)):
            pixels[row] = picture
    return scenes, pixels


def augment(pixels: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Crop, mirror and tint pictures a little; return normalised pixels (n, 3, side, side)."""
    slack = POOL_SIDE - IMAGE_SIZE
    crops = np.empty((len(pixels), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for row, picture in enumerate(pixels):
        y, x = rng.integers(0, slack + 1, 2)
        crop = picture[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE]
        crops[row] = crop[:, ::-1] if rng.random() < 0.5 else crop
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    contrast = torch.from_numpy(rng.uniform(0.85, 1.15, (len(pixels), 1, 1, 1))).float()
    tint = torch.from_numpy(rng.uniform(-0.05, 0.05, (len(pixels), 3, 1, 1))).float()
    images = ((images - 0.5) * contrast + 0.5 + tint).clamp(0, 1)
    images = (images - 0.5) / 0.25
    return images.contiguous(memory_format=torch.channels_last)


class Words:
    """Turns captions into tokens, and knows which tokens occur in training."""

    def __init__(self, tokenizer: open_clip.SimpleTokenizer) -> None:
        self._tokenizer = tokenizer
        self.placeholder = tokenizer.encode(PLACEHOLDER)[0]
        special = {tokenizer.sot_token_id, tokenizer.eot_token_id, self.placeholder}
        self.taught = special.union(*(tokenizer.encode(text) for text in all_words()))
        self._cache: dict[str, list[int]] = {}

    def tokens(self, captions: list[Caption], rng: random.Random) -> Tensor:
        """Return token ids (n, context), some with unknown words inserted."""
        length = MODEL_CFG["text_cfg"]["context_length"]
        batch = torch.zeros(len(captions), length, dtype=torch.long)
        for row, caption in enumerate(captions):
            if caption.text not in self._cache:
                self._cache[caption.text] = self._tokenizer.encode(caption.text)
            ids = list(self._cache[caption.text])
            if rng.random() < 0.2:
                for _ in range(rng.randint(1, 3)):
                    ids.insert(rng.randint(0, len(ids)), self.placeholder)
            ids = [self._tokenizer.sot_token_id, *ids[: length - 2], self._tokenizer.eot_token_id]
            batch[row, : len(ids)] = torch.tensor(ids)
        return batch


def truth(captions: list[Caption], scenes: list[Scene]) -> Tensor:
    """Return 1 where caption i is true of scene j, else 0."""
    facts = [scene.facts for scene in scenes]
    return torch.tensor([[float(c.facts <= f) for f in facts] for c in captions])


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, true: Tensor) -> Tensor:
    """Return CLIP's symmetric loss, each target spread over all the true matches."""
    logits = scale * texts @ images.T
    by_text = -(true / true.sum(1, keepdim=True) * functional.log_softmax(logits, 1)).sum(1)
    by_image = -(true / true.sum(0, keepdim=True) * functional.log_softmax(logits, 0)).sum(0)
    return (by_text.mean() + by_image.mean()) / 2


def parameter_groups(model: nn.Module) -> list[dict[str, object]]:
    """Return the weights that decay and those that do not."""
    decays = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embedding" in n]
    return [
        {"params": decays, "weight_decay": 0.05},
        {"params": others, "weight_decay": 0.0},
    ]


def save(model: nn.Module, words: Words, folder: Path) -> None:
    """Write the model as an OpenCLIP local-dir checkpoint in half precision."""
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    table = weights["token_embedding.weight"]
    untaught = torch.ones(len(table), dtype=torch.bool)
    untaught[sorted(words.taught)] = False
    table[untaught] = table[words.placeholder].clone()
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    half = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in weights.items()
        if name != "attn_mask"
    }
    path = folder / "open_clip_model.safetensors"
    save_file(half, path, {"format": "pt"})
    path.chmod(0o644)


def build() -> open_clip.CLIP:
    """Return the model with random weights."""
    model = open_clip.CLIP(
        embed_dim=MODEL_CFG["embed_dim"],
        vision_cfg=open_clip.CLIPVisionCfg(**MODEL_CFG["vision_cfg"]),
        text_cfg=open_clip.CLIPTextCfg(**MODEL_CFG["text_cfg"]),
    )
    model.visual.to(memory_format=torch.channels_last)
    return model


def train(options: argparse.Namespace) -> None:
    """Draw the pool, train in cycles, and save the averaged weights."""
    started = time.monotonic()
    torch.manual_seed(options.seed)
    model, words = build(), Words(open_clip.SimpleTokenizer())
    scenes, pixels = draw_pool(options.scenes, options.seed, options.font)
    print(f"{len(scenes)} scenes drawn after {time.monotonic() - started:.0f} s", flush=True)
    for cycle, (steps, rate) in enumerate(zip(options.steps, options.rates, strict=True)):
        print(f"cycle {cycle + 1}: {steps} steps, rate {rate}", flush=True)
        run_cycle(model, words, scenes, pixels, steps, rate, options.batch, options.seed + cycle)
        save(model, words, options.out)
        print(f"saved after {time.monotonic() - started:.0f} s", flush=True)


def run_cycle(
    model: open_clip.CLIP,
    words: Words,
    scenes: list[Scene],
    pixels: np.ndarray,
    steps: int,
    rate: float,
    batch: int,
    seed: int,
) -> None:
    """Train while the rate rises and falls along a cosine, then load the averaged weights."""
    choose, rng = random.Random(seed), np.random.default_rng(seed)
    model.train()
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=rate, betas=(0.9, 0.98))
    warmup: int = min(150, steps // 10 + 1)

    def schedule(step: int) -> float:
        progress = max(0, step - warmup) / max(1, steps - warmup)
        fall: float = 0.5 + 0.5 * math.cos(math.pi * progress)
        rise: float = min(1.0, (step + 1) / warmup)
        return rise * fall + 1e-3

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    order: list[int] = []
    shown = 0.0
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = choose.sample(range(len(scenes)), len(scenes))
        rows, order = order[:batch], order[batch:]
        chosen = [scenes[row] for row in rows]
        captions = [describe(scene, choose) for scene in chosen]
        images = functional.normalize(model.encode_image(augment(pixels[rows], rng)), dim=-1)
        texts = functional.normalize(model.encode_text(words.tokens(captions, choose)), dim=-1)
        loss = contrastive_loss(images, texts, model.logit_scale.exp(), truth(captions, chosen))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        follow(average, model, min(0.995, step / (step + 10)))
        shown = loss.item() if step == 1 else 0.95 * shown + 0.05 * loss.item()
        if step % 50 == 0:
            print(f"step {step} loss {shown:.3f}", flush=True)
    model.load_state_dict(average.state_dict())


def follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    """Move averaged weights, and BatchNorm's running statistics, a little towards the model's."""
    values = model.state_dict()
    with torch.no_grad():
        for name, mean in average.state_dict().items():
            if mean.is_floating_point() and name != "attn_mask":
                mean.lerp_(values[name], 1 - keep)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the demo's small OpenCLIP model.")
    parser.add_argument("--font", default=DEBIAN_FONT, help="Noto Color Emoji")
    parser.add_argument("--out", type=Path, default=HERE / "model")
    parser.add_argument("--scenes", type=int, default=36_000)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_500, 900], help="of each cycle")
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.5e-3, 1e-3])
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())
