"""Which device and which number format a run uses: the fastest that makes the right vectors."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..common.arrays import Pixels, Vectors
from ..common.config import CONFIG
from ..common.cores import cores, on_all_cores
from ..common.errors import CommandError
from .int8 import quantize as int8
from .int8.quantize import Ranges
from .torch_model import Encoder, PictureEncoder, normalized, reference_pixels
from .towers.int8 import Int8Encoder, Made, made

# The least cosine between a picture's vector and the one that float32 on the CPU makes.
FAITHFUL = 0.999
# Float32 by another way of multiplying is still float32.
SAME = 0.999999
# The least share of each picture's ten nearest pictures that int8 must find as well.
AGREEMENT = 0.95
# What another number format must gain before it is worth having.
WORTHWHILE = 1.15
# How often a format that seems to be no faster is tried.
_TRIES = 3
# How many batches a GPU is timed with: each takes milliseconds.
_GPU_RUNS = 5
INT8_SAMPLE = 144
"""Pictures that int8 is made with: a third of them calibrates it, the others check it."""

_INT8_SAMPLE_AT_LEAST = 30


@dataclass
class Choice:
    """What was chosen, and what the person should hear about it.

    `speedup` is against float32 as torch does it by itself and `cosine` the least one to its
    vectors, of the sample; both None where nothing was measured. `made` is the int8 model where it
    was made in this run.
    """

    speedup: float | None = None
    cosine: float | None = None
    notes: list[str] = field(default_factory=list)
    made: Made | None = None


def use_device(encoder: Encoder, device: str) -> str:
    """Moves an encoder to a torch device, or to the best there is for "auto".

    A device that makes other vectors of a reference picture than the CPU does is not used. Returns
    what to tell about that, or nothing.

    Raises CommandError for a device that is not there.
    """
    chosen = _find_device(device)
    if chosen == "cpu":
        return ""
    pixels = reference_pixels(encoder.preprocess)
    expected = encoder.encode_pixels(pixels)
    try:
        encoder.use(chosen, "fp32")
        cosine = _least_cosine(encoder.encode_pixels(pixels), expected)
        problem = f"makes other vectors than the CPU (cosine {cosine:.4f})"
    except (RuntimeError, NotImplementedError) as error:
        cosine, problem = 0.0, f"can't run the model: {_first_line(error)}"
    if cosine >= FAITHFUL:
        return ""
    encoder.reset()
    return f"The device {chosen} {problem}. Using the CPU"


def use_precision(encoder: Encoder, precision: str, sample: Pixels | None) -> Choice:
    """Sets an encoder to a number format, which is tried on a sample of the person's pictures.

    "auto" is the fastest on this machine among those whose vectors of the sample have a cosine of
    at least FAITHFUL to float32's; without a sample it is float32, as torch does it.

    Raises CommandError for a format that isn't faithful.
    """
    choice = Choice()
    if sample is None and precision in {"auto", "fp32"}:
        return choice
    if sample is None:
        sample = reference_pixels(encoder.preprocess)
    candidates = _candidates(encoder, precision)
    if not candidates and not _has_other_products(encoder.device):
        return choice
    expected, slowest = _timed(encoder, sample)
    for candidate in candidates:
        encoder.use(encoder.device, candidate)
        vectors, _ = _timed(encoder, sample)
        cosine = _least_cosine(vectors, expected)
        if precision != "auto":
            if not cosine >= FAITHFUL:
                raise CommandError(_unfaithful(encoder, cosine))
            choice.cosine = cosine
            return choice
        if not cosine >= FAITHFUL:
            choice.notes.append(
                f"Not using {candidate}: it changes this model's vectors (cosine {cosine:.4f})"
            )
        else:
            # Others may take the processor meanwhile: only the least time is the format's own.
            for _ in range(_TRIES):
                _, seconds = _timed(encoder, sample)
                if slowest / seconds >= WORTHWHILE:
                    choice.speedup, choice.cosine = slowest / seconds, cosine
                    return choice
        encoder.use(encoder.device, "fp32")
    # Slower than any of the candidates on a processor that is made for them.
    if gain := _use_faster_products(encoder, sample, expected, slowest):
        choice.speedup, choice.cosine = gain
    return choice


def make_int8(
    encoder: Encoder, ranges: Ranges | None, sample: Pixels | None
) -> tuple[Int8Encoder, Choice]:
    """Makes an encoder's int8 one: as it was calibrated before, by `ranges`, or by a new sample.

    A third of the sample calibrates. With the rest it is checked that it finds the same nearest
    pictures as float32 does.

    Raises CommandError where it doesn't, EncoderUnavailable where ONNX Runtime is missing.
    """
    choice = Choice()
    encoder.use("cpu", "fp32")
    size = encoder.preprocess.height, encoder.preprocess.width
    if ranges is not None:
        choice.made = made(encoder, *int8.build(encoder.model, size, ranges))
        return Int8Encoder(choice.made.kept), choice
    count = 0 if sample is None else len(sample)
    if sample is None or count < _INT8_SAMPLE_AT_LEAST:
        raise CommandError(
            f"--precision int8 is calibrated and checked with pictures, at least "
            f"{_INT8_SAMPLE_AT_LEAST} of them, and there are {count} to embed. "
            "Use --precision auto"
        )
    is_calibrating = np.arange(count) % 3 == 0
    checked = sample[~is_calibrating]
    few = sample[: CONFIG.precision_sample]
    _use_faster_products(encoder, few, *_timed(encoder, few))
    exact = _encode(encoder, checked)
    batches = (
        normalized(encoder.preprocess, picture[np.newaxis]) for picture in sample[is_calibrating]
    )
    choice.made = made(encoder, *int8.build(encoder.model, size, batches))
    smaller = Int8Encoder(choice.made.kept)
    agreement = int8.agreement(exact, _encode(smaller, checked))
    if agreement < AGREEMENT:
        raise CommandError(
            f"{encoder.checkpoint.label} in int8 finds {agreement:.1%} of the pictures that it "
            f"finds in float32, in a sample of {len(checked)} of yours; expected at least "
            f"{AGREEMENT:.0%}. Use --precision auto, which changes nothing"
        )
    choice.notes.append(
        f"int8 finds {agreement:.1%} of the same ten nearest pictures as fp32, in a sample of "
        f"{len(checked)} of yours"
    )
    return smaller, choice


def _use_faster_products(
    encoder: Encoder, sample: Pixels, expected: Vectors, slowest: float
) -> tuple[float, float] | None:
    """Lets torch multiply float32 by its other library where that is worth it.

    Returns the speedup and the least cosine then, else None.
    """
    encoder.matmul = "medium"
    vectors, _ = _timed(encoder, sample)
    _, seconds = _timed(encoder, sample)
    cosine = _least_cosine(vectors, expected)
    if cosine >= SAME and slowest / seconds >= WORTHWHILE:
        return slowest / seconds, cosine
    encoder.matmul = "highest"
    return None


def _has_other_products(device: str) -> bool:
    """Tells whether torch has another library here that multiplies float32: its sums round anew."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    a, b = (torch.randn(rows, 768, generator=numbers).to(device) for rows in (256, 768))
    products = []
    for matmul in ("highest", "medium"):
        with torch_settings(matmul):
            products.append(torch.mm(a, b))
    return not torch.equal(*products)


def _candidates(encoder: Encoder, precision: str) -> list[str]:
    """Returns the formats to try besides float32: the one asked for, or what may be faster."""
    import torch

    device = encoder.device
    if precision != "auto":
        return [precision] if precision != "fp32" else []
    if device.startswith("cuda"):
        return ["bf16", "fp16"] if torch.cuda.is_bf16_supported() else ["fp16"]
    if device.startswith("mps"):
        return ["fp16"]
    return ["bf16"] if _has_native_bf16() else []


def _has_native_bf16() -> bool:
    """Tells whether the processor multiplies bfloat16 faster than float32.

    Without instructions for it, it is emulated, up to a hundred times as slowly; a few rows tell.
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


@contextmanager
def torch_settings(matmul: str | None) -> Iterator[None]:
    """Has each thread use one core, and sets how torch multiplies float32: for the whole process.

    Threads that all want every core wait for one another longer than they work. Nothing is set for
    None, where torch may not be installed.
    """
    if matmul is None:
        yield
        return
    import torch

    before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision(matmul)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.set_num_threads(before[1])


def _encode(encoder: PictureEncoder, pixels: Pixels) -> Vectors:
    """Encodes pictures as a run does: on all cores at once, each with a batch of its own."""
    size = len(pixels)
    if encoder.device == "cpu":
        size = min(CONFIG.cpu_batch_size, -(-size // cores()))
    batches = (pixels[at : at + size] for at in range(0, len(pixels), size))
    with torch_settings(encoder.matmul):
        return np.concatenate(list(on_all_cores(encoder.encode_pixels, batches)))


def _timed(encoder: Encoder, sample: Pixels) -> tuple[Vectors, float]:
    """Returns the vectors of a sample, and the seconds that it took; of a GPU, for a full batch."""
    if encoder.device == "cpu":
        started = time.perf_counter()
        vectors = _encode(encoder, sample)
        return vectors, time.perf_counter() - started
    # A GPU takes as long for a few as for one, and longest for the first of their kind.
    batch = np.resize(sample, (CONFIG.gpu_batch_size, *sample.shape[1:]))
    vectors = _encode(encoder, batch)[: len(sample)]
    seconds = []
    for _ in range(_GPU_RUNS):
        started = time.perf_counter()
        _encode(encoder, batch)
        seconds.append(time.perf_counter() - started)
    return vectors, min(seconds)


def _least_cosine(vectors: Vectors, expected: Vectors) -> float:
    return float(np.nan_to_num((vectors * expected).sum(axis=1)).min())


def _unfaithful(encoder: Encoder, cosine: float) -> str:
    return (
        f"{encoder.checkpoint.label} in {encoder.precision} on {encoder.device} makes vectors that "
        f"differ from float32's: cosine {cosine:.4f}, expected at least {FAITHFUL}. "
        "Use --precision auto, which takes the fastest that doesn't"
    )


def _find_device(device: str) -> str:
    import torch

    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CommandError(
            f"The device {device} can't be used here: {_first_line(error)}. "
            "Use --device cpu, or leave --device out"
        ) from error
    return device


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
