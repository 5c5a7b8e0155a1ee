"""How fast each precision is: a model of random weights in all of them, taken in turns.

    python tests/benchmarks/int8.py [--model ViT-B-32] [--pictures N] [--rounds N]

Two threads encode batches of 8 at a time, each on one core, as embed-images does. Prints the
median images a second of each way and their ratio to torch's float32, the least cosine to its
vectors, and what building the int8 tower takes. The processor decides: only with VNNI are int8
products several times as fast as float32's, and only with AVX-512 bf16 or AMX is bf16 fast at all.

Then the limit: how fast torch's libraries multiply matrices of the model's width on two threads,
and how many images a second that would be if a model were nothing else.
"""

import argparse
import copy
import logging
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.utils.flop_counter import FlopCounterMode

from datasette_clip_search.models.towers.int8_session import Int8Session
from datasette_clip_search.models.towers.making.onnx_export import export_tower
from datasette_clip_search.models.towers.making.quantize import calibrate, quantize

THREADS, BATCH = 2, 8
Encode = Callable[[np.ndarray], np.ndarray]


def with_torch(model: torch.nn.Module, dtype: torch.dtype, matmul: str) -> Encode:
    def encode(pixels: np.ndarray) -> np.ndarray:
        torch.set_float32_matmul_precision(matmul)
        with torch.inference_mode():
            return model.encode_image(torch.from_numpy(pixels).to(dtype)).float().numpy()

    return encode


def images_a_second(encode: Encode, pixels: np.ndarray) -> float:
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]

    def work(share: list[np.ndarray]) -> None:
        for batch in share:
            encode(batch)

    threads = [
        threading.Thread(target=work, args=(batches[number::THREADS],)) for number in range(THREADS)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(pixels) / (time.perf_counter() - started)


def gigaflops(multiply: Callable[[], object], operations: int) -> float:
    """Return the billions of operations a second that two threads make, the median of ten."""

    def seconds(_: int) -> float:
        started = time.perf_counter()
        for _ in range(20):
            multiply()
        return (time.perf_counter() - started) / 20

    with ThreadPoolExecutor(THREADS) as pool:
        taken = list(pool.map(seconds, range(10 * THREADS)))
    return THREADS * operations / statistics.median(taken) / 1e9


def print_limits(model: torch.nn.Module, pixels: np.ndarray) -> None:
    """Print what multiplying alone allows, with one picture in `pixels`."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        # In training mode, as attention that is merged into one operator is not counted.
        model.train().encode_image(torch.from_numpy(pixels))
    each = counter.get_total_flops()
    width = model.visual.conv1.out_channels
    rows = BATCH * (model.visual.grid_size[0] * model.visual.grid_size[1] + 1)
    a, b = torch.rand(rows, width), torch.rand(4 * width, width)
    narrow_a, narrow_b = a.bfloat16(), b.bfloat16()
    linear = torch.nn.functional.linear
    ways: dict[str, tuple[str, Callable[[], object]]] = {
        "torch float32": ("highest", lambda: linear(a, b)),
        "torch float32, 'medium'": ("medium", lambda: linear(a, b)),
        "torch bf16": ("highest", lambda: linear(narrow_a, narrow_b)),
    }
    print(f"\n{each / 1e9:.1f} billion operations an image, in products of ({rows}, {width}):")
    print(f"{'products alone':<26}{'images/s':>10}{'GFLOPS':>10}")
    for name, (matmul, multiply) in ways.items():
        torch.set_float32_matmul_precision(matmul)
        speed = gigaflops(multiply, 2 * rows * width * 4 * width)
        print(f"{name:<26}{speed * 1e9 / each:>10.1f}{speed:>10.0f}")


def least_cosine(exact: np.ndarray, other: np.ndarray) -> float:
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(other, axis=1)
    return float(((exact * other).sum(axis=1) / norms).min())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--pictures", type=int, default=32, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    model = open_clip.create_model(arguments.model).eval()
    size = model.visual.image_size
    random = np.random.default_rng(0)
    sample, pixels = (
        random.normal(size=(count, 3, *size)).astype(np.float32)
        for count in (64, arguments.pictures)
    )

    steps = {}
    with tempfile.TemporaryDirectory() as folder:
        exact_file, int8_file = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        export_tower(model, size, exact_file)
        steps["export"] = time.perf_counter() - started
        ranges = calibrate(exact_file, [sample])
        steps["calibrate on 64"] = time.perf_counter() - started - sum(steps.values())
        quantize(exact_file, ranges, int8_file)
        steps["quantise"] = time.perf_counter() - started - sum(steps.values())
        tower = Int8Session(int8_file)
        steps["load"] = time.perf_counter() - started - sum(steps.values())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        exact_tower = Int8Session(exact_file)
    print(f"Built in {sum(steps.values()):.1f} s:", end=" ")
    print(", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items()))
    print(f"Peak memory {peak:.0f} MB, of which torch and the model {before:.0f}\n")

    torch.set_num_threads(1)
    ways: dict[str, Encode] = {
        "torch float32": with_torch(model, torch.float32, "highest"),
        "torch float32, 'medium'": with_torch(model, torch.float32, "medium"),
        "torch bf16": with_torch(copy.deepcopy(model).bfloat16(), torch.bfloat16, "highest"),
        "ONNX Runtime float32": exact_tower.encode,
        "ONNX Runtime int8": tower.encode,
    }
    vectors = {name: encode(pixels[:BATCH]) for name, encode in ways.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, encode in ways.items():
            rates[name].append(images_a_second(encode, pixels))
    print(f"{'way':<26}{'images/s':>10}{'ratio':>8}{'least cosine':>15}")
    for name in ways:
        median = statistics.median(rates[name])
        ratio = statistics.median(
            a / b for a, b in zip(rates[name], rates["torch float32"], strict=True)
        )
        cosine = least_cosine(vectors["torch float32"], vectors[name])
        print(f"{name:<26}{median:>10.1f}{ratio:>8.2f}{cosine:>15.5f}")
    print_limits(model, pixels[:1])


if __name__ == "__main__":
    main()
