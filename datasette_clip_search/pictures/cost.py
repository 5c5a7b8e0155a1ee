"""A cheap estimate of how long a picture takes to decode, from a glance at its bytes.

It only orders the pictures that wait. Where it is wrong, the decoder's time limit still applies.
"""

# Rough figures for one core, in seconds: per pixel, per pixel of each pass of a JPEG, and per byte.
_PIXEL, _PASS, _BYTE = 3e-9, 3e-9, 3e-8
_PNG_PIXEL, _PNG_CHUNK = 3e-8, 5e-6
_OTHER, _OTHER_BYTE = 0.05, 1e-7
# No camera or program writes a JPEG with more segments than this before its pixels, and Pillow
# takes quadratic time to join some kinds of them.
_MOST_PARTS = 1000
_SLOW = 60
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def expected_seconds(data: bytes) -> float:
    """Return roughly how many seconds the bytes of a picture file take to decode."""
    size = len(data)
    if data[:2] == b"\xff\xd8":
        pixels = _jpeg_pixels(data)
        if pixels is None:
            return _SLOW
        # Within a pass, this marker never occurs.
        passes = data.count(b"\xff\xda")
        return pixels * (_PIXEL + passes * _PASS) + size * _BYTE
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        pixels = _number(data, 16, 4) * _number(data, 20, 4)
        return pixels * _PNG_PIXEL + data.count(b"IDAT") * _PNG_CHUNK + size * _BYTE
    return _OTHER + size * _OTHER_BYTE


def _jpeg_pixels(data: bytes) -> int | None:
    """Return a JPEG's number of pixels, 0 if it states none, None if it has too many segments.

    Of several stated sizes, take the largest: decoders differ in which one they use.
    """
    at, pixels = 2, 0
    for _ in range(_MOST_PARTS):
        kind = data[at + 1 : at + 2]
        if data[at : at + 1] != b"\xff" or kind in (b"", b"\xda", b"\xd9"):
            return pixels
        if kind[0] in _FRAMES:
            pixels = max(pixels, _number(data, at + 5, 2) * _number(data, at + 7, 2))
        at += 1 if kind == b"\xff" else 2 + _number(data, at + 2, 2)
    return None


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size])
