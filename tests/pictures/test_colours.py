"""Colour profiles and modes: the same colour in any of them becomes the same sRGB."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from datasette_clip_search.pictures.decode import (
    decode_picture,
)
from support.encoded_pictures import (
    encode,
    needs,
    scene,
)


def fixed(value):
    return struct.pack(">l", round(value * 65536))


def profile(space, tags, connection=b"XYZ "):
    """Return an ICC profile (ICC.1:2001-04) of a device."""
    directory, data = b"", b""
    for name, content in tags.items():
        place = 128 + 4 + 12 * len(tags) + len(data)
        directory += struct.pack(">4sLL", name, place, len(content))
        data += content + bytes(-len(content) % 4)
    body = struct.pack(">L", len(tags)) + directory + data
    header = struct.pack(
        ">L4sL4s4s4s", 128 + len(body), b"none", 0x02100000, b"mntr", space, connection
    )
    white = fixed(0.9642) + fixed(1) + fixed(0.8249)
    return header + bytes(12) + b"acsp" + bytes(28) + white + bytes(48) + body


def xyz(*values):
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">LH", 1, round(value * 256))


# The primaries of sRGB, adapted to D50.
PRIMARIES = {
    "r": (0.4361, 0.2225, 0.0139),
    "g": (0.3851, 0.7169, 0.0971),
    "b": (0.1431, 0.0606, 0.7142),
}


WHITE = {b"wtpt": xyz(0.9642, 1, 0.8249)}


def rgb_profile(order="rgb", power=2.2):
    """Return a matrix profile with its channels in the given order."""
    tags = dict(WHITE)
    for channel, primary in zip("rgb", order, strict=True):
        tags[f"{channel}XYZ".encode()] = xyz(*PRIMARIES[primary])
        tags[f"{channel}TRC".encode()] = gamma(power)
    return profile(b"RGB ", tags)


GREY = profile(b"GRAY", {**WHITE, b"kTRC": gamma(1.0)})


# The sRGB value of linear 100 of 255.
LINEAR_100 = round(255 * (1.055 * (100 / 255) ** (1 / 2.4) - 0.055))


def plain(mode, colour):
    return Image.new(mode, (32, 32), colour)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_profile_with_swapped_primaries(format):
    needs(format)
    data = encode(plain("RGB", (200, 20, 20)), format, quality=95, icc_profile=rgb_profile("bgr"))
    red, green, blue = decode_picture(data).image.getpixel((16, 16))
    assert blue > 190
    assert max(red, green) < 60


@pytest.mark.parametrize(
    ("image", "icc", "expected"),
    [
        (plain("RGB", (100, 100, 100)), rgb_profile(power=1.0), (LINEAR_100,) * 3),
        (plain("L", 100), GREY, (LINEAR_100,) * 3),
        (plain("LA", (100, 255)), GREY, (LINEAR_100,) * 3),
        (plain("I;16", 100 * 257), GREY, (LINEAR_100,) * 3),
        # Grey pictures with a colour profile are common.
        (plain("L", 100), rgb_profile(power=1.0), (LINEAR_100,) * 3),
        (plain("P", 0), rgb_profile("bgr"), (0, 0, 255)),
        (plain("RGBA", (255, 0, 0, 255)), rgb_profile("bgr"), (0, 0, 255)),
        (plain("RGBA", (255, 0, 0, 0)), rgb_profile("bgr"), (255, 255, 255)),
        # These profiles don't fit the picture, so it keeps its colours.
        (plain("RGB", (255, 0, 0)), GREY, (255, 0, 0)),
        (plain("RGB", (255, 0, 0)), rgb_profile("bgr")[:200], (255, 0, 0)),
        (plain("RGB", (255, 0, 0)), b"", (255, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_profiles(image, icc, expected):
    if image.mode == "P":
        image.putpalette([255, 0, 0])
    picture = decode_picture(encode(image, "PNG", icc_profile=icc)).image
    assert np.allclose(picture.getpixel((16, 16)), expected, atol=4)


def test_srgb_by_any_name_leaves_every_pixel_alone():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = decode_picture(encode(scene(), "PNG", icc_profile=srgb)).image
    assert np.array_equal(np.asarray(picture), np.asarray(scene()))


def cmyk_profile():
    """Return a CMYK profile in which yellow ink is blue, black is black, and others are white."""
    # lut8Type with 8-bit Lab: L = 255 is white, and a = b = 128 is neutral.
    white, blue, black = (255, 128, 128), (80, 190, 20), (0, 128, 128)
    corners = [black if corner & 1 else blue if corner & 2 else white for corner in range(16)]
    identity = bytes(range(256))
    table = (
        b"mft1\0\0\0\0"
        + bytes([4, 3, 2, 0])
        + b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
        + identity * 4
        + bytes(value for corner in corners for value in corner)
        + identity * 3
    )
    data = bytearray(profile(b"CMYK", {**WHITE, b"A2B0": table}, connection=b"Lab "))
    data[12:16] = b"prtr"
    return bytes(data)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_with_and_without_a_profile(format):
    """Pillow writes and reads CMYK JPEG inverted, as Adobe does."""
    yellow = plain("CMYK", (0, 0, 255, 0))
    red, green, blue = decode_picture(encode(yellow, format)).image.getpixel((16, 16))
    assert min(red, green) > 200 > 60 > blue
    data = encode(yellow, format, icc_profile=cmyk_profile())
    red, green, blue = decode_picture(data).image.getpixel((16, 16))
    assert blue > 120 > max(red, green)


def test_lab():
    lab = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (255, 128, 128)])
    # Pillow writes the signed channels unchanged.
    assert min(decode_picture(encode(lab, "TIFF")).image.getpixel((4, 4))) > 200
