"""How near embed-images comes to what decoding allows, for machines whose GPU does the rest.

    python tests/benchmarks/decoding_bound.py [--pictures 6000] [--large 480] [--rounds 3]
        [--cache FOLDER]

Where a GPU runs the model, the processor's cores decode and make thumbnails, and no pipeline can
make more pictures a second than they do. Prints for each kind of picture what all cores decode at
once, with nothing else to do; what embed-images reached from the start of its decoders to the last
row; and the ratio: medians of rounds taken in turns. Without a GPU the model is the limit, see
embedding_bound.py. Weights are random, of ViT-B-32.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from embedding_bound import MODEL, corpora, random_weights, used, whole

from datasette_clip_search.common.cores import cores
from datasette_clip_search.embedding import EmbedOptions
from datasette_clip_search.pictures.decode import decode_picture, make_thumbnail
from datasette_clip_search.pictures.preprocess import Preprocess


def decode_some(files: Sequence[Path], identity: Mapping[str, Any]) -> None:
    """Do for some pictures all that a decoding process does, except hashing and answering."""
    preprocess = Preprocess.from_identity(identity)
    for file in files:
        picture = decode_picture(file.read_bytes(), smallest_side=preprocess.smallest_side)
        preprocess.model_input(picture.image, (picture.width, picture.height))
        make_thumbnail(picture.image)


def on_all_cores(folder: Path, identity: Mapping[str, Any]) -> float:
    """Return the pictures a second that all cores decode at once, in processes that run already."""
    files = sorted(folder.iterdir())
    shares = [files[start :: 4 * cores()] for start in range(4 * cores())]
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        list(pool.map(decode_some, [files[:4]] * 2 * cores(), [identity] * 2 * cores()))
        started = time.perf_counter()
        list(pool.map(decode_some, shares, [identity] * len(shares)))
        return len(files) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--large", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clip-bench")
    arguments = parser.parse_args()
    cache = arguments.cache
    cache.mkdir(exist_ok=True)
    options = EmbedOptions(model=MODEL, pretrained=str(random_weights(cache)), text_tower="none")
    print(f"{MODEL}, {cores()} cores; medians of {arguments.rounds} rounds")
    print(f"{'pictures':<22}{'decoded, 1/s':>14}{'reached, 1/s':>14}{'ratio':>7}  model")
    for name, folder in corpora(cache, arguments.pictures, arguments.large):
        loaded, encoder = used(folder, options, cache)
        rounds = [
            (
                on_all_cores(folder, encoder.preprocess.identity),
                whole(folder, options, cache, loaded),
            )
            for _ in range(arguments.rounds)
        ]
        allowed, reached = map(statistics.median, zip(*rounds, strict=True))
        ratio = statistics.median(ours / most for most, ours in rounds)
        print(
            f"{name:<22}{allowed:>14.0f}{reached:>14.0f}{ratio:>7.2f}"
            f"  {encoder.device}, {encoder.precision}",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
