"""Small picture files that take very long to decode."""

import io

from PIL import Image


def scans(count: int = 300, size: tuple[int, int] = (6000, 5000)) -> bytes:
    """Return a progressive JPEG that repeats its last pass over all pixels many times."""
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def exif(count: int = 800_000) -> bytes:
    """Return a JPEG with metadata in pieces that Pillow joins one by one."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "JPEG")
    data = file.getvalue()
    return data[:2] + b"\xff\xe1\x00\x09Exif\0\0x" * count + data[2:]
