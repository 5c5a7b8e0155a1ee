"""The torch device of a model, and torch's settings while it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..common.errors import CommandError
from .encoding import least_cosine, reference_pixels
from .torch_model import TorchModel

FAITHFUL = 0.999
"""The least cosine between a picture's vector and the one from float32 on the CPU."""


def use_device(model: TorchModel, device: str) -> str:
    """Move a model to a torch device, or to the best one there is for "auto".

    A device whose vector of a reference picture differs from the CPU's is not used. Return a note
    about that, or an empty string.

    Raises CommandError for a device that is not available.
    """
    chosen = _find_device(device)
    if chosen == "cpu":
        return ""
    pixels = reference_pixels(model.preprocess)
    expected = model.encode_pixels(pixels)
    try:
        model.use(chosen, "fp32")
        cosine = least_cosine(model.encode_pixels(pixels), expected)
        problem = f"makes other vectors than the CPU (cosine {cosine:.4f})"
    except (RuntimeError, NotImplementedError) as error:
        cosine, problem = 0.0, f"can't run the model: {_first_line(error)}"
    if cosine >= FAITHFUL:
        return ""
    model.reset()
    return f"The device {chosen} {problem}. Using the CPU"


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


@contextmanager
def torch_settings(matmul: str | None) -> Iterator[None]:
    """Limit torch to one core per thread and set how it multiplies float32, process-wide.

    Threads that compete for every core wait for one another longer than they work. With None, where
    torch may not be installed, nothing is set.
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
