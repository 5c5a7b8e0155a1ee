"""The FAISS index and its file: a cache of the vectors in the database.

The file is FAISS's own serialisation followed by a footer of JSON that says what it was built
from, the footer's length, and a magic number: FAISS itself reads such a file, and one atomic
replace brings index and facts together.
"""

import contextlib
import glob
import hashlib
import json
import os
import struct
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from .config import CONFIG

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

MAGIC = b"CLIPFAISS1"
# What FAISS hands over at a time.
_BLOCK = 1 << 20
_LENGTH = struct.Struct("<Q")


class Index(Protocol):
    """The part of a FAISS index that is used here."""

    ntotal: int
    d: int


@dataclass(frozen=True)
class Origin:
    """What an index was built from; equal origins mean equal vectors."""

    fingerprint: str
    revision: int
    dimension: int
    count: int
    metric: str = "cosine"


class IndexUnusable(Exception):
    "An index file is absent, damaged, or of other vectors; the message says which"


def index_path(database: Path, model_id: int) -> Path:
    """Returns where the index of a model of a database is kept: beside it."""
    return database.with_name(f"{database.name}.clip-{model_id}.faiss")


def build(ids: Ids, vectors: Vectors) -> Index:
    """Returns an exact index of (n, d) unit vectors."""
    import faiss

    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, ids)
    return cast(Index, index)


def ids_of(index: Index) -> Ids:
    """Returns the ids (n,) int64 that an index holds, in its order."""
    import faiss

    return cast(Ids, faiss.vector_to_array(cast(Any, index).id_map))


def vectors_of(index: Index) -> Vectors:
    """Returns the vectors (n, d) float32 of an index: its own memory, gone when the index is."""
    import faiss

    flat = cast(Any, faiss.downcast_index(cast(Any, index).index))
    vectors = faiss.rev_swig_ptr(flat.get_xb(), index.ntotal * index.d)
    return cast(Vectors, vectors.reshape(index.ntotal, index.d))


def sample(index: Index, count: int) -> tuple[Ids, Vectors]:
    """Returns at most `count` ids (n,) and vectors (n, d), evenly spread in the index's order."""
    positions = np.linspace(0, index.ntotal - 1, min(count, index.ntotal)).astype(np.int64)
    return ids_of(index)[positions], vectors_of(index)[positions]


def search(
    index: Index, vector: Vectors, k: int, positions: Ids | None = None
) -> tuple[Vectors, Ids]:
    """Returns the k best scores for a (d,) unit vector, best first, and their positions.

    With `positions`, only what stands there in the index is scored. `k` is at most how many
    there are.
    """
    import faiss

    library = cast(Any, faiss)
    _set_threads(index)
    parameters = None
    if positions is not None:
        chosen = np.zeros(index.ntotal, bool)
        chosen[positions] = True
        # A bit for each vector: many times faster than FAISS's selector by ids, of which it
        # hashes every one (tests/benchmarks/within.py).
        selector = library.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
        parameters = library.SearchParameters(sel=selector)
    vectors = library.downcast_index(cast(Any, index).index)
    scores, found = vectors.search(vector.reshape(1, -1), k, params=parameters)
    return scores[0], found[0]


def _set_threads(index: Index) -> None:
    """Lets FAISS search with one thread where more would wait longer than they work.

    By how much is what `tests/benchmarks/query_threads.py` measures.
    """
    import faiss

    many = _all_threads()
    is_small = index.ntotal * index.d <= CONFIG.one_thread_numbers
    faiss.omp_set_num_threads(1 if is_small else many)


@cache
def _all_threads() -> int:
    import faiss

    return int(faiss.omp_get_max_threads())


def write(path: Path, index: Index, origin: Origin) -> None:
    """Writes an index file, or leaves the old one as it was.

    Raises OSError when the disk is full or the folder can't be written.
    """
    import faiss

    _remove_left(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            # FAISS's own writer does not notice a disk that fills up at the end.
            body = _Body(file)
            writer = cast(Any, faiss).PyCallbackIOWriter(body.write, _BLOCK)
            faiss.write_index(cast(Any, index), writer)
            if body.error:
                raise body.error
            facts: dict[str, Any] = {**asdict(origin), "sha256": body.digest.hexdigest()}
            footer = json.dumps(facts).encode()
            file.write(footer + _LENGTH.pack(len(footer)) + MAGIC)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are private; an index is as public as its database.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class _Body:
    """What FAISS writes, on its way to a file; an error waits until FAISS is done."""

    def __init__(self, file: BinaryIO):
        self.digest = hashlib.sha256()
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        try:
            if not self.error:
                self._file.write(data)
        except OSError as error:
            self.error = error


def _remove_left(path: Path) -> None:
    """Removes what runs left that were killed while they wrote this file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > CONFIG.abandoned_after_seconds:
                left.unlink()


def read(path: Path, expected: Origin) -> Index:
    """Reads an index file, or raises IndexUnusable when it is not of the expected vectors."""
    body_hash = check_origin(path, expected)
    import faiss

    data = path.read_bytes()
    footer_length = _LENGTH.unpack(data[-len(MAGIC) - _LENGTH.size : -len(MAGIC)])[0]
    body = data[: -len(MAGIC) - _LENGTH.size - footer_length]
    # FAISS takes a flipped byte for data; only a checksum tells.
    if hashlib.sha256(body).hexdigest() != body_hash:
        raise IndexUnusable("it is damaged: its checksum does not match")
    index = cast(Index, faiss.deserialize_index(np.frombuffer(body, np.uint8)))
    if (index.ntotal, index.d) != (expected.count, expected.dimension):
        raise IndexUnusable("it does not hold what it says")
    return index


def check_origin(path: Path, expected: Origin) -> object:
    """Returns the checksum an index file claims, or raises IndexUnusable for other vectors."""
    facts = read_facts(path)
    body_hash = facts.pop("sha256", None)
    if facts != asdict(expected):
        raise IndexUnusable("it was built from other vectors than the database holds now")
    return body_hash


def read_facts(path: Path) -> dict[str, Any]:
    """Returns what an index file says it was built from, or raises IndexUnusable."""
    tail = len(MAGIC) + _LENGTH.size
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < tail:
                raise IndexUnusable("it is too short to be an index")
            file.seek(size - tail)
            end = file.read(tail)
            length = _LENGTH.unpack(end[: _LENGTH.size])[0]
            if end[_LENGTH.size :] != MAGIC or length > size - tail:
                raise IndexUnusable("it is cut short, or was not written by this program")
            file.seek(size - tail - length)
            facts = json.loads(file.read(length))
    except OSError as error:
        raise IndexUnusable(f"it can't be read: {error.strerror}") from error
    except ValueError as error:
        raise IndexUnusable("it is damaged: its footer can't be read") from error
    if not isinstance(facts, dict):
        raise IndexUnusable("it is damaged: its footer can't be read")
    return facts
