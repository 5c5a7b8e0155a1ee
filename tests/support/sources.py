"""Files and archives to search for pictures, and what a search found in them."""

import io
import tarfile
import zipfile
from pathlib import Path

from datasette_clip_search.pictures.sources import (
    FoundPictures,
    find_pictures,
)


def put(folder: Path, *names: str) -> None:
    """Write files whose content is their name."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


def names(found: FoundPictures) -> list[str]:
    return [source.stored for source in found.sources]


def contents(found: FoundPictures) -> dict[str, bytes]:
    return {source.stored: source.read() for source in found.sources}


def search(folder: Path, *arguments: str | Path, **options: object) -> FoundPictures:
    """Find the pictures of arguments below the folder of the database."""
    return find_pictures(
        [str(folder / argument) for argument in arguments or ["."]], folder, **options
    )


KINDS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]


INSIDE = {"a.jpg": b"first", "sub/b.PNG": b"", "sub/c.webp": bytes(range(256)) * 100}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Pack files into an archive, whose name says which kind."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        mode = "w:" if path.suffix == ".tar" else f"w:{path.suffix[1:]}"
        with tarfile.open(path, mode) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path
