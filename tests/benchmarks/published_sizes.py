"""Measure the size of what clip-publish writes, by its options.

    python tests/benchmarks/published_sizes.py [--pictures 20000] [--thumbnail-bytes 10000]

Makes a database of vectors of 512 numbers and of JPEG thumbnails of about the given size, then
publishes it with each set of options. There is no text tower, so that a real file has one on top.
"""

import argparse
import io
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

ROOT = Path(__file__).parent.parent.parent
OPTIONS = (
    "",
    "--vectors fp16",
    "--vectors fp16 --thumbnail-size 160",
    "--vectors fp16 --no-thumbnails",
)


def jpeg(size: int, random: np.random.Generator) -> bytes:
    """Return a JPEG of 400 x 300 pixels with about so many bytes: blurred noise."""
    noise = Image.fromarray(random.integers(0, 256, (300, 400, 3), np.uint8))
    for quality in (75, 60, 45, 30):
        for radius in range(1, 12):
            data = io.BytesIO()
            noise.filter(ImageFilter.GaussianBlur(radius)).save(data, "JPEG", quality=quality)
            if len(data.getvalue()) <= size:
                return data.getvalue()
    raise ValueError(f"No thumbnail has {size} bytes")


def make(file: Path, pictures: int, thumbnail_bytes: int) -> None:
    """Copy the demo's pictures until there are enough, each with a vector of 512 numbers."""
    command = [sys.executable, "-m", "sqlite_utils", "embed-images", file, ROOT / "demo/pictures"]
    options = ["--pretrained", ROOT / "demo/model", "--text-tower", "none", "--silent"]
    subprocess.run([*command, *options], check=True)
    facts = "content_hash, size, mtime, width, height, format, taken, camera"
    random = np.random.default_rng(0)
    thumbnails = [jpeg(thumbnail_bytes, random) for _ in range(20)]
    with closing(sqlite3.connect(file)) as connection, connection:
        (known,) = connection.execute("select max(id) from images").fetchone()
        connection.execute("delete from clip_embeddings")
        connection.execute("delete from clip_thumbnails")
        connection.execute("update clip_models set dimension = 512")
        for id in range(1, pictures + 1):
            if id > known:
                connection.execute(
                    f"insert into images (id, path, {facts}) select ?, ?, {facts} from images "
                    "where id = ?",
                    [id, f"pictures/more/IMG_{id:06}.jpg", 1 + id % known],
                )
            vector = random.normal(size=512) + 1
            vector = (vector / np.linalg.norm(vector)).astype("<f4").tobytes()
            row = [id, vector]
            sql = "insert into clip_embeddings (model_id, image_id, embedding) values (1, ?, ?)"
            connection.execute(sql, row)
            sql = "insert into clip_thumbnails (image_id, format, data) values (?, 'jpeg', ?)"
            connection.execute(sql, [id, thumbnails[id % len(thumbnails)]])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--thumbnail-bytes", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, published = Path(folder, "photos.db"), Path(folder, "published.db")
        make(home, options.pictures, options.thumbnail_bytes)
        print("| options | MB |\n| --- | ---: |")
        for chosen in OPTIONS:
            command = [sys.executable, "-m", "sqlite_utils", "clip-publish", home, published]
            subprocess.run([*command, *chosen.split(), "--silent"], check=True)
            print(
                f"| {f'`{chosen}`' if chosen else 'none'} | {published.stat().st_size / 1e6:.0f} |"
            )


if __name__ == "__main__":
    main()
