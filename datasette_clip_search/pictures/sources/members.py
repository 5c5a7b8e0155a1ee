"""Members of archives: how the bytes of one are read, whichever thread asks."""

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

# A member is read into memory in one piece; 70 KB of a zip can claim to be a terabyte.
MAX_MEMBER_BYTES = 1_000_000_000

# What the standard library raises for archives that are damaged, or of kinds it does not know.
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

CHANGED = "The archive was changed while it was read. Run the same command again"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}


def explain_damage(error: BaseException) -> str:
    """Returns the reason of one of the errors of `DAMAGE`."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or " ".join(str(error).split()) or type(error).__name__


class Archive:
    """An archive as it was listed. No file is kept open: there may be thousands of archives."""

    __slots__ = ("mtime", "path", "size", "tape")

    def __init__(self, path: str, size: int, mtime: float):
        self.path = path
        self.size = size
        self.mtime = mtime
        self.tape = Tape(self)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Opens the archive, and turns whatever goes wrong meanwhile into PictureErrors."""
        with self.explain_errors(), open(self.path, "rb") as file:
            self.check(file)
            yield file

    def check(self, file: BinaryIO) -> None:
        """Raises PictureUnreadable if the archive is not the one that was listed."""
        info = os.fstat(file.fileno())
        if (info.st_size, info.st_mtime) != (self.size, self.mtime):
            raise PictureUnreadable(CHANGED)

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Turns the errors of reading a member into PictureErrors."""
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
    """A file in an archive; `offset` is where in the archive it begins."""

    __slots__ = ("archive", "offset")

    def __init__(self, stored: str, size: int, archive: Archive, offset: int):
        super().__init__(stored, size)
        self.archive = archive
        self.offset = offset

    @property
    def mtime(self) -> float:
        """Returns the archive's own time: when it is written again, any member may differ."""
        return self.archive.mtime

    def read(self) -> bytes:
        """Returns the member's bytes, never more than it was said to have.

        Raises PictureError for a member over the limit, encrypted or damaged.
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
    """A member of a tar that is not compressed: a range of its bytes."""

    __slots__ = ()

    def _read(self) -> bytes:
        with self.archive.open() as file:
            file.seek(self.offset)
            return file.read(self.size)


class TapeMember(Member):
    """A member of a compressed tar, which can only be read from its beginning on."""

    __slots__ = ()

    in_order: ClassVar[bool] = True

    def _read(self) -> bytes:
        with self.archive.explain_errors():
            return self.archive.tape.read(self.offset, self.size)


class Tape:
    """The one compressed tar that is being read: winds forwards, or else starts again."""

    # More than one at a time is never needed, and each holds a file open.
    _playing: ClassVar["Tape | None"] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, archive: Archive):
        self.archive = archive
        self.file: BinaryIO | None = None
        self.opened = ExitStack()

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes of the tar within. Winding back reads from the beginning again."""
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
                # After an error, decompressors are in no defined state.
                self.close()
                raise

    def open(self) -> BinaryIO:
        """Opens the archive with the decompressor that its first bytes ask for."""
        packed = open(self.archive.path, "rb")  # noqa: SIM115 - close() does
        self.opened.enter_context(packed)
        self.archive.check(packed)
        return cast(BinaryIO, self.opened.enter_context(_unpacked(packed)))

    def close(self) -> None:
        """Closes the archive; the next read opens it again."""
        self.opened.close()
        self.file = None


def _unpacked(packed: BinaryIO) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    """Returns the decompressor that the first bytes of a file ask for."""
    start = packed.read(3)
    packed.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=packed)
    return bz2.BZ2File(packed) if start == b"BZh" else lzma.LZMAFile(packed)


class ZipMember(Member):
    """A member of a zip.

    It is read without `zipfile`, whose reader parses the whole directory of the archive each
    time it is opened, and which would have to be shared between threads.
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
            raise PictureError("Its archive is damaged: it is larger packed than unpacked")
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
        # One byte more than it was said to have is enough to see that it lied.
        if self.method == zipfile.ZIP_DEFLATED:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
        if self.method == zipfile.ZIP_BZIP2:
            return bz2.BZ2Decompressor().decompress(packed, self.size + 1)
        return packed
