"""Decode a picture file: turn it upright and convert it to 8-bit sRGB."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, JpegImagePlugin

from ..common.config import CONFIG
from ..common.errors import NotEnoughMemory, PictureError
from .colour import to_srgb
from .exif import Facts, read_exif
from .formats import WEB_FORMATS, picture_extensions, picture_formats
from .raw import Preview, is_raw, open_raw
from .reasons import check_megapixels, explain_decode_error
from .thumbnail import THUMBNAIL_FORMAT, make_thumbnail

__all__ = [
    "THUMBNAIL_FORMAT",
    "WEB_FORMATS",
    "Picture",
    "decode_picture",
    "make_thumbnail",
    "picture_extensions",
    "picture_formats",
    "without_pillow_limit",
]


@dataclass(frozen=True)
class Picture:
    """A decoded picture: upright RGB pixels, and the facts in its file.

    `width` and `height` are the full size of the upright picture, in pixels. `image` may be
    smaller.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    facts: Facts


# The transposition that undoes each EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_picture(
    data: bytes,
    smallest_side: int | None = None,
    max_megapixels: float = CONFIG.max_megapixels,
    max_decoded_megapixels: float | None = None,
    formats: tuple[str, ...] | None = None,
    *,
    longest_side: int = 0,
    name: str = "",
) -> Picture:
    """Decode the bytes of a picture file to upright 8-bit sRGB on white.

    With `smallest_side`, a JPEG may be decoded at a reduced scale whose shorter side is at least
    twice that many pixels: resizing to `smallest_side` later gives the same result. With
    `longest_side`, for a thumbnail, the longer side is at least that many pixels.
    `max_megapixels` limits the picture's full size, `max_decoded_megapixels` its size at the
    reduced scale. `formats` are the only ones to try, by Pillow's names. Without them, a `name`
    with a camera RAW extension selects the preview in the file.

    Raise PictureError, whatever is wrong with the bytes.
    """
    scale = _Scale(smallest_side, longest_side, max_decoded_megapixels)
    try:
        if formats is None and is_raw(data, name):
            return _decode_raw(open_raw(data, name, max_megapixels), scale, max_megapixels)
        return _decode(data, scale, max_megapixels, formats or picture_formats())
    except PictureError:
        raise
    except MemoryError as error:
        raise NotEnoughMemory(explain_decode_error(error, data)) from error
    except Exception as error:
        # For odd files, Pillow raises a dozen kinds of exception, most of them built-in ones.
        raise PictureError(explain_decode_error(error, data)) from error


def _decode(
    data: bytes,
    scale: "_Scale",
    max_megapixels: float,
    formats: tuple[str, ...],
    orientation: int | None = None,
) -> Picture:
    with Image.open(io.BytesIO(data), formats=formats) as image:
        width, height = image.size
        check_megapixels(width, height, max_megapixels)
        format = image.format or "unknown"
        facts = read_exif(image)
        scale.reduce(image)
        loaded: Image.Image = image
        try:
            image.load()
        except OSError as error:
            if format not in {"JPEG", "MPO"} or "truncated" not in str(error):
                raise
            # Importing numpy takes longer than decoding most pictures.
            from .truncated import load_truncated

            loaded = load_truncated(data, image, scale.open)
        turn = orientation or facts.orientation
        # Pillow turns a TIFF itself, and pillow-heif a HEIC, whose orientation then reads 1.
        if format != "TIFF" and turn > 1:
            loaded = loaded.transpose(_UPRIGHT[turn])
            width, height = (height, width) if turn >= 5 else (width, height)
        upright = to_srgb(loaded)
    # No metadata leaves this function except the facts.
    upright.info = {}
    return Picture(upright, format, width, height, facts)


def _decode_raw(preview: Preview, scale: "_Scale", max_megapixels: float) -> Picture:
    if isinstance(preview.pixels, bytes):
        inner = _decode(preview.pixels, scale, max_megapixels, ("JPEG",), preview.orientation)
        image, own = inner.image, inner.facts
    else:
        turn = preview.orientation or 1
        image = preview.pixels.transpose(_UPRIGHT[turn]) if turn > 1 else preview.pixels
        image, own = to_srgb(image), Facts()
    facts = preview.facts if preview.facts.taken or preview.facts.camera else own
    return Picture(image, preview.format, preview.width, preview.height, facts)


@dataclass(frozen=True)
class _Scale:
    """How far to reduce a JPEG while decoding it, and the limit for the result."""

    smallest_side: int | None
    longest_side: int
    max_megapixels: float | None

    def reduce(self, image: Image.Image) -> None:
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            # All bytes are in memory. In blocks of 64 KB, decoding takes some 2% longer.
            image.decodermaxblock = sys.maxsize
            scales = []
            if self.smallest_side:
                scales.append(min(image.size) / (2 * self.smallest_side))
            if self.longest_side:
                scales.append(max(image.size) / self.longest_side)
            scale = min(scales, default=1.0)
            if scale >= 2:
                image.draft(None, (int(image.width / scale), int(image.height / scale)))
        if self.max_megapixels:
            check_megapixels(*image.size, self.max_megapixels)

    def open(self, data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        self.reduce(image)
        return image


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Lift Pillow's pixel limit for the whole process, so that only decode_picture()'s applies."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
