"""Convert pixels of any mode and colour space to 8-bit sRGB on white."""

import io
from functools import lru_cache
from typing import cast

from PIL import Image, ImageChops, ImageCms

# ICC.1 names the colour space of a profile's pixels in bytes 16 to 19.
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK", b"Lab ": "LAB"}


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: scale deep greys instead of clipping them, put alpha on white."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    elif image.mode in {"LA", "La"}:
        grey, alpha = image.convert("LA").split()
        image = Image.composite(grey, Image.new("L", grey.size, 255), alpha)
    elif "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba).convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in {"RGB", "L", "CMYK", "LAB"}:
        image = image.convert("RGB")
    if isinstance(profile, bytes) and image.mode != "LAB":
        image = _apply_profile(image, profile)
    elif image.mode == "LAB":
        image = _transformed(image, _lab_to_srgb())
    # Converting an RGB image to RGB would copy it.
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    low, high = cast("tuple[float, float]", image.convert("F").getextrema())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high <= 65535):
        low, high = 0.0, 65535.0
    scale = 255 / (high - low) if high > low else 0.0
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    mode = _MODES.get(profile[16:20])
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if mode != image.mode:
        # Mismatched and broken profiles are common, and the picture is still useful.
        return image
    transform = _to_srgb_transform(profile, mode)
    return _transformed(image, transform) if transform else image


def _transformed(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    return ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=8)
def _to_srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return a profile's transform to sRGB, or None if it is broken or changes no colour.

    Applying one takes as long as decoding a small picture, and most profiles are sRGB under one
    name or another. Transforming sample colours shows whether this one is.
    """
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode not in {"RGB", "L"}:
        return transform
    steps = range(0, 256, 17)
    samples = (
        Image.frombytes("L", (256, 1), bytes(range(256)))
        if mode == "L"
        else Image.frombytes(
            "RGB",
            (256, 16),
            bytes(value for r in steps for g in steps for b in steps for value in (r, g, b)),
        )
    )
    difference = ImageChops.difference(_transformed(samples, transform), samples.convert("RGB"))
    largest = max(high for _, high in cast("tuple[tuple[int, int], ...]", difference.getextrema()))
    return transform if largest > 3 else None


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
