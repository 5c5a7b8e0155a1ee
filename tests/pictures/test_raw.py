"""Camera RAW files: the preview that the camera made, upright."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from datasette_clip_search.common.errors import PictureError
from datasette_clip_search.pictures import decode as images
from datasette_clip_search.pictures.decode import (
    decode_picture,
    picture_extensions,
)
from support.encoded_pictures import (
    BLUE,
    encode,
    likeness,
    scene,
    with_facts,
)


# A DNG (Adobe, DNG 1.4) as a camera writes it: a thumbnail first, the sensor's mosaic in one
# sub-picture, and a JPEG preview in another.
class Tiff:
    """A little-endian TIFF that is built from its end: each part is written when it is added."""

    def __init__(self):
        self.data = bytearray(b"II*\0\0\0\0\0")

    def add(self, data):
        place = len(self.data)
        self.data += data + bytes(len(data) % 2)
        return place

    def directory(self, *entries):
        """Add entries (tag, type, values); return the offset of their directory."""
        codes = {1: "B", 2: "s", 3: "H", 4: "L", 5: "LL", 7: "B", 10: "ll"}
        fields = []
        for tag, kind, values in sorted(entries):
            if kind == 2:
                count, packed = len(values), values
            else:
                count = len(values) // len(codes[kind])
                letters = codes[kind][0] * len(values)
                packed = struct.pack(f"<{letters}", *values)
            if len(packed) > 4:
                packed = struct.pack("<L", self.add(packed))
            fields.append(struct.pack("<HHL", tag, kind, count) + packed.ljust(4, b"\0"))
        return self.add(struct.pack("<H", len(fields)) + b"".join(fields) + bytes(4))


RAW_SIZE = (128, 96)


def dng(orientation=1, previews=((96, 72),), preview_exif=None):
    """A DNG with a green sensor picture, previews of scene(), and a blue thumbnail."""
    tiff = Tiff()
    width, height = RAW_SIZE
    mosaic = np.zeros((height, width), "<u2")
    mosaic[0::2, 1::2] = mosaic[1::2, 0::2] = 40000
    place = tiff.add(mosaic.tobytes())
    parts = [
        tiff.directory(
            *[(254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16])],
            *[(259, 3, [1]), (262, 3, [32803]), (273, 4, [place]), (277, 3, [1])],
            *[(278, 4, [height]), (279, 4, [mosaic.nbytes]), (284, 3, [1])],
            *[(33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]), (50717, 4, [65535])],
        )
    ]
    for size in previews:
        jpeg = encode(scene().resize(size), "JPEG", quality=95, subsampling=0)
        if preview_exif:
            # As in cameras' JPEGs, EXIF comes first, in place of JFIF.
            length = struct.pack(">H", len(preview_exif) + 2)
            jpeg = b"\xff\xd8\xff\xe1" + length + preview_exif + jpeg[20:]
        place = tiff.add(jpeg)
        parts.append(
            tiff.directory(
                *[(254, 4, [1]), (256, 4, [size[0]]), (257, 4, [size[1]])],
                *[(258, 3, [8, 8, 8]), (259, 3, [7]), (262, 3, [6]), (273, 4, [place])],
                *[(277, 3, [3]), (278, 4, [size[1]]), (279, 4, [len(jpeg)]), (284, 3, [1])],
            )
        )
    details = tiff.directory((36867, 2, b"2021:07:04 12:30:59\0"))
    matrix = [value for row in ((1, 0, 0), (0, 1, 0), (0, 0, 1)) for n in row for value in (n, 1)]
    entries = [
        *[(271, 2, b"Acme\0"), (272, 2, b"Snap 3\0"), (274, 3, [orientation])],
        *[(330, 4, parts), (34665, 4, [details]), (50706, 1, [1, 4, 0, 0])],
        *[(50708, 2, b"Acme Snap 3\0"), (50721, 10, matrix), (50728, 5, [1, 1] * 3)],
        (50778, 3, [21]),
    ]
    if previews:
        place = tiff.add(encode(Image.new("RGB", (16, 12), BLUE), "PPM")[-16 * 12 * 3 :])
        entries += [
            *[(254, 4, [1]), (256, 4, [16]), (257, 4, [12]), (258, 3, [8, 8, 8])],
            *[(259, 3, [1]), (262, 3, [2]), (273, 4, [place]), (277, 3, [3])],
            *[(278, 4, [12]), (279, 4, [16 * 12 * 3]), (284, 3, [1])],
        ]
    first = tiff.directory(*entries)
    tiff.data[4:8] = struct.pack("<L", first)
    return bytes(tiff.data)


def test_dng_is_opened_by_libraw():
    rawpy = pytest.importorskip("rawpy")
    with rawpy.imread(io.BytesIO(dng())) as raw:
        assert (raw.sizes.width, raw.sizes.height) == RAW_SIZE
        assert raw.raw_image.max() == 40000


@pytest.mark.parametrize("previews", [((48, 36), (96, 72)), ((96, 72), (48, 36))])
def test_raw_gives_its_largest_preview(previews):
    pytest.importorskip("rawpy")
    picture = decode_picture(dng(previews=previews), name="a/B.DNG")
    assert likeness(picture.image, scene().resize((96, 72))) > 35
    assert (picture.format, picture.width, picture.height) == ("DNG", *RAW_SIZE)
    assert (picture.facts.taken, picture.facts.camera) == ("2021-07-04T12:30:59", "Acme Snap 3")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("preview_says", [False, True])
def test_raw_is_upright(orientation, preview_says):
    """The orientation is that of the preview's own EXIF, or else of the RAW file's."""
    pytest.importorskip("rawpy")
    exif = with_facts(orientation) if preview_says else None
    picture = decode_picture(
        dng(1 if preview_says else orientation, preview_exif=exif), name="a.dng"
    )
    upright = scene().resize((96, 72))
    turn = images._UPRIGHT.get(orientation)
    assert likeness(picture.image, upright.transpose(turn) if turn is not None else upright) > 35
    if not preview_says:
        size = RAW_SIZE if orientation < 5 else RAW_SIZE[::-1]
        assert (picture.width, picture.height) == size


def test_preview_that_the_camera_turned_is_not_turned_again():
    pytest.importorskip("rawpy")
    picture = decode_picture(dng(6, previews=((72, 96),)), name="a.dng")
    assert likeness(picture.image, scene().resize((72, 96))) > 35


def test_raw_without_a_preview_is_developed():
    pytest.importorskip("rawpy")
    picture = decode_picture(dng(6, previews=()), name="a.dng")
    assert picture.image.size == (RAW_SIZE[1] // 2, RAW_SIZE[0] // 2)
    red, green, blue = picture.image.getpixel((20, 20))
    assert green > 100 > max(red, blue)


def test_raw_is_recognised_by_name_but_not_in_queries():
    pytest.importorskip("rawpy")
    jpeg = encode(scene(), "JPEG")
    assert decode_picture(jpeg, name="really-a-jpeg.nef").format == "JPEG"
    with pytest.raises(PictureError, match="not a picture in a format that can be read"):
        decode_picture(dng(), name="a.dng", formats=images.WEB_FORMATS)
    with pytest.raises(PictureError, match=r"LibRaw can't read it as camera RAW: [A-Z]"):
        decode_picture(b"II*\0" + bytes(500), name="a.nef")
    with pytest.raises(
        PictureError, match=r"It has 0 megapixels \(128 x 96\) and the limit is 0.01"
    ):
        decode_picture(dng(), name="a.dng", max_megapixels=0.01)


def test_raw_without_its_library(without):
    without("rawpy")
    assert {".dng", ".nef", ".cr2", ".cr3", ".arw"} <= picture_extensions()
    with pytest.raises(PictureError, match=r"pip install 'datasette-clip-search\[raw\]'"):
        decode_picture(dng(), name="a.dng")
