"""Pictures of every kind come out as upright 8-bit sRGB."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from datasette_clip_search.common.errors import PictureError, PictureTooLarge
from datasette_clip_search.pictures.decode import (
    THUMBNAIL_FORMAT,
    decode_picture,
    make_thumbnail,
    without_pillow_limit,
)
from support.encoded_pictures import UNTURN, encode

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def scene(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Return a picture with four different corners."""
    image = Image.new("RGB", (2, 2))
    for place, colour in zip(
        [(0, 0), (1, 0), (0, 1), (1, 1)], [RED, GREEN, BLUE, (255, 255, 0)], strict=True
    ):
        image.putpixel(place, colour)
    return image.resize(size, Image.Resampling.NEAREST)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    width, height = image.size
    places = [(2, 2), (width - 3, 2), (2, height - 3), (width - 3, height - 3)]
    return [tuple(round(value / 255) for value in image.getpixel(place)) for place in places]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation, format):
    exif = Image.Exif()
    exif[274] = orientation
    stored = scene() if UNTURN[orientation] is None else scene().transpose(UNTURN[orientation])
    picture = decode_picture(encode(stored, format, exif=exif))
    assert corners(picture.image) == corners(scene())
    assert (picture.width, picture.height) == picture.image.size == (60, 40)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("L", (4, 4), 100), (100, 100, 100)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 127)), (128, 128, 128)),
        (Image.new("I;16", (4, 4), 32768), (127, 127, 127)),
        (Image.new("I;16", (4, 4), 255), (0, 0, 0)),
        (scene((4, 4)).convert("P").resize((1, 1)), None),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_modes(image, expected):
    picture = decode_picture(encode(image))
    assert picture.image.mode == "RGB"
    if expected:
        assert np.allclose(picture.image.getpixel((0, 0)), expected, atol=1)


def test_palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert decode_picture(encode(image, transparency=0)).image.getpixel((0, 0)) == (255, 255, 255)


def test_cmyk():
    picture = decode_picture(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = picture.image.getpixel((8, 8))
    assert red > 200
    assert max(green, blue) < 60


def test_float_is_scaled_to_its_range():
    ramp = Image.fromarray(np.linspace(-5, 5, 100, dtype=np.float32).reshape(10, 10))
    pixels = np.asarray(decode_picture(encode(ramp, "TIFF")).image)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_icc_profile_is_applied():
    """An sRGB profile leaves the pixels alone; Lab's own conversion does not."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, tagged = encode(scene(), "PNG"), encode(scene(), "PNG", icc_profile=profile)
    difference = np.abs(
        np.asarray(decode_picture(plain).image, int) - np.asarray(decode_picture(tagged).image, int)
    )
    assert difference.max() <= 2
    broken = encode(scene(), "PNG", icc_profile=b"not a profile")
    assert corners(decode_picture(broken).image) == corners(scene())


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    for format in ("GIF", "WEBP"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50)
        red, _, blue = decode_picture(data).image.getpixel((4, 4))
        assert red > 200
        assert blue < 60


def test_reduced_jpeg_is_at_least_twice_the_size_asked_for():
    data = encode(scene((4000, 3000)), "JPEG")
    picture = decode_picture(data, smallest_side=224)
    assert (picture.width, picture.height) == (4000, 3000)
    assert 448 <= min(picture.image.size) < 1500


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (4000, 900), (500, 375), (4000, 200)])
def test_reduced_jpeg_is_as_long_as_asked_for(size):
    image = decode_picture(encode(scene(size), "JPEG"), smallest_side=64, longest_side=1000).image
    assert max(image.size) >= min(1000, max(size))
    assert min(image.size) >= min(128, *size)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The file is empty"),
        (b"hello", "It is not a picture in a format that can be read"),
        (encode(scene((600, 400)), "PNG")[:900], "It ends early: part of the picture is missing"),
        (encode(scene((600, 400)), "JPEG")[:3000], "It ends early: the lower [0-9]+% of the"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "It is EPS, a program for printers, which is never run. Convert it to PNG or JPEG",
        ),
    ],
)
def test_files_that_are_not_pictures(data, message):
    with pytest.raises(PictureError, match=message):
        decode_picture(data)


def test_bomb_is_refused_before_it_is_decoded():
    data = encode(Image.new("1", (20000, 20000)), "PNG")
    assert len(data) < 100_000
    message = r"400 megapixels \(20000 x 20000\) and the limit is 150"
    before = Image.MAX_IMAGE_PIXELS
    with without_pillow_limit(), pytest.raises(PictureTooLarge, match=message):
        decode_picture(data)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(PictureError, match="limit"):
        decode_picture(data)


def test_only_jpegs_may_be_large_where_little_may_be_decoded():
    limits = {"smallest_side": 224, "max_megapixels": 50, "max_decoded_megapixels": 2}
    jpeg, png = (encode(scene((4000, 3000)), format) for format in ("JPEG", "PNG"))
    assert decode_picture(jpeg, **limits).width == 4000
    with pytest.raises(PictureTooLarge, match=r"12 megapixels .* and the limit is 2"):
        decode_picture(png, **limits)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_a_picture_or_a_picture_error(data):
    format = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]))
    good = bytearray(encode(scene(), format))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode_picture(bytes(good), max_megapixels=1).image.mode == "RGB"
    except PictureError as error:
        assert str(error)


def test_thumbnail_is_small_and_bare():
    image = scene((2000, 1000))
    image.info["exif"] = b"secret"
    thumbnail = Image.open(io.BytesIO(make_thumbnail(image)))
    assert thumbnail.format == THUMBNAIL_FORMAT.upper()
    assert "exif" not in thumbnail.info
    assert image.size == (2000, 1000)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2000, 1000), (400, 200)),
        ((3000, 4000), (300, 400)),
        ((1008, 756), (336, 252)),
        ((1009, 756), (337, 252)),
        ((500, 375), (250, 188)),
        ((499, 374), (250, 187)),
        ((498, 374), (400, 300)),
        ((401, 100), (400, 100)),
        ((400, 100), (400, 100)),
        ((100, 80), (100, 80)),
        ((1, 5000), (1, 385)),
        ((5000, 1), (385, 1)),
        ((450, 1), (400, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_size_of_a_thumbnail(size, expected):
    thumbnail = Image.open(io.BytesIO(make_thumbnail(Image.new("RGB", size, RED))))
    assert thumbnail.size == expected
    assert thumbnail.getpixel((0, 0))[0] > 240


def test_exif_facts():
    exif = Image.Exif()
    exif[271], exif[272] = "Acme", "Acme Snap 3\0"
    details = exif.get_ifd(0x8769)
    details[36867], details[36881] = "2021:07:04 12:30:59", "+02:00"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (33.0, 30.0, 36.0), "E", (70.0, 0.0, 0.0)
    facts = decode_picture(encode(scene(), "JPEG", exif=exif)).facts
    assert facts.taken == "2021-07-04T12:30:59+02:00"
    assert (facts.latitude, facts.longitude) == (-33.51, 70.0)
    assert facts.camera == "Acme Snap 3"


@pytest.mark.parametrize("date", ["0000:00:00 00:00:00", "2021:13:40 25:61:61", "yesterday", ""])
def test_exif_nonsense_is_no_fact(date):
    exif = Image.Exif()
    exif[306] = date
    exif.get_ifd(0x8825)[2] = (200.0, 0.0, 0.0)
    facts = decode_picture(encode(scene(), "JPEG", exif=exif)).facts
    assert (facts.taken, facts.latitude, facts.longitude) == (None, None, None)
