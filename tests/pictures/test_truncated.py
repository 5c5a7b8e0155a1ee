"""JPEGs that end early are accepted if nearly all of the picture is there."""

import numpy as np
import pytest

from datasette_clip_search.common.errors import PictureError
from datasette_clip_search.pictures.decode import (
    decode_picture,
)
from support.encoded_pictures import encode, likeness, scene

JPEGS = {
    "4:2:0": {"subsampling": 2},
    "4:4:4": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "grey": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
}


def jpeg(kind, image=None, **more):
    options = {"quality": 90, **JPEGS[kind], **more}
    return encode((image or scene()).convert(options.pop("mode", "RGB")), "JPEG", **options)


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("reduced", [None, 32])
def test_jpeg_that_lacks_its_last_bytes_is_whole(kind, cut, reduced):
    whole = jpeg(kind)
    picture = decode_picture(whole[:-cut], reduced).image
    assert np.array_equal(np.asarray(picture), np.asarray(decode_picture(whole, reduced).image))


@pytest.mark.parametrize("kind", [kind for kind in JPEGS if kind != "progressive"])
@pytest.mark.parametrize("reduced", [None, 32])
@pytest.mark.parametrize(("share", "least", "most"), [(0.2, 11, 30), (0.5, 40, 60), (0.9, 80, 99)])
def test_jpeg_that_lacks_a_large_part(kind, reduced, share, least, most):
    data = jpeg(kind)
    with pytest.raises(PictureError, match=r"It ends early: the lower .* is missing") as error:
        decode_picture(data[: -int(share * len(data))], reduced)
    assert least <= int(str(error.value).split("lower ")[1].split("%")[0]) <= most


def test_jpeg_that_lacks_a_twentieth_is_taken():
    data = jpeg("4:2:0")
    picture = decode_picture(data[: -len(data) // 20]).image
    assert (
        likeness(picture.crop((0, 0, 320, 208)), decode_picture(data).image.crop((0, 0, 320, 208)))
        > 60
    )


def test_grey_rows_of_the_picture_are_not_missing():
    image = scene().copy()
    image.paste((128, 128, 128), (0, 100, 320, 240))
    data = jpeg("4:4:4", image)
    assert np.array_equal(
        np.asarray(decode_picture(data[:-2]).image), np.asarray(decode_picture(data).image)
    )


@pytest.mark.parametrize(
    ("share", "accepted"), [(0.02, True), (0.1, True), (0.7, False), (0.95, False)]
)
def test_progressive_jpeg_that_ends_early(share, accepted):
    data = jpeg("progressive")
    start = data[: -int(share * len(data))]
    if accepted:
        assert likeness(decode_picture(start).image, decode_picture(data).image) > 25
    else:
        with pytest.raises(PictureError, match="It ends early: most of the picture's detail"):
            decode_picture(start)


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_cut_anywhere_is_a_picture_or_ends_early(kind):
    data = jpeg(kind)
    for length in range(20, len(data), len(data) // 60):
        try:
            decode_picture(data[:length])
        except PictureError as error:
            assert str(error).startswith("It ends early"), length
