"""What a text query costs with the kept text tower and with torch, in turns, in new processes.

    python tests/benchmarks/text_tower.py [--rounds N] [--texts N] [--before FOLDER]

For a ViT-B-32 of random weights and for the demo's model: how long from the start of Python to the
first vector, of which how long to encode it; the median of later texts; resident memory; and the
bytes that are read for it. A tower comes from a database, as queries do, and so does torch: with
the checkpoint that the database names. The last column is ours divided by torch's.

With --before, a checkout of other code takes torch's place, and a warm query may take 1 ms more.
"""

import argparse
import json
import logging
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
# Caption-like, and of different lengths.
CAPTION = "a dog on the beach in the evening sun with its ball beside two people who walk"

PROCESS = """
import json, sqlite3, sys, time
started = time.perf_counter()
from datasette_clip_search.database.model import default_model
from datasette_clip_search.{module} import {function}
connection = sqlite3.connect(sys.argv[1])
_, model = default_model(connection)
encoder = {function}(connection, model)
vectors = encoder.encode_texts(["a dog"])
first = time.perf_counter() - started
texts, times = json.loads(sys.argv[2]), []
for text in texts:
    at = time.perf_counter()
    encoder.encode_texts([text])
    times.append(time.perf_counter() - at)
memory = int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
print(json.dumps({{"first": first, "warm": sorted(times)[len(times) // 2] * 1000,
                   "memory": memory, "vector": vectors[0].tolist()}}))
"""
WAYS = {
    "ours": ("models.queries.text_encoder", "text_encoder_of"),
    "torch": ("models.queries.torch_models", "torch_model_of"),
}
# What a warm query may take more than before towers were judged, in milliseconds.
MORE = 1.0


def random_model(folder: Path) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def embed(folder: Path, model: Path) -> Path:
    from datasette_clip_search.embedding import EmbedOptions, embed_images

    database = folder / f"{model.name}.db"
    # Pictures that are few enough not to be counted, as random weights find none better.
    pictures = sorted((ROOT / "demo" / "pictures").glob("**/*.jpg"))[:8]
    options = EmbedOptions(model=model.name, pretrained=str(model), precision="fp32")
    print(embed_images(database, pictures, options).text_tower)
    return database


def once(way: str, database: Path, texts: list[str], tree: Path) -> dict[str, float]:
    module, function = WAYS.get(way, WAYS["ours"])
    code = PROCESS.format(module=module, function=function)
    result = subprocess.run(
        [sys.executable, "-c", code, database, json.dumps(texts)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    trees = (
        {"ours": ROOT, "before": arguments.before}
        if arguments.before
        else dict.fromkeys(WAYS, ROOT)
    )
    other = list(trees)[1]
    logging.disable(logging.WARNING)
    words = CAPTION.split()
    texts = [" ".join(words[: 1 + number % 16]) for number in range(arguments.texts)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "ViT-B-32-random")
        folder.mkdir()
        for model in (random_model(folder), ROOT / "demo" / "model"):
            database = embed(Path(temporary), model)
            with closing(sqlite3.connect(database)) as connection:
                sql = "select sum(length(data)) from clip_towers"
                sizes = {"ours": connection.execute(sql).fetchone()[0] / 1e6}
            sizes["torch"] = (model / "open_clip_model.safetensors").stat().st_size / 1e6
            found: dict[str, list[dict[str, float]]] = {way: [] for way in trees}
            for _ in range(arguments.rounds):
                for way, tree in trees.items():
                    found[way].append(once(way, database, texts, tree))
            print(f"\n{model.name}: medians of {arguments.rounds} rounds of {len(texts)} texts")
            print(f"{'':<24}{'ours':>10}{other:>10}{'ratio':>8}")
            for name, unit in (("first", "s"), ("warm", "ms"), ("memory", "MB")):
                ours, theirs = (
                    statistics.median(figures[name] for figures in found[way]) for way in trees
                )
                print(f"{name + ', ' + unit:<24}{ours:>10.2f}{theirs:>10.2f}{ours / theirs:>8.3f}")
                if name == "warm" and arguments.before:
                    more = ours - theirs
                    label = "more, and the limit, ms"
                    print(f"{label:<24}{more:>10.2f}{MORE:>10.2f}{more / MORE:>8.3f}")
            if arguments.before:
                continue
            ratio = sizes["ours"] / sizes["torch"]
            print(f"{'file, MB':<24}{sizes['ours']:>10.1f}{sizes['torch']:>10.1f}{ratio:>8.3f}")
            cosine = np.dot(found["ours"][0]["vector"], found["torch"][0]["vector"])
            print(f"cosine of the first text's vectors: {cosine:.5f}")


if __name__ == "__main__":
    main()
