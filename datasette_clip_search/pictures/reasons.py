"""Why a file could not be read as a picture, in words for the person who has it."""

import re
import struct

from PIL import Image, UnidentifiedImageError

from ..common.errors import PictureTooLarge
from .formats import why_no_picture

_EARLY = re.compile("truncated|unexpected end|not enough|end of file|ran out|too short", re.I)
_MAKES_NO_SENSE = (
    (r"decoder error|data stream|buffer overrun|corrupt", "its compressed pixels make no sense"),
    (r"seek|cannot load", "it refers to data that is not in it"),
    (r"MAX_TEXT_", "its comments unpack to far more than a picture's could"),
)
# What says nothing to a person: objects by their address, paths of this machine.
_PRIVATE = re.compile(r"<[^>]*\bat 0x[0-9a-f]+[^>]*>|(?<![\w.])/[\w./-]+/[\w./-]*")


def check_megapixels(width: int, height: int, max_megapixels: float) -> None:
    """Raises PictureTooLarge for a picture of more pixels than the limit."""
    if width * height > max_megapixels * 1e6:
        raise PictureTooLarge(
            f"It has {width * height / 1e6:.0f} megapixels ({width} x {height}) "
            f"and the limit is {max_megapixels:g}"
        )


def explain_decode_error(error: Exception, data: bytes) -> str:
    """Returns the reason for an exception of Pillow's, which are of a dozen kinds."""
    if not data or isinstance(error, UnidentifiedImageError):
        return why_no_picture(data)
    text = " ".join(_PRIVATE.sub("", str(error)).split())
    if isinstance(error, Image.DecompressionBombError):
        return "It has more pixels than the limit of this process"
    if isinstance(error, MemoryError):
        return "Decoding it takes more memory than there is"
    if isinstance(error, EOFError | struct.error | IndexError) or _EARLY.search(text):
        return "It ends early, so that part of the picture is missing"
    for pattern, reason in _MAKES_NO_SENSE:
        if re.search(pattern, text, re.I):
            return f"It is damaged: {reason}"
    if isinstance(error, NotImplementedError):
        return f"It uses a part of its format that can't be read: {text}"
    if not text or isinstance(error, KeyError | TypeError | AttributeError | AssertionError):
        return "It is damaged: its header contradicts itself"
    return f"It can't be decoded, and may be damaged: {text}"
