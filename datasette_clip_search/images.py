"""Pictures: found in folders, decoded, turned upright, brought to 8-bit sRGB, shrunk."""

import io
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, UnidentifiedImageError

from .config import CONFIG
from .errors import CommandError, PictureError, PictureTooLarge
from .exif import Facts, read_facts


@dataclass(frozen=True)
class Picture:
    """A decoded picture: RGB pixels, upright, and what its file says of itself.

    `image` may be smaller than the file's own picture; `width` and `height` are the upright
    picture's own, in pixels.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    facts: Facts


@dataclass
class Found:
    """The files below some paths: pictures by their extension, and a count of the others.

    `folders` are those of the given paths that are folders.
    """

    paths: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


# Formats that Pillow only recognises, or draws by running another program.
_NOT_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})

# What a stranger may send: the formats of the web, whose decoders are tested the hardest.
WEB_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP")


@cache
def picture_formats() -> tuple[str, ...]:
    """The names of the formats that Pillow decodes by itself."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _NOT_PICTURES))


@cache
def picture_extensions() -> frozenset[str]:
    """The extensions, with the dot, of the pictures that are looked for in folders."""
    formats = {*picture_formats(), "MPO"}
    return frozenset(
        extension
        for extension, format in Image.registered_extensions().items()
        if format in formats
    )


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> Found:
    """Lists the pictures in folders, each folder in the order of its names.

    A path that is a file is taken whatever its name. Inside folders, files and folders whose name
    begins with a dot are left out, and links to folders are not followed: they can run in circles.

    Raises CommandError for a path that does not exist, or a folder that can't be listed.
    """
    found = Found()
    seen: set[Path] = set()
    for path in map(Path, paths):
        absolute = Path(os.path.abspath(path))
        try:
            is_folder = stat.S_ISDIR(absolute.stat().st_mode)
        except FileNotFoundError as error:
            raise CommandError(f"There is no file or folder {path}") from error
        except OSError as error:
            raise CommandError(f"Can't read {path}: {error.strerror}") from error
        if is_folder:
            found.folders.append(absolute)
        for file in _walk(absolute) if is_folder else [absolute]:
            if is_folder and file.suffix.lower() not in picture_extensions():
                found.others[file.suffix.lower() or "no extension"] += 1
            elif file not in seen:
                seen.add(file)
                found.paths.append(file)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise CommandError(f"Can't list the folder {error.filename}: {error.strerror}") from error

    for root, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(root, name)


def decode(
    data: bytes,
    smallest_side: int | None = None,
    max_megapixels: float = CONFIG.max_megapixels,
    max_decoded_megapixels: float | None = None,
    formats: tuple[str, ...] | None = None,
) -> Picture:
    """Decodes the bytes of a picture file to upright 8-bit sRGB on white.

    With `smallest_side`, a JPEG may be decoded at a reduced scale whose shorter side is still at
    least twice as many pixels: a later resize to `smallest_side` sees no difference. Only the
    given `formats` are tried, by Pillow's names for them. `max_megapixels` is of the file's own
    size, `max_decoded_megapixels` of what is left after reducing the scale.

    Raises PictureError, whatever is wrong with the bytes.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats or picture_formats()) as image:
            width, height = image.size
            _check_size(width, height, max_megapixels)
            format = image.format or "unknown"
            facts = read_facts(image)
            if smallest_side and isinstance(image, JpegImagePlugin.JpegImageFile):
                scale = max(1.0, min(image.size) / (2 * smallest_side))
                image.draft(None, (int(image.width / scale), int(image.height / scale)))
            if max_decoded_megapixels:
                _check_size(*image.size, max_decoded_megapixels)
            image.load()
            upright = ImageOps.exif_transpose(image) if facts.orientation > 1 else image
            if (upright.width > upright.height) != (width > height):
                width, height = height, width
            return Picture(_to_srgb(upright), format, width, height, facts)
    except PictureError:
        raise
    except Exception as error:
        # Pillow refuses odd files with a dozen kinds of exception, most of them built in.
        raise PictureError(_explain(error, data)) from error


def _check_size(width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        raise PictureTooLarge(
            f"It has {width * height / 1e6:.0f} megapixels ({width} x {height}) "
            f"and the limit is {max_megapixels:g}"
        )


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Lets decode()'s own limit count, where Pillow's is lower; for the whole process."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _explain(error: Exception, data: bytes) -> str:
    if not data:
        return "The file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "It is not a picture in a format that can be read"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"It can't be decoded, and may be damaged: {reason}"


def _to_srgb(image: Image.Image) -> Image.Image:
    """Brings any mode to RGB: deep greys are scaled, not clipped, and alpha is laid on white."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    if has_alpha:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba).convert("RGB")
    if profile and image.mode in {"RGB", "CMYK", "L"}:
        image = _apply_profile(image, profile)
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    low, high = cast("tuple[float, float]", image.convert("F").getextrema())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high <= 65535):
        low, high = 0.0, 65535.0
    scale = 255 / (high - low) if high > low else 0.0
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A broken or mismatched profile is common, and its picture is still worth having.
        return image
    return converted or image


def make_thumbnail(image: Image.Image) -> bytes:
    """Returns a small WebP of an RGB image, without any metadata.

    The longer side is at most `CONFIG.thumbnail_size` pixels.
    """
    small = image.copy()
    small.thumbnail((CONFIG.thumbnail_size, CONFIG.thumbnail_size), Image.Resampling.LANCZOS)
    small.info.clear()
    output = io.BytesIO()
    small.save(output, "WEBP", quality=CONFIG.thumbnail_quality, method=2)
    return output.getvalue()
