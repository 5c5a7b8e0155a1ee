"""What it costs to open an index file that is not believed: the checksum, and the layout.

    python tests/benchmarks/index_checks.py

The layout may take no longer than the checksum, which reads all of the file, too.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from datasette_clip_search.database.changes import Moment
from datasette_clip_search.database.index import (
    Effort,
    Header,
    Index,
    index_path,
    open_index,
    write_index,
)
from datasette_clip_search.database.index.faiss_layout import check_ids, check_layout
from datasette_clip_search.database.index.file import _hash
from datasette_clip_search.database.index.kinds import KINDS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--flat", type=int, default=100_000, help="vectors of the exact index")
    parser.add_argument("--inverted", type=int, default=100_000, help="vectors of the others")
    arguments = parser.parse_args()
    print(f"{'kind':<13}{'vectors':>10}{'MB':>7}{'checksum ms':>13}{'layout ms':>11}{'ratio':>7}")
    for kind in KINDS.values():
        count = arguments.flat if kind.is_exact else arguments.inverted
        with tempfile.TemporaryDirectory() as folder:
            show(kind.name, count, arguments.dimension, Path(folder))


def show(kind: str, count: int, dimension: int, folder: Path) -> None:
    import faiss

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, dimension), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    factory = KINDS[kind].described(count)
    index = cast(Any, faiss).index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    if not KINDS[kind].is_exact:
        index.train(vectors[:20_000])
    index.add(vectors)
    ids = np.arange(count, dtype=np.int64)
    header = Header("f", dimension, count, Moment(0, 0), kind, Effort())
    path = index_path(folder / "p.db", 1)
    write_index(path, Index(index, ids, KINDS[kind]), header)
    del index, vectors
    open_index(path, "f", dimension)
    data = np.fromfile(path, np.uint8)
    end = start_of_ids(data, ids)
    checksum = best(lambda: _hash(data))
    layout = best(lambda: (check_layout(data[:end], header), check_ids(ids)))
    print(
        f"{kind:<13}{count:>10,}{len(data) / 1e6:>7.0f}{checksum:>13.1f}{layout:>11.1f}"
        f"{layout / checksum:>7.2f}"
    )


def start_of_ids(data: Any, ids: Any) -> int:
    """Return where FAISS's part ends: last are a checksum, a length, and ten letters."""
    tail = int(data[-18:-10].view("<u8")[0]) + 32 + 8 + 10
    return len(data) - tail - ids.nbytes


def best(work: Any) -> float:
    """Return the least milliseconds of five runs."""
    took = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return 1000 * min(took)


if __name__ == "__main__":
    main()
