"""Explain to the owner of a file why it can't be read as a picture."""

import re
import struct

from PIL import Image, UnidentifiedImageError

from ..common.errors import PictureTooLarge
from .formats import explain_no_picture

_EARLY = re.compile("truncated|unexpected end|not enough|end of file|ran out|too short", re.I)
_MAKES_NO_SENSE = (
    (
        r"decoder error|data stream|buffer overrun|corrupt",
        "its compressed pixels can't be unpacked",
    ),
    (r"seek|cannot load", "it refers to data that it does not contain"),
    (r"MAX_TEXT_", "its comments unpack to more than any picture needs"),
)
# Objects by their address and paths on this machine tell the owner nothing.
_PRIVATE = re.compile(r"<[^>]*\bat 0x[0-9a-f]+[^>]*>|(?<![\w.])/[\w./-]+/[\w./-]*")


def check_megapixels(width: int, height: int, max_megapixels: float) -> None:
    """Raise PictureTooLarge for a picture with more pixels than the limit."""
    if width * height > max_megapixels * 1e6:
        raise PictureTooLarge(
            f"It has {width * height / 1e6:.0f} megapixels ({width} x {height}) "
            f"and the limit is {max_megapixels:g}"
        )


def explain_decode_error(error: Exception, data: bytes) -> str:
    """Return a reason in plain words for any of the many exceptions that Pillow raises."""
    if not data or isinstance(error, UnidentifiedImageError):
        return explain_no_picture(data)
    text = " ".join(_PRIVATE.sub("", str(error)).split())
    if isinstance(error, Image.DecompressionBombError):
        return "It has more pixels than Pillow's limit"
    if isinstance(error, MemoryError):
        return "There is not enough memory to decode it"
    if isinstance(error, EOFError | struct.error | IndexError) or _EARLY.search(text):
        return "It ends early: part of the picture is missing"
    for pattern, reason in _MAKES_NO_SENSE:
        if re.search(pattern, text, re.I):
            return f"It is damaged: {reason}"
    if isinstance(error, NotImplementedError):
        return f"It uses a feature of its format that can't be decoded: {text}"
    if not text or isinstance(error, KeyError | TypeError | AttributeError | AssertionError):
        return "It is damaged: its header contradicts itself"
    return f"It can't be decoded, and may be damaged: {text}"
