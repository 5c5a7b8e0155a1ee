"""Who takes part: each is made ready once, and then answers queries, ten ids for a vector."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from database import queries, truth, vectors_of
from geometry import DIMENSION, Vectors

from datasette_clip_search.database.index import Index, exact, index_path, open_index
from datasette_clip_search.sql import add_functions

K = 10
# pysqlite3: a SQLite that loads extensions, which Python's own often does not.
PEERS = ("usearch", "numkong", "datasette-faiss==0.2", "pysqlite3-binary")
Search = Callable[[Vectors], list[int]]


class Unusable(Exception):
    """What keeps a contestant from taking part."""


@dataclass
class Job:
    """A database, how many pictures it has, and the folder where what is made of it is kept."""

    file: Path
    count: int
    cache: Path

    @cached_property
    def vectors(self) -> Vectors:
        """All vectors, in memory once for all that need them there."""
        self.need_room()
        return vectors_of(self.count)

    def need_room(self) -> None:
        """Raise Unusable where there is no room for all vectors, and for a copy of them."""
        needed, there = 2 * self.count * DIMENSION * 4, available()
        if needed > there:
            raise Unusable(
                f"it needs all vectors in memory, {needed / 2e9:.1f} GB, and makes another "
                f"{needed / 2e9:.1f} GB of them; there are {there / 1e9:.1f} GB"
            )

    @cached_property
    def base(self) -> Index:
        return open_index(index_path(self.file, 1), "synthetic", DIMENSION)[0]

    @cached_property
    def in_memory(self) -> Any:
        """The same index with FAISS's own flags: all of it in memory, once for all threads."""
        return faiss.read_index(str(index_path(self.file, 1)))


def available() -> int:
    """Return how many bytes of memory programs can still have."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise Unusable("how much memory there is can't be told")


@dataclass(frozen=True)
class Contestant:
    """`ready` makes it ready and returns its search; it raises Unusable for what it can't do."""

    key: str
    name: str
    package: str
    ready: Callable[[Job], Search]

    @property
    def versions(self) -> str:
        return f"{self.package} {version(self.package)}" if self.package else ""


def install(cache: Path) -> None:
    """Install the peers' packages into a folder, without the dependencies that we have."""
    folder = cache / "peers"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        done = subprocess.run([*pip, folder, *PEERS], capture_output=True, text=True)
        if done.returncode:
            print(f"The peers could not be installed: {done.stderr.strip()[-300:]}")
    sys.path.append(str(folder))


def ours(job: Job) -> Search:
    connection = sqlite3.connect(job.file, check_same_thread=False)
    add_functions(connection)
    sql = "select rank, id, path, score from clip_search(?, ?)"

    def search(vector: Vectors) -> list[int]:
        return [id for _, id, _, _ in connection.execute(sql, [vector.tobytes(), K])]

    return search


def _parameters(base: Index) -> tuple[faiss.SearchParameters | None, int]:
    """Return what FAISS is asked for the search that ours makes of it."""
    if base.kind.is_exact:
        # Ours looks further where these aren't enough.
        return faiss.IndexRefineSearchParameters(k_factor=exact.candidates(K) / K), K
    lists, candidates = base.effort.for_(K, base.lists)
    return faiss.SearchParametersIVF(nprobe=lists), candidates


def raw_faiss(job: Job) -> Search:
    base, index = job.base, job.in_memory
    parameters, candidates = _parameters(base)

    def search(vector: Vectors) -> list[int]:
        faiss.omp_set_num_threads(1)
        _, found = index.search(vector[np.newaxis], candidates, params=parameters)
        return [position + 1 for position in found[0][:K].tolist()]

    return search


def faiss_and_sql(job: Job) -> Search:
    """The shortest program that answers the same: FAISS, then the rows, ranked by the vectors."""
    base, index = job.base, job.in_memory
    parameters, candidates = _parameters(base)
    connection = sqlite3.connect(job.file, check_same_thread=False)

    def search(vector: Vectors) -> list[int]:
        faiss.omp_set_num_threads(1)
        _, found = index.search(vector[np.newaxis], candidates, params=parameters)
        ids = [position + 1 for position in found[0].tolist()]
        if not base.kind.is_exact:
            marks = ",".join("?" * len(ids))
            sql = (
                "select image_id, embedding from clip_embeddings "
                f"where model_id = 1 and image_id in ({marks})"
            )
            rows = connection.execute(sql, ids).fetchall()
            vectors = np.frombuffer(b"".join(blob for _, blob in rows), "<f4")
            scores = vectors.reshape(len(rows), -1) @ vector
            ids = [rows[place][0] for place in np.argsort(-scores)[:K]]
        sql = f"select id, path from images where id in ({','.join('?' * len(ids))})"
        paths = dict(connection.execute(sql, ids))
        return [id for id in ids if paths[id]]

    return search


def sqlite_vec(job: Job) -> Search:
    """A vec0 table, asked by its `match`, and the pictures' rows."""
    import sqlite_vec as package

    try:
        from pysqlite3 import dbapi2 as driver
    except ImportError:
        driver = sqlite3
    file = job.cache / f"vec0-{job.count}.db"

    def connect(path: Path) -> sqlite3.Connection:
        connection = driver.connect(path, check_same_thread=False)
        try:
            connection.enable_load_extension(True)
        except AttributeError as error:
            raise Unusable("this Python's sqlite3 loads no extensions") from error
        package.load(connection)
        return connection

    if not file.exists():
        part = file.with_name(f"making-{file.name}")
        part.unlink(missing_ok=True)
        with closing(connect(part)) as connection:
            connection.execute("pragma synchronous = off")
            connection.execute(
                "create virtual table vec using vec0("
                f"embedding float[{DIMENSION}] distance_metric=cosine)"
            )
            connection.execute("attach ? as photos", [str(job.file)])
            with connection:
                connection.execute(
                    "insert into vec (rowid, embedding) "
                    "select image_id, embedding from photos.clip_embeddings"
                )
        part.rename(file)
    connection = connect(file)
    sql = "select rowid from vec where embedding match ? and k = ?"

    def search(vector: Vectors) -> list[int]:
        return [id for (id,) in connection.execute(sql, [vector.tobytes(), K])]

    return search


def datasette_faiss(job: Job) -> Search:
    """Its documented SQL; its index is what it makes at startup, an IndexFlatL2.

    It makes that of Python's numbers, 16 KB for a vector: of many, its index is filled from an
    array instead.
    """
    try:
        import datasette_faiss as package
    except ImportError as error:
        raise Unusable("it could not be installed") from error
    connection = sqlite3.connect(job.file, check_same_thread=False)
    package.prepare_connection(connection)
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(job.vectors)
    key = "photos", "clip_embeddings"
    package.indexes[key] = index
    package.index_ids[key] = list(range(1, job.count + 1))
    sql = """with related as (
          select value from json_each(faiss_search('photos', 'clip_embeddings', ?, ?))
        )
        select id, path from images, related where id = value"""

    def search(vector: Vectors) -> list[int]:
        faiss.omp_set_num_threads(ALL_THREADS)
        return [id for id, _ in connection.execute(sql, [vector.tobytes(), K])]

    return search


def rclip(job: Job) -> Search:
    """What rclip 3.3.0 does with its vectors once they are in memory (model.py, line 201)."""
    features = job.vectors

    def search(vector: Vectors) -> list[int]:
        similarities = vector @ features.T
        ranked = sorted(
            zip(similarities, range(features.shape[0]), strict=True),
            key=lambda pair: pair[0],
            reverse=True,
        )
        return [place + 1 for _, place in ranked[:K]]

    return search


def rclip_command(job: Job) -> Search:
    """The same as its command does it, which reads all vectors for every search."""
    job.need_room()

    def search(vector: Vectors) -> list[int]:
        with closing(sqlite3.connect(job.file)) as connection:
            rows = connection.execute("select image_id, embedding from clip_embeddings")
            features = np.stack([np.frombuffer(blob, np.float32) for _, blob in rows])
        similarities = vector @ features.T
        ranked = sorted(
            zip(similarities, range(features.shape[0]), strict=True),
            key=lambda pair: pair[0],
            reverse=True,
        )
        return [place + 1 for _, place in ranked[:K]]

    return search


def usearch(job: Job) -> Search:
    """Its HNSW index with its own settings."""
    try:
        from usearch.index import Index
    except ImportError as error:
        raise Unusable("it could not be installed") from error
    file = job.cache / f"usearch-{job.count}.index"
    index = Index(ndim=DIMENSION, metric="cos")
    if not file.exists():
        started = time.perf_counter()
        for start in range(0, job.count, 10_000):
            part = job.vectors[start : start + 10_000]
            index.add(np.arange(start + 1, start + len(part) + 1), part)
            if time.perf_counter() - started > BUILD_SECONDS:
                raise Unusable(
                    f"building its index was stopped after {BUILD_SECONDS} s, "
                    f"with {start + len(part)} of {job.count} vectors added"
                )
        index.save(file)
        took = time.perf_counter() - started
        file.with_suffix(".seconds").write_text(f"{took:.1f}")
    index = Index.restore(file, view=False)

    def search(vector: Vectors) -> list[int]:
        return [int(id) for id in index.search(vector, K).keys]

    return search


def usearch_harder(job: Job) -> Search:
    """The same index, which looks at twice as many until it finds 0.98 of pictures and texts."""
    usearch(job)
    from usearch.index import Index

    index = Index.restore(job.cache / f"usearch-{job.count}.index", view=False)
    asked, answers = queries(), truth(job.file)
    while True:
        found = index.search(asked, K).keys.astype(np.int64)
        shares = [len(set(ids) & set(truly)) / K for ids, truly in zip(found, answers, strict=True)]
        if min(np.mean(shares[::2]), np.mean(shares[1::2])) >= 0.98:
            break
        if index.expansion_search > 10_000:
            raise Unusable("it did not reach a recall of 0.98")
        index.expansion_search *= 2

    def search(vector: Vectors) -> list[int]:
        return [int(id) for id in index.search(vector, K).keys]

    return search


def faiss_flat(job: Job) -> Search:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(job.vectors)

    def search(vector: Vectors) -> list[int]:
        faiss.omp_set_num_threads(1)
        return [place + 1 for place in index.search(vector[np.newaxis], K)[1][0].tolist()]

    return search


ALL_THREADS = faiss.omp_get_max_threads()
# What building one peer's index may take.
BUILD_SECONDS = 900

CONTESTANTS = [
    Contestant("ours", "ours, `clip_search`", "datasette-clip-search", ours),
    Contestant("faiss", "FAISS alone, the same index and effort", "faiss-cpu", raw_faiss),
    Contestant("sql", "the same, exact ranking and rows by SQL", "faiss-cpu", faiss_and_sql),
    Contestant("flat", "FAISS, exact (`IndexFlatIP`)", "faiss-cpu", faiss_flat),
    Contestant("usearch", "USearch, HNSW as it comes", "usearch", usearch),
    Contestant("usearch-98", "USearch, searching until recall 0.98", "usearch", usearch_harder),
    Contestant("vec0", "sqlite-vec, `vec0`", "sqlite-vec", sqlite_vec),
    Contestant("datasette-faiss", "datasette-faiss", "datasette-faiss", datasette_faiss),
    Contestant("rclip", "rclip's search, vectors in memory", "", rclip),
    Contestant("rclip-command", "rclip's search, as its command does", "", rclip_command),
]
