"""How long a picture takes to decode, by a first look at its bytes that costs next to nothing.

A guess, for the order in which pictures wait: what it misses, the decoder's own limit ends.
"""

# Rough figures of one core: seconds for each pixel, for each pixel of each pass of a JPEG, and for
# each byte.
_PIXEL, _PASS, _BYTE = 3e-9, 3e-9, 3e-8
_PNG_PIXEL, _PNG_CHUNK = 3e-8, 5e-6
_OTHER, _OTHER_BYTE = 0.05, 1e-7
# A JPEG with more parts before its pixels is none that a camera or a program makes: Pillow joins
# some kinds of them one by one.
_MOST_PARTS = 1000
_SLOW = 60
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def expected_seconds(data: bytes) -> float:
    """Returns about how many seconds it takes to decode the bytes of a picture file."""
    size = len(data)
    if data[:2] == b"\xff\xd8":
        pixels = _jpeg_pixels(data)
        if pixels is None:
            return _SLOW
        # That marker stands in no pass.
        passes = data.count(b"\xff\xda")
        return pixels * (_PIXEL + passes * _PASS) + size * _BYTE
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        pixels = _number(data, 16, 4) * _number(data, 20, 4)
        return pixels * _PNG_PIXEL + data.count(b"IDAT") * _PNG_CHUNK + size * _BYTE
    return _OTHER + size * _OTHER_BYTE


def _jpeg_pixels(data: bytes) -> int | None:
    """Returns how many pixels a JPEG has, 0 where it doesn't say; None for one of too many parts.

    Of several sizes it is the largest: decoders differ in which of them they take.
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
