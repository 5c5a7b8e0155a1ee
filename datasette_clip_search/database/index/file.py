"""The file of an index: mapped into memory, shared by all processes, checked before it is used.

- The file holds FAISS's own serialisation, then the pictures' ids, then the header as JSON, and
  last a checksum of all that, the length of the JSON, and a magic number.
- It is replaced whole, so index and header always belong together.
- The checksum reveals damage. A file made to harm has a valid checksum, so header.py and
  faiss_layout.py accept only what `build_index` makes.
"""

import contextlib
import glob
import hashlib
import json
import os
import stat
import struct
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ...common.config import CONFIG
from ...common.cores import on_all_cores
from ...common.whole_file import replace_file
from .faiss_layout import check_ids, check_layout
from .header import FORMAT, Header, IndexUnusable, parsed
from .index import Index
from .kinds import KINDS

MAGIC = b"CLIPFAISS1"
# The bytes that FAISS hands over at a time.
_BLOCK = 1 << 20
# The bytes hashed in one piece, so that several cores can hash at once.
_PIECE = 1 << 23
_DIGEST = 32
_LENGTH = struct.Struct("<Q")
_TAIL = _DIGEST + _LENGTH.size + len(MAGIC)
_ID = 8
# The longest header in bytes; ours has some 400.
_MAX_HEADER = 10_000


def index_path(database: Path, model_id: int) -> Path:
    """Return the path of the index of a model of a database, which is beside the database."""
    return database.with_name(f"{database.name}.clip-{model_id}.faiss")


def write_index(path: Path, index: Index, header: Header) -> None:
    """Write an index file whole, or leave the old one as it was.

    Raises OSError for a full disk or a read-only folder.
    """
    import faiss

    _remove_abandoned(path)
    with replace_file(path) as file:
        # FAISS's own writer does not notice a disk that fills up at the end.
        body = _Body(file)
        writer = cast(Any, faiss).PyCallbackIOWriter(body.write, _BLOCK)
        faiss.write_index(index.faiss, writer)
        # To be mapped, integers of 8 bytes have to begin at a multiple of 8.
        body.write(bytes(-body.size % _ID))
        ids = index.ids.astype("<i8")
        for start in range(0, len(ids), _BLOCK):
            body.write(ids[start : start + _BLOCK].tobytes())
        if body.error:
            raise body.error
        text = json.dumps(asdict(header)).encode()
        body.write(text)
        if body.error:
            raise body.error
        file.write(body.digest() + _LENGTH.pack(len(text)) + MAGIC)


class _Body:
    """Writes the body of a file and hashes it; an error waits until FAISS is done."""

    def __init__(self, file: BinaryIO):
        self.error: OSError | None = None
        self.size = 0
        self._file = file
        self._digests: list[bytes] = []
        self._piece = hashlib.sha256()
        self._left = _PIECE

    def write(self, data: bytes) -> None:
        self.size += len(data)
        view = memoryview(data)
        while view:
            part, view = view[: self._left], view[self._left :]
            self._piece.update(part)
            self._left -= len(part)
            if not self._left:
                self._digests.append(self._piece.digest())
                self._piece, self._left = hashlib.sha256(), _PIECE
        try:
            if not self.error:
                self._file.write(data)
        except OSError as error:
            self.error = error

    def digest(self) -> bytes:
        last = [self._piece.digest()] if self._left < _PIECE else []
        return hashlib.sha256(b"".join([*self._digests, *last])).digest()


def _remove_abandoned(path: Path) -> None:
    """Remove what killed runs left of this file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > CONFIG.abandoned_after_seconds:
                left.unlink()


def read_header(path: Path) -> Header:
    """Read the header of an index file without checking the file. Raises IndexUnusable."""
    with _opened(path) as file:
        return _header_in(file)[0]


def open_index(path: Path, fingerprint: str, dimension: int) -> tuple[Index, Header]:
    """Map an index file of a model into memory. Raises IndexUnusable.

    The whole file is checked against its checksum and against the layout that this program writes:
    FAISS would take most damaged bytes for data, and a damaged length for memory to allocate.
    """
    import faiss

    with _opened(path) as file:
        header, end = _header_in(file)
        if (header.fingerprint, header.dimension) != (fingerprint, dimension):
            raise IndexUnusable("it holds the vectors of another model")
        try:
            data = np.memmap(file, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise IndexUnusable(f"it can't be mapped into memory: {error}") from error
    if len(data) < _TAIL or _hash(data[:-_TAIL]) != data[-_TAIL:][:_DIGEST].tobytes():
        raise IndexUnusable("it is damaged: its checksum does not match", is_damaged=True)
    # A plain array, because every use of a memmap costs more.
    plain = np.asarray(data)
    ids = plain[end - _ID * header.count : end].view("<i8")
    check_ids(ids)
    check_layout(plain[: end - ids.nbytes], header)
    reader = cast(Any, faiss).ZeroCopyIOReader(faiss.swig_ptr(data), end - ids.nbytes)
    try:
        index = faiss.read_index(reader, cast(Any, faiss).IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise IndexUnusable("this release of FAISS can't read it", is_damaged=True) from error
    return Index(index, ids, KINDS[header.kind], header.effort, (data, reader)), header


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    try:
        # Reading a pipe would never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise IndexUnusable("it can't be read: it is not a regular file")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise IndexUnusable(f"it can't be read: {error.strerror}") from error


def _header_in(file: BinaryIO) -> tuple[Header, int]:
    """Return the header of a file, and the position where it begins."""
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL:
        raise IndexUnusable("it is too short to be an index")
    file.seek(size - _TAIL + _DIGEST)
    tail = file.read()
    length = _LENGTH.unpack(tail[: _LENGTH.size])[0]
    magic = tail[_LENGTH.size :]
    if magic != MAGIC or length > min(size - _TAIL, _MAX_HEADER):
        raise IndexUnusable("it is cut short, or was not written by this program")
    end = size - _TAIL - length
    file.seek(end)
    try:
        said = json.loads(file.read(length))
        if said["format"] != FORMAT or said["kind"] not in KINDS:
            raise IndexUnusable("another release wrote it; run sqlite-utils clip-index")
        header = parsed(said)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise IndexUnusable("it is damaged: its header can't be read") from error
    if not 0 <= header.count * _ID <= end:
        raise IndexUnusable("it is damaged: it does not hold what its header says")
    return header, end


def _hash(data: Any) -> bytes:
    pieces = (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
    digests = on_all_cores(lambda piece: hashlib.sha256(piece).digest(), pieces)
    return hashlib.sha256(b"".join(digests)).digest()
