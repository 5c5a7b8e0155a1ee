"""What no pipeline can surpass on this machine: the model alone, and decoding alone, on all cores.

    python tests/benchmarks/peers/bound.py MODEL WEIGHTS PRECISION FEW FOLDER...

loads the model by embedding the pictures of the folder FEW, which also settle its number format. It
prints, as JSON, the pictures a second that the model encodes (M), and for each folder the seconds
that decoding takes of one core (d) and the bound 1 / (1/M + d/cores): without start-up, hashing,
thumbnails, writing.
"""

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.cores import cores
from datasette_clip_search.embedding import EmbedOptions, embed_images
from datasette_clip_search.embedding.model_loading import RunCache
from datasette_clip_search.models.device import torch_settings
from datasette_clip_search.models.encoding import PictureEncoder
from datasette_clip_search.pictures.decode import decode_picture

# How long the model encodes, and how many pictures are decoded.
SECONDS = 8
FILES = 40


def model_alone(encoder: PictureEncoder) -> float:
    """Pictures a second that one thread for each core encodes, in batches of the default size."""
    shape = (CONFIG.cpu_batch_size, encoder.preprocess.height, encoder.preprocess.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    done: list[float] = []

    def work() -> None:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
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


def decoding_alone(encoder: PictureEncoder, folder: Path) -> float:
    """Seconds that one thread takes to prepare one picture: the mean of some from all over."""
    files = sorted(folder.iterdir())
    chosen = files[:: max(1, len(files) // FILES)]
    started = time.perf_counter()
    for file in chosen:
        picture = decode_picture(file.read_bytes(), smallest_side=encoder.preprocess.smallest_side)
        encoder.preprocess.pixels(picture.image, (picture.width, picture.height))
    return (time.perf_counter() - started) / len(chosen)


def bound(model: float, decoding: float) -> float:
    """Pictures a second, of those that the model makes and the seconds that decoding takes."""
    return 1 / (1 / model + decoding / cores())


def main(model: str, weights: str, precision: str, few: str, *folders: str) -> None:
    loaded = RunCache()
    options = EmbedOptions(model=model, pretrained=weights, precision=precision, text_tower="none")
    with tempfile.TemporaryDirectory() as place:
        embed_images(Path(place, "photos.db"), [few], options, cache=loaded)
    assert loaded.model is not None
    rate = model_alone(loaded.model.encoder)
    seconds = {folder: decoding_alone(loaded.model.encoder, Path(folder)) for folder in folders}
    bounds = {folder: bound(rate, each) for folder, each in seconds.items()}
    print(json.dumps({"model": rate, "seconds": seconds, "bound": bounds}))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(*sys.argv[1:])
