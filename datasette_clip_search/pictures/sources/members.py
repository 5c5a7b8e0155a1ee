"""Read the members of archives, from any thread."""

import bz2
import gzip
import lzma
import os
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, ClassVar, cast

from ...common.errors import PictureError, PictureUnreadable
from .source import Source

# Each member is read into memory as a whole, and 70 KB of a zip can claim to be a terabyte.
MAX_MEMBER_BYTES = 1_000_000_000

# The errors of the standard library for archives that are damaged or of unknown kinds.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
)

CHANGED = "The archive changed while it was being read. Run the same command again"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}


def explain_damage(error: BaseException) -> str:
    """Return a reason for any error in `DAMAGE`."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or " ".join(str(error).split()) or type(error).__name__


class Archive:
    """A listed archive. It is not kept open: there may be thousands of archives."""

    __slots__ = ("mtime", "path", "size", "tape")

    def __init__(self, path: str, size: int, mtime: float):
        self.path = path
        self.size = size
        self.mtime = mtime
        self.tape = Tape(self)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the archive, and turn every error until it is closed into a PictureError."""
        with self.explain_errors(), open(self.path, "rb") as file:
            self.check(file)
            yield file

    def check(self, file: BinaryIO) -> None:
        """Raise PictureUnreadable if the archive has changed since it was listed."""
        info = os.fstat(file.fileno())
        if (info.st_size, info.st_mtime) != (self.size, self.mtime):
            raise PictureUnreadable(CHANGED)

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Turn the errors of reading a member into PictureErrors."""
        try:
            yield
        except PictureError:
            raise
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise PictureUnreadable(
                    f"Its archive can't be read: {explain_damage(error)}"
                ) from error
            raise PictureError(f"Its archive is damaged: {explain_damage(error)}") from error


class Member(Source):
    """A file in an archive, which begins at the byte `offset` of the archive."""

    __slots__ = ("archive", "offset")

    def __init__(self, stored: str, size: int, archive: Archive, offset: int):
        super().__init__(stored, size)
        self.archive = archive
        self.offset = offset

    @property
    def mtime(self) -> float:
        """The archive's own time: when it is rewritten, any member may change."""
        return self.archive.mtime

    def read(self) -> bytes:
        """Return the member's bytes, never more than the archive states.

        Raise PictureError for a member that is over the limit, encrypted or damaged.
        """
        if self.size > MAX_MEMBER_BYTES:
            raise PictureError(
                f"It has {self.size / 1e6:,.0f} MB and the limit for files in archives is "
                f"{MAX_MEMBER_BYTES / 1e6:,.0f} MB. Unpack the archive and embed the folder"
            )
        data = self._read()
        if len(data) != self.size:
            raise PictureError(
                f"Its archive is damaged: expected {self.size} bytes and received {len(data)}"
            )
        return data

    def _read(self) -> bytes:
        raise NotImplementedError


class TarMember(Member):
    """A member of an uncompressed tar: a range of its bytes."""

    __slots__ = ()

    def _read(self) -> bytes:
        with self.archive.open() as file:
            file.seek(self.offset)
            return file.read(self.size)


class TapeMember(Member):
    """A member of a compressed tar, which can only be read from its beginning."""

    __slots__ = ()

    in_order: ClassVar[bool] = True

    def _read(self) -> bytes:
        with self.archive.explain_errors():
            return self.archive.tape.read(self.offset, self.size)


class Tape:
    """A compressed tar, read like a tape: forwards, or again from its beginning."""

    # Only one is ever needed at a time, and each keeps a file open.
    _playing: ClassVar["Tape | None"] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, archive: Archive):
        self.archive = archive
        self.file: BinaryIO | None = None
        self.opened = ExitStack()

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the uncompressed tar. For an earlier offset, start again."""
        with Tape._lock:
            if Tape._playing is not self:
                if Tape._playing is not None:
                    Tape._playing.close()
                Tape._playing = self
            try:
                file = self.file = self.file or self.open()
                file.seek(offset)
                return file.read(size)
            except BaseException:
                # After an error, the state of a decompressor is undefined.
                self.close()
                raise

    def open(self) -> BinaryIO:
        """Open the archive with the decompressor that its first bytes ask for."""
        packed = open(self.archive.path, "rb")  # noqa: SIM115 - close() does
        self.opened.enter_context(packed)
        self.archive.check(packed)
        return cast(BinaryIO, self.opened.enter_context(_unpacked(packed)))

    def close(self) -> None:
        """Close the archive; the next read opens it again."""
        self.opened.close()
        self.file = None


def _unpacked(packed: BinaryIO) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    """Return the decompressor that the first bytes of a file ask for."""
    start = packed.read(3)
    packed.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=packed)
    return bz2.BZ2File(packed) if start == b"BZh" else lzma.LZMAFile(packed)


class ZipMember(Member):
    """A member of a zip.

    It is read without `zipfile.ZipFile`, which parses the whole directory of the archive each time
    it is opened, and would have to be shared between threads.
    """

    __slots__ = ("checksum", "is_encrypted", "method", "packed_size")

    def __init__(self, stored: str, info: zipfile.ZipInfo, archive: Archive):
        super().__init__(stored, info.file_size, archive, info.header_offset)
        self.packed_size = info.compress_size
        self.method = info.compress_type
        self.checksum = info.CRC
        self.is_encrypted = bool(info.flag_bits & 1)

    def _read(self) -> bytes:
        if self.is_encrypted:
            raise PictureError("It is encrypted. Unpack the archive and embed the folder")
        if self.method not in _METHODS:
            raise PictureError(
                f"It is compressed by method {self.method}, and only 8 (deflate) and 12 (bzip2) "
                "can be read. Unpack the archive and embed the folder"
            )
        if self.packed_size > MAX_MEMBER_BYTES:
            raise PictureError(
                "Its archive is damaged: the file is larger compressed than uncompressed"
            )
        with self.archive.open() as file:
            file.seek(self.offset)
            header = file.read(30)
            if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
                raise zipfile.BadZipFile("a header is missing")
            name_length, extra_length = struct.unpack("<26x2H", header)
            file.seek(name_length + extra_length, os.SEEK_CUR)
            data = self._unpack(file.read(self.packed_size))
        if zlib.crc32(data) != self.checksum:
            raise PictureError("Its archive is damaged: the checksum of the file differs")
        return data

    def _unpack(self, packed: bytes) -> bytes:
        # One byte more than the stated size is enough to detect a wrong one.
        if self.method == zipfile.ZIP_DEFLATED:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
        if self.method == zipfile.ZIP_BZIP2:
            return bz2.BZ2Decompressor().decompress(packed, self.size + 1)
        return packed
