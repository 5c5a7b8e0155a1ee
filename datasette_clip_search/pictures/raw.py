"""Camera RAW: use LibRaw to read the preview that the camera put into the file.

Most RAW files are TIFFs whose first picture is a tiny thumbnail, which Pillow would take for the
picture. They are therefore recognised by name.
"""

import io
from pathlib import PurePath
from typing import Any, NamedTuple

from PIL import ExifTags, Image

from ..common.errors import PictureError
from .exif import Facts, facts_from_exif
from .formats import RAW_EXTENSIONS
from .reasons import check_megapixels

# Magic bytes of some makers, for files without a name; the other makers' files look like TIFF.
_BEGINNINGS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
_NOT_RAW = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM")

# LibRaw's flips as EXIF orientations.
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}


class Preview(NamedTuple):
    """The preview in a RAW file.

    `pixels` are the bytes of a JPEG, or an image. `orientation` is the EXIF orientation still to
    undo, or None if the JPEG's own EXIF has it. `width` and `height` are the full size of the
    upright picture.
    """

    pixels: bytes | Image.Image
    orientation: int | None
    width: int
    height: int
    format: str
    facts: Facts


def is_raw(data: bytes, name: str) -> bool:
    """Return whether a file is camera RAW, by its name or its maker's magic bytes."""
    if data.startswith(_BEGINNINGS) or data[4:12] == b"ftypcrx " or data[8:10] == b"CR":
        return True
    return PurePath(name).suffix.lower() in RAW_EXTENSIONS and not data.startswith(_NOT_RAW)


def open_raw(data: bytes, name: str, max_megapixels: float) -> Preview:
    """Return the largest preview of a RAW file, or else the picture developed at half its size.

    Raise PictureError if rawpy is missing or LibRaw can't read the file.
    """
    try:
        import rawpy
    except ImportError as error:
        raise PictureError(
            "It is camera RAW, which only rawpy can read. Install it: "
            "pip install 'datasette-clip-search[raw]'"
        ) from error
    format = PurePath(name).suffix[1:].upper() or "RAW"
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            sizes = raw.sizes
            check_megapixels(sizes.width, sizes.height, max_megapixels)
            turned = sizes.flip in (5, 6)
            width, height = (sizes.height, sizes.width) if turned else (sizes.width, sizes.height)
            pixels, orientation = _pixels(rawpy, raw)
    except rawpy.LibRawError as error:
        raise PictureError(f"LibRaw can't read it as camera RAW: {_text(error)}") from error
    return Preview(pixels, orientation, width, height, format, _facts(data))


def _pixels(rawpy: Any, raw: Any) -> tuple[bytes | Image.Image, int | None]:
    try:
        preview = raw.extract_thumb()
    except (
        rawpy.LibRawNoThumbnailError,
        rawpy.LibRawUnsupportedThumbnailError,
        rawpy.NotSupportedError,
    ):
        # LibRaw has already turned the developed picture upright.
        return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True)), 1
    flip, sizes = raw.sizes.flip, raw.sizes
    if preview.format == rawpy.ThumbFormat.BITMAP:
        image = Image.fromarray(preview.data)
        return image, _left_to_do(flip, sizes, image.size)
    with Image.open(io.BytesIO(preview.data), formats=("JPEG",)) as image:
        exif = image.getexif()
        # LibRaw adds EXIF with the RAW file's orientation to a preview that has none.
        by_libraw = str(exif.get(ExifTags.Base.Software, "")).startswith("dcraw")
        says = ExifTags.Base.Orientation in exif and not by_libraw
        return bytes(preview.data), None if says else _left_to_do(flip, sizes, image.size)


def _left_to_do(flip: int, sizes: Any, preview: tuple[int, int]) -> int:
    if flip in (5, 6) and (preview[0] > preview[1]) != (sizes.width > sizes.height):
        # Some cameras store the preview already turned.
        return 1
    return _ORIENTATIONS.get(flip, 1)


def _facts(data: bytes) -> Facts:
    """Return the facts of a RAW file that is a TIFF, or is one except for its first bytes."""
    if data[:2] not in (b"II", b"MM"):
        return Facts()
    magic = b"II*\0" if data[:2] == b"II" else b"MM\0*"
    exif = Image.Exif()
    try:
        exif.load(magic + data[4:])
    except Exception:
        # Makers write tags in their own ways, and the picture is still useful.
        return Facts()
    return facts_from_exif(exif)


def _text(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    text = message.decode("latin-1") if isinstance(message, bytes) else str(message)
    return text or type(error).__name__
