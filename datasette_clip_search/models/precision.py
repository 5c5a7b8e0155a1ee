"""The number format of a run: the fastest one that makes the right vectors."""

import time
from dataclasses import dataclass, field

import numpy as np

from ..common.arrays import Pixels, Vectors
from ..common.config import CONFIG
from ..common.cores import cores, on_all_cores
from ..common.errors import CommandError
from .device import FAITHFUL, torch_settings
from .encoding import PictureEncoder, least_cosine, reference_pixels
from .torch_model import TorchModel

# Float32 multiplied another way is still float32.
SAME = 0.999999
# The least speedup that makes another number format worth using.
WORTHWHILE = 1.15
# How often a format that seems to be no faster is tried.
_TRIES = 3
# How many batches a GPU is timed with: each takes milliseconds.
_GPU_RUNS = 5


@dataclass
class Choice:
    """The chosen format, and notes for the user about it.

    `speedup` compares it with torch's default float32, and `cosine` is the least one to float32's
    vectors of the sample. Both are None where nothing was measured.
    """

    speedup: float | None = None
    cosine: float | None = None
    notes: list[str] = field(default_factory=list)


def use_precision(model: TorchModel, precision: str, sample: Pixels | None) -> Choice:
    """Set a model to a number format, which is tried on a sample of the user's pictures.

    "auto" is the fastest format on this machine whose vectors of the sample have a cosine of at
    least FAITHFUL to float32's. Without a sample it is torch's default float32.

    Raises CommandError for a format that isn't faithful.
    """
    choice = Choice()
    if sample is None and precision in {"auto", "fp32"}:
        return choice
    if sample is None:
        sample = reference_pixels(model.preprocess)
    candidates = _candidates(model, precision)
    if not candidates and not _has_other_products(model.device):
        return choice
    expected, slowest = time_encoding(model, sample)
    for candidate in candidates:
        model.use(model.device, candidate)
        vectors, _ = time_encoding(model, sample)
        cosine = least_cosine(vectors, expected)
        if precision != "auto":
            if not cosine >= FAITHFUL:
                raise CommandError(_unfaithful(model, cosine))
            choice.cosine = cosine
            return choice
        if not cosine >= FAITHFUL:
            choice.notes.append(
                f"Not using {candidate}: it changes this model's vectors (cosine {cosine:.4f})"
            )
        else:
            # Other programs may take the processor meanwhile: only the least time is the format's.
            for _ in range(_TRIES):
                _, seconds = time_encoding(model, sample)
                if slowest / seconds >= WORTHWHILE:
                    choice.speedup, choice.cosine = slowest / seconds, cosine
                    return choice
        model.use(model.device, "fp32")
    # Last, because a processor with instructions for a candidate runs that faster.
    if gain := use_faster_products(model, sample, expected, slowest):
        choice.speedup, choice.cosine = gain
    return choice


def use_faster_products(
    model: TorchModel, sample: Pixels, expected: Vectors, slowest: float
) -> tuple[float, float] | None:
    """Let torch multiply float32 with its other library where that is faster.

    `expected` and `slowest` are the sample's vectors and seconds without it. Return the speedup
    and the least cosine, or None where it isn't used.
    """
    model.matmul = "medium"
    vectors, _ = time_encoding(model, sample)
    _, seconds = time_encoding(model, sample)
    cosine = least_cosine(vectors, expected)
    if cosine >= SAME and slowest / seconds >= WORTHWHILE:
        return slowest / seconds, cosine
    model.matmul = "highest"
    return None


def encode_on_all_cores(encoder: PictureEncoder, pixels: Pixels) -> Vectors:
    """Encode pictures as a run does: on all cores at once, each with a batch of its own."""
    size = len(pixels)
    if encoder.device == "cpu":
        size = min(CONFIG.cpu_batch_size, -(-size // cores()))
    batches = (pixels[at : at + size] for at in range(0, len(pixels), size))
    with torch_settings(encoder.matmul):
        return np.concatenate(list(on_all_cores(encoder.encode_pixels, batches)))


def time_encoding(model: TorchModel, sample: Pixels) -> tuple[Vectors, float]:
    """Return a sample's vectors, and the seconds they took; on a GPU, those of a full batch."""
    if model.device == "cpu":
        started = time.perf_counter()
        vectors = encode_on_all_cores(model, sample)
        return vectors, time.perf_counter() - started
    # A GPU takes as long for a few pictures as for one, and longest for the first batch of a size.
    batch = np.resize(sample, (CONFIG.gpu_batch_size, *sample.shape[1:]))
    vectors = encode_on_all_cores(model, batch)[: len(sample)]
    seconds = []
    for _ in range(_GPU_RUNS):
        started = time.perf_counter()
        encode_on_all_cores(model, batch)
        seconds.append(time.perf_counter() - started)
    return vectors, min(seconds)


def _has_other_products(device: str) -> bool:
    """Tell whether torch has another library here to multiply float32: it rounds differently."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    a, b = (torch.randn(rows, 768, generator=numbers).to(device) for rows in (256, 768))
    products = []
    for matmul in ("highest", "medium"):
        with torch_settings(matmul):
            products.append(torch.mm(a, b))
    return not torch.equal(*products)


def _candidates(model: TorchModel, precision: str) -> list[str]:
    """Return the formats to try besides float32: the one asked for, or those that may be faster."""
    import torch

    device = model.device
    if precision != "auto":
        return [precision] if precision != "fp32" else []
    if device.startswith("cuda"):
        return ["bf16", "fp16"] if torch.cuda.is_bf16_supported() else ["fp16"]
    if device.startswith("mps"):
        return ["fp16"]
    return ["bf16"] if _has_native_bf16() else []


def _has_native_bf16() -> bool:
    """Tell whether the processor multiplies bfloat16 faster than float32.

    Without instructions for it, it is emulated, up to a hundred times as slowly; a few rows show
    which.
    """
    import torch

    def seconds(rows: int, dtype: torch.dtype) -> float:
        a, b = torch.ones(rows, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)
        took = []
        for _ in range(4):
            started = time.perf_counter()
            torch.mm(a, b)
            took.append(time.perf_counter() - started)
        return min(took)

    with torch_settings("highest"):
        return all(
            seconds(rows, torch.bfloat16) < most * seconds(rows, torch.float32)
            for rows, most in ((32, 10), (256, 1))
        )


def _unfaithful(model: TorchModel, cosine: float) -> str:
    return (
        f"{model.checkpoint.label} in {model.precision} on {model.device} makes vectors that "
        f"differ from float32's: cosine {cosine:.4f}, expected at least {FAITHFUL}. "
        "Use --precision auto, which takes the fastest that doesn't"
    )
