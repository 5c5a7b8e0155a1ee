"""How near embed-images comes to the best that its parts allow.

    python tests/benchmarks/embedding_bound.py [--pictures 1000] [--large 400] [--rounds 3]
        [--precision auto] [--weights FILE] [--output FOLDER]

With M the pictures a second that the model alone encodes, on all cores, and d the seconds that one
core takes to read, decode and shrink one picture to what the model sees, no pipeline can make more
than 1 / (1/M + d/cores) pictures a second. Prints M, d, that bound, what embed-images reached from
the first picture to the last row, and the ratio, each the median of rounds taken in turns; and
what thumbnails cost. A batch that is left over at the end keeps one core busy and lets the others
wait: of 200 large pictures that is 4%. Weights are random, of ViT-B-32, unless given.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import pictures
import weights

from datasette_clip_search.config import CONFIG
from datasette_clip_search.embedding import Options, embed_images
from datasette_clip_search.embedding.loading import Loaded
from datasette_clip_search.encoder import Encoder
from datasette_clip_search.pictures.decode import decode, make_thumbnail
from datasette_clip_search.precision import torch_settings
from datasette_clip_search.processors import cores

MODEL = "ViT-B-32"


def model_alone(encoder: Encoder, seconds: float) -> float:
    """Pictures a second that one thread for each core encodes, in batches of the default size."""
    shape = (CONFIG.cpu_batch_size, encoder.preprocess.height, encoder.preprocess.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    done: list[float] = []

    def work() -> None:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            encoder.encode_pixels(pixels)
            count += len(pixels)
        done.append(count / (time.perf_counter() - started))

    with torch_settings(encoder.matmul):
        threads = [threading.Thread(target=work) for _ in range(cores())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(done)


def decoding_alone(encoder: Encoder, files: list[Path], thumbnails: bool) -> float:
    """Median seconds that one thread takes to prepare one picture."""
    took = []
    for file in files:
        started = time.perf_counter()
        picture = decode(file.read_bytes(), smallest_side=encoder.preprocess.smallest_side)
        encoder.preprocess.pixels(picture.image, (picture.width, picture.height))
        if thumbnails:
            make_thumbnail(picture.image)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def whole(folder: Path, options: Options, scratch: Path, loaded: Loaded | None = None) -> float:
    """Pictures a second of one run, from its first picture to the last row; the model is loaded.

    It is loaded anew for each run, while decoders start, as the command does.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        summary = embed_images(Path(place, "photos.db"), [folder], options, loaded=loaded)
        if summary.failed or summary.copied:
            sys.exit(f"{len(summary.failed)} failed, {summary.copied} copies")
        return summary.embedded / summary.embedding_seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--large", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clip-bench")
    arguments = parser.parse_args()
    cache = arguments.cache
    cache.mkdir(exist_ok=True)
    file = arguments.weights or cache / f"{MODEL}.safetensors"
    if not file.exists():
        weights.open_clip_file(MODEL, file)
    options = Options(
        model=MODEL, pretrained=str(file), precision=arguments.precision, text_tower="none"
    )
    print(f"{MODEL}, {cores()} cores; medians of {arguments.rounds} rounds")
    print(
        f"{'pictures':<22}{'precision':>10}{'M, 1/s':>9}{'d, ms':>8}{'bound, 1/s':>12}"
        f"{'reached, 1/s':>14}{'ratio':>7}{'no thumbs':>11}{'ratio':>7}"
    )
    for kind, count in (("ordinary", arguments.pictures), ("large", arguments.large)):
        if not count:
            continue
        folder = cache / f"{kind}-{count}"
        if not folder.exists():
            pictures.make(kind, count, folder)
        files = sorted(folder.iterdir())[:40]
        loaded = Loaded()
        # Also brings the files into the system's memory, for all alike.
        whole(folder, options, cache, loaded)
        encoder = loaded.encoder
        assert encoder is not None
        rates, times, reached, bare = [], [], [], []
        for _ in range(arguments.rounds):
            rates.append(model_alone(encoder, 8))
            times.append(decoding_alone(encoder, files, thumbnails=False))
            reached.append(whole(folder, options, cache))
            without = Options(**{**vars(options), "thumbnails": False})
            bare.append(whole(folder, without, cache))
        rate, seconds = statistics.median(rates), statistics.median(times)
        bound = 1 / (1 / rate + seconds / cores())
        ours, ours_bare = statistics.median(reached), statistics.median(bare)
        print(
            f"{f'{count} {kind}':<22}{encoder.precision:>10}{rate:>9.1f}{seconds * 1000:>8.1f}"
            f"{bound:>12.1f}{ours:>14.1f}{ours / bound:>7.2f}{ours_bare:>11.1f}"
            f"{ours_bare / bound:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
