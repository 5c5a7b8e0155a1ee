"""List the pictures in tar and zip archives, without unpacking anything to disk."""

import bz2
import gzip
import lzma
import os
import posixpath
import tarfile
import zipfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from .exclude import is_hidden
from .found import SearchedPlace, extension_of, kind_of
from .members import DAMAGE, Archive, TapeMember, TarMember, ZipMember, explain_damage
from .source import NOT_REGULAR, Source, printable

# A tar header with a long name is read into memory, and a hostile one claims gigabytes.
MAX_TAR_HEADER_BYTES = 1_000_000

_EXTENSIONS = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz")
_COMPRESSIONS = (".gz", ".bz2", ".xz")
_DECOMPRESSORS = (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile)


@dataclass
class Listing:
    """The pictures in an archive by their normalised names, and counts of its other members.

    `damage` says why the rest of the archive can't be listed.
    """

    members: dict[str, Source] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    excluded: int = 0
    damage: str | None = None


def list_archive(
    path: str, stored: str, info: os.stat_result, place: SearchedPlace
) -> Listing | None:
    """List an archive; return None if the file is not one, by its content.

    A file that is only named like an archive counts as a damaged one.
    """
    lister = _ArchiveLister(Archive(path, info.st_size, info.st_mtime), stored, place)
    try:
        tar = _open_tar(path)
        # A tar that contains a zip looks like a zip, but not the other way round.
        if tar is None and not zipfile.is_zipfile(path):
            damage = "It is named like an archive, but is not a tar or zip file, or is damaged"
            return Listing(damage=damage) if _is_named_like_archive(path) else None
        if tar is not None:
            with tar:
                lister.list_tar(tar)
        else:
            lister.list_zip()
    except DAMAGE as error:
        lister.listing.damage = f"The archive can't be listed in full: {explain_damage(error)}"
    lister.settle_links()
    return lister.listing


def _open_tar(path: str) -> tarfile.TarFile | None:
    for mode in ("r:", "r:gz", "r:bz2", "r:xz"):
        # Decompressors raise errors of their own for files that only begin like their format.
        with suppress(*DAMAGE):
            return tarfile.open(path, mode, tarinfo=_TarInfo)
    return None


def _is_named_like_archive(path: str) -> bool:
    stem, extension = os.path.splitext(path.lower())
    if extension in _COMPRESSIONS:
        return stem.endswith(".tar")
    return extension in _EXTENSIONS


class _TarInfo(tarfile.TarInfo):
    """A tar header, refused if it would fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_TarInfo":
        info = super().frombuf(buf, encoding, errors)
        if info.type in b"gxXLK" and info.size > MAX_TAR_HEADER_BYTES:
            raise tarfile.HeaderError("a header is too long")
        return info


class _ArchiveLister:
    def __init__(self, archive: Archive, stored: str, place: SearchedPlace):
        self.archive = archive
        self.stored = stored
        self.place = place
        self.listing = Listing()
        self.links: dict[str, str] = {}

    def list_tar(self, tar: tarfile.TarFile) -> None:
        assert tar.fileobj is not None
        kind = TapeMember if isinstance(tar.fileobj, _DECOMPRESSORS) else TarMember
        while (info := tar.next()) is not None:
            # tarfile would keep every member; its type stubs don't have this list.
            tar.members = []  # type: ignore[attr-defined]
            if not info.isdir():
                self._add_tar(info, kind)
        # tarfile takes a damaged header for the end of the archive, which is a block of zeros.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("a header is damaged")

    def _add_tar(self, info: tarfile.TarInfo, kind: type[TarMember | TapeMember]) -> None:
        name = self._take(info.name)
        if name is None:
            return
        if info.issym() or info.islnk():
            below = posixpath.dirname(name) if info.issym() else ""
            self.links[name] = _normalise(posixpath.join(below, info.linkname))
            self.listing.members.pop(name, None)
            return
        self.links.pop(name, None)
        if not info.isreg() or info.issparse():
            reason = (
                NOT_REGULAR
                if not info.isreg()
                else "It is stored as a sparse file. Unpack the archive and embed the folder"
            )
            self.listing.members.pop(name, None)
            self.listing.unreadable.append((self._stored(name), reason))
            return
        self._add(name, kind(self._stored(name), info.size, self.archive, info.offset_data))

    def list_zip(self) -> None:
        with zipfile.ZipFile(self.archive.path) as archive:
            for info in archive.infolist():
                if not info.is_dir() and (name := self._take(info.filename)) is not None:
                    self._add(name, ZipMember(self._stored(name), info, self.archive))

    def _take(self, raw: str) -> str | None:
        """Return the name of a member that looks like a picture; count any other."""
        name = _normalise(raw)
        extension = extension_of(name)
        if not name:
            return None
        if any(map(is_hidden, name.split("/"))):
            self.listing.hidden += 1
        elif self.place.exclusion.covers(name):
            self.listing.excluded += 1
        elif extension not in self.place.extensions:
            self.listing.others[kind_of(extension)] += 1
        else:
            return name
        return None

    def _add(self, name: str, member: Source) -> None:
        # Of two members with the same name, the last one wins, as when unpacking.
        self.listing.members.pop(name, None)
        self.listing.members[name] = member

    def _stored(self, name: str) -> str:
        return f"{self.stored}/{name}"

    def settle_links(self) -> None:
        """Skip links to pictures in the archive, and report all other links."""
        for name, target in self.links.items():
            if target not in self.listing.members and target not in self.links:
                reason = "It is a link to something other than a picture in the archive"
                self.listing.unreadable.append((self._stored(name), reason))


def _normalise(name: str) -> str:
    """Return a member's name without a leading slash, `.` and `..`, in printable form."""
    return printable(posixpath.normpath("/" + name.lstrip("/"))[1:])
