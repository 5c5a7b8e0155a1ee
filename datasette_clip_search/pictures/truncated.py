"""Accept JPEGs that end early, if nearly all of the picture is there.

- A JPEG is first decoded strictly. If that fails because the file ends early, the part that
  exists is decoded.
- It is accepted if at least nine tenths of its rows are there. So a photograph that lacks only its
  last bytes is embedded; one with more than a tenth in grey is refused with the missing share.
- A progressive JPEG that ends early has all its rows, with less detail. It is accepted if every
  coefficient is known to within its last bit, and the pass in which it ends has reached half of
  the rows.
- Other formats must be complete.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from ..common.errors import PictureError

LARGEST_MISSING = 0.1
LARGEST_UNREFINED = 0.5

_END = b"\xff\xd9"
# Not a stuffed zero, a restart or a fill byte (ITU T.81, B.1.1).
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START_OF_SCAN = 0xDA
_PROGRESSIVE = 0xC2

Open = Callable[[bytes], Image.Image]
"""Opens bytes as a JPEG at the wanted scale."""


def load_truncated(data: bytes, strict: ImageFile.ImageFile, open_at_scale: Open) -> Image.Image:
    """Decode a JPEG that ends early as far as it goes.

    `strict` is the image that failed to load. Raise PictureError if too much is missing.
    """
    scans, whole = _scans(data)
    try:
        image = open_at_scale(data[:whole] + _END)
        image.load()
    except OSError as error:
        raise PictureError("It ends early: the whole picture is missing") from error
    if scans is None:
        missing = _missing(_grey(image) & _untouched(strict))
        if missing > LARGEST_MISSING:
            percent = math.ceil(100 * missing)
            raise PictureError(f"It ends early: the lower {percent}% of the picture is missing")
    else:
        enough = LARGEST_UNREFINED if _is_detailed(scans[:-1]) else LARGEST_MISSING
        if not _is_detailed(scans) or _unreached(image, data, scans[-1], open_at_scale) > enough:
            raise PictureError("It ends early: most of the picture's detail is missing")
    return image


class _Scan:
    """One pass of a progressive JPEG over the picture (ITU T.81, G.1.1)."""

    def __init__(self, begins: int, header: bytes) -> None:
        self.begins = begins
        self.components = header[1 : 1 + 2 * header[0] : 2]
        self.first, self.last, bits = header[1 + 2 * header[0] :][:3]
        self.low_bit = bits & 15


def _scans(data: bytes) -> tuple[list[_Scan] | None, int]:
    """Return a progressive JPEG's scans, None for others, and the length of complete segments."""
    scans: list[_Scan] | None = None
    position = 2
    while match := _MARKER.search(data, position):
        start, marker = match.start(), match[1][0]
        end = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
        if end > len(data) or end < match.end() + 2:
            return scans, start
        if marker == _PROGRESSIVE:
            scans = []
        if marker == _START_OF_SCAN and scans is not None:
            scans.append(_Scan(end, data[match.end() + 2 : end]))
        position = end
    return scans or None, len(data)


def _is_detailed(scans: list[_Scan]) -> bool:
    """Return whether scans give every coefficient of every component to within its last bit."""
    components = {component for scan in scans for component in scan.components}
    for component in components:
        known = np.zeros(64, bool)
        for scan in scans:
            if component in scan.components and scan.low_bit <= 1:
                known[scan.first : scan.last + 1] = True
        if not known.all():
            return False
    return bool(components)


def _unreached(image: Image.Image, data: bytes, scan: _Scan, open_at_scale: Open) -> float:
    """Return the share of rows that the last scan did not reach: those that it left unchanged."""
    # Include its header, which by itself changes how libjpeg smooths the whole picture.
    before = open_at_scale(data[: scan.begins] + _END)
    before.load()
    return _missing((_rows(image) == _rows(before)).all(axis=1))


def _rows(image: Image.Image) -> NDArray[Any]:
    pixels: NDArray[Any] = np.asarray(image)
    return pixels.reshape(image.height, -1)


def _grey(image: Image.Image) -> NDArray[Any]:
    """Return which rows are the grey of missing data in libjpeg; Pillow inverts CMYK."""
    rows = _rows(image)
    return np.asarray(((rows == 128) | (rows == 127)).all(axis=1))


def _untouched(image: ImageFile.ImageFile) -> NDArray[Any]:
    """Return which rows a strict decode never reached, so that grey pictures don't count."""
    # Pillow keeps the rows that it has, and would decode again if the tile were still there.
    image.tile = []
    return np.asarray(~_rows(image).any(axis=1))


def _missing(rows: NDArray[Any]) -> float:
    """Return the share of all rows in the run of true ones at the end."""
    there = np.flatnonzero(~rows)
    return 1 - (int(there[-1]) + 1 if len(there) else 0) / len(rows)
