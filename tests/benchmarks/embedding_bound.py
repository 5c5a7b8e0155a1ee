"""How near embed-images comes to the best that its parts allow.

    python tests/benchmarks/embedding_bound.py [--pictures 1000] [--large 400] [--rounds 3]
        [--precision auto] [--weights FILE] [--cache FOLDER]

With M the pictures a second that the model alone encodes, on all cores, and d the seconds that one
core takes to read, decode and shrink one picture to what the model sees, no pipeline can make more
than 1 / (1/M + d/cores) pictures a second. Prints M, d, that bound, what embed-images reached from
the start of its decoders to the last row, with thumbnails and without, and the ratios, each the
median of the rounds. M and d are measured before and after each run, and its ratio is to the mean
of the two bounds: they drift by several percent within minutes. The model is loaded before: what is
decoded meanwhile would not count. A batch that is left over at the end keeps one core busy and lets
the others wait: of 200 large pictures that is 4%. Weights are random, of ViT-B-32, unless given.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import pictures
import weights
from bound import bound, decoding_alone, model_alone

from datasette_clip_search.common.cores import cores
from datasette_clip_search.embedding import EmbedOptions, embed_images
from datasette_clip_search.embedding.model_loading import RunCache
from datasette_clip_search.models.encoding import PictureEncoder

MODEL = "ViT-B-32"


def whole(folder: Path, options: EmbedOptions, scratch: Path, loaded: RunCache) -> float:
    """Pictures a second of one run, from the start of its decoders to the last row.

    The model is loaded in the first run that shares `loaded`.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        summary = embed_images(Path(place, "photos.db"), [folder], options, cache=loaded)
        if summary.failed or summary.copied:
            sys.exit(f"{len(summary.failed)} failed, {summary.copied} copies")
        return summary.embedded / summary.embedding_seconds


def random_weights(cache: Path) -> Path:
    """Return a weights file of MODEL, which is made where there is none yet."""
    file = cache / f"{MODEL}.safetensors"
    if not file.exists():
        weights.open_clip_file(MODEL, file)
    return file


def corpora(cache: Path, ordinary: int, large: int) -> Iterator[tuple[str, Path]]:
    """Yield what the pictures are, and their folder, which is made where there is none yet."""
    for kind, count in (("ordinary", ordinary), ("large", large)):
        folder = cache / f"{kind}-{count}"
        if count and not folder.exists():
            pictures.make(kind, count, folder)
        if count:
            yield f"{count} {kind}", folder


def used(folder: Path, options: EmbedOptions, scratch: Path) -> tuple[RunCache, PictureEncoder]:
    """Load the model by a run, which also brings the files into the system's memory."""
    loaded = RunCache()
    whole(folder, options, scratch, loaded)
    assert loaded.model is not None
    return loaded, loaded.model.encoder


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
    file = arguments.weights or random_weights(cache)
    options = EmbedOptions(
        model=MODEL, pretrained=str(file), precision=arguments.precision, text_tower="none"
    )
    print(f"{MODEL}, {cores()} cores; medians of {arguments.rounds} rounds")
    print(
        f"{'pictures':<22}{'precision':>10}{'M, 1/s':>9}{'d, ms':>8}{'bound, 1/s':>12}"
        f"{'reached, 1/s':>14}{'ratio':>7}{'no thumbs':>11}{'ratio':>7}"
    )
    for name, folder in corpora(cache, arguments.pictures, arguments.large):
        loaded, encoder = used(folder, options, cache)
        alone = [(model_alone(encoder), decoding_alone(encoder, folder))]
        reached: dict[bool, list[float]] = {True: [], False: []}
        ratios: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * arguments.rounds):
            thumbnails = number % 2 == 0
            each = replace(options, thumbnails=thumbnails)
            reached[thumbnails].append(whole(folder, each, cache, loaded))
            alone.append((model_alone(encoder), decoding_alone(encoder, folder)))
            limit = (bound(*alone[-2]) + bound(*alone[-1])) / 2
            ratios[thumbnails].append(reached[thumbnails][-1] / limit)
        rate, seconds = map(statistics.median, zip(*alone, strict=True))
        ours, bare = map(statistics.median, reached.values())
        ratio, bare_ratio = map(statistics.median, ratios.values())
        print(
            f"{name:<22}{encoder.precision:>10}{rate:>9.1f}{seconds * 1000:>8.1f}"
            f"{bound(rate, seconds):>12.1f}{ours:>14.1f}{ratio:>7.2f}{bare:>11.1f}"
            f"{bare_ratio:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
