"""Read EXIF: when, where and with which camera a picture was taken."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

_DATE = re.compile(r"(\d{4})[:\-/](\d\d)[:\-/](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")
# Where these formats keep EXIF, or the XMP whose orientation Pillow falls back on. Pillow takes a
# tenth of a millisecond to find that there is neither.
_TAGGED = {format: frozenset({"exif", "xmp"}) for format in ("JPEG", "MPO", "WEBP", "HEIF")}


@dataclass(frozen=True)
class Facts:
    """The EXIF facts of one picture; None where EXIF has no value or an invalid one.

    `taken` is ISO 8601 in the camera's local time, with the UTC offset if the camera recorded it.
    `latitude` and `longitude` are signed degrees. `orientation` is EXIF's 1 to 8.
    """

    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    orientation: int = 1


def read_exif(image: Image.Image) -> Facts:
    """Read the facts of an opened image (Exif 2.32, CIPA DC-008)."""
    if image.format in _TAGGED and not _TAGGED[image.format].intersection(image.info):
        return Facts()
    try:
        exif = image.getexif()
    except Exception:
        # Among unusual files that do decode, one in thirty has EXIF that Pillow can't read.
        return Facts()
    return facts_from_exif(exif)


def facts_from_exif(exif: Image.Exif) -> Facts:
    """Return the facts in a picture's EXIF."""
    try:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:
        return Facts()
    orientation: Any = exif.get(ExifTags.Base.Orientation)
    latitude = _degrees(gps, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S", 90)
    longitude = _degrees(gps, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W", 180)
    known = latitude is not None and longitude is not None
    return Facts(
        taken=_taken(exif, details),
        latitude=latitude if known else None,
        longitude=longitude if known else None,
        camera=_camera(exif),
        orientation=orientation if orientation in range(1, 9) else 1,
    )


def _taken(exif: Mapping[int, Any], details: Mapping[int, Any]) -> str | None:
    for tags, date_tag, offset_tag in (
        (details, ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal),
        (details, ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized),
        (exif, ExifTags.Base.DateTime, ExifTags.Base.OffsetTime),
    ):
        match = _DATE.match(_text(tags.get(date_tag)))
        if not match:
            continue
        try:
            taken = datetime.strptime(" ".join(match.groups()), "%Y %m %d %H %M %S").isoformat()
        except ValueError:
            continue
        offset = _OFFSET.match(_text(details.get(offset_tag)))
        return taken + (offset[0] if offset else "")
    return None


def _degrees(
    gps: Mapping[int, Any], tag: int, reference_tag: int, negative: str, limit: int
) -> float | None:
    try:
        degrees, minutes, seconds = (float(part) for part in gps[tag])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(value) or not 0 <= value <= limit:
        return None
    sign = -1 if _text(gps.get(reference_tag)).upper().startswith(negative) else 1
    return round(sign * value, 7)


def _camera(exif: Mapping[int, Any]) -> str | None:
    make, model = _text(exif.get(ExifTags.Base.Make)), _text(exif.get(ExifTags.Base.Model))
    if make and model.lower().startswith(make.lower().split()[0]):
        return model
    return f"{make} {model}".strip() or None


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.replace("\0", " ").strip() if isinstance(value, str) else ""
