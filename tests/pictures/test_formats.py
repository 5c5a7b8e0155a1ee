"""Formats, colours and damage: what every decoder must agree on."""

import builtins
import io
import struct
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter

from datasette_clip_search.common.errors import PictureError
from datasette_clip_search.pictures import decode as images
from datasette_clip_search.pictures import formats
from datasette_clip_search.pictures.decode import (
    decode_picture,
    picture_extensions,
    picture_formats,
)
from support.commands import run
from support.databases import rows
from support.paths import DEMO_MODEL, DEMO_PICTURES

RED, BLUE = (255, 0, 0), (0, 0, 255)
UNTURN = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(image, format, **options):
    output = io.BytesIO()
    image.save(output, format, **options)
    return output.getvalue()


def with_facts(orientation=1):
    exif = Image.Exif()
    exif[271], exif[272], exif[274] = "Acme", "Snap 3", orientation
    exif.get_ifd(0x8769)[36867] = "2021:07:04 12:30:59"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (33.0, 30.0, 36.0), "E", (70.0, 0.0, 0.0)
    return exif.tobytes()


@cache
def scene(size=(320, 240)):
    """A picture like a photograph, whose every part is a little different."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    soft = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    soft.paste(RED, (0, 0, size[0] // 4, size[1] // 4))
    return soft.filter(ImageFilter.GaussianBlur(1))


def likeness(picture, expected):
    """PSNR in decibels."""
    assert picture.size == expected.size
    error = np.mean((np.asarray(picture, float) - np.asarray(expected, float)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def needs(format):
    if format == "HEIF":
        pytest.importorskip("pillow_heif")
        assert formats.has_heif()


SAVED = [
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("AVIF", {"quality": 95}),
    ("HEIF", {"quality": 95, "chroma": 444}),
]


@pytest.mark.parametrize(("format", "options"), [*SAVED, ("BMP", {}), ("GIF", {})])
def test_pixels(format, options):
    needs(format)
    picture = decode_picture(encode(scene(), format, **options))
    assert (picture.format, picture.image.mode) == (format, "RGB")
    assert likeness(picture.image, scene()) > (25 if format == "GIF" else 35)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "options"), SAVED)
def test_orientation_and_facts(format, options, orientation):
    needs(format)
    turn = UNTURN[orientation]
    stored = scene() if turn is None else scene().transpose(turn)
    picture = decode_picture(encode(stored, format, exif=with_facts(orientation), **options))
    assert likeness(picture.image, scene()) > 35
    assert (picture.width, picture.height) == scene().size
    facts = picture.facts
    assert (facts.taken, facts.camera) == ("2021-07-04T12:30:59", "Acme Snap 3")
    assert (facts.latitude, facts.longitude) == (-33.51, 70.0)
    assert picture.image.info == {}


@pytest.mark.skipif(not DEMO_MODEL.is_dir(), reason="demo/model is not there")
def test_eight_orientations_are_one_vector(tmp_path):
    pytest.importorskip("open_clip")
    for orientation, turn in UNTURN.items():
        with Image.open(sorted(DEMO_PICTURES.rglob("*.*"))[0]) as picture:
            stored = picture.convert("RGB")
        if turn is not None:
            stored = stored.transpose(turn)
        path = tmp_path / f"{orientation}.jpg"
        path.write_bytes(encode(stored, "JPEG", quality=95, exif=with_facts(orientation)))
    model = ["--model", "demo", "--pretrained", DEMO_MODEL]
    result = run("embed-images", tmp_path / "turned.db", tmp_path, *model)
    assert result.exit_code == 0, result.output
    blobs = rows(tmp_path / "turned.db", "select embedding from clip_embeddings")
    vectors = np.array([np.frombuffer(blob, "<f4") for (blob,) in blobs])
    assert len(vectors) == 8
    assert (vectors @ vectors.T).min() >= 0.99


def test_heic_takes_the_primary_picture():
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(Image.new("RGB", (64, 64), RED))
    heif.add_from_pillow(Image.new("RGB", (64, 64), BLUE))
    output = io.BytesIO()
    heif.save(output, primary_index=1, quality=95)
    red, _, blue = decode_picture(output.getvalue()).image.getpixel((32, 32))
    assert blue > 200 > 60 > red


def test_mpo_takes_the_primary_picture():
    pair = [Image.new("RGB", (64, 64), colour) for colour in (RED, BLUE)]
    picture = decode_picture(encode(pair[0], "MPO", save_all=True, append_images=pair[1:]))
    red, _, blue = picture.image.getpixel((32, 32))
    assert red > 200 > 60 > blue


@pytest.fixture
def without(monkeypatch):
    """Hides a library, as if it were not installed."""
    caches = (formats.has_heif, formats.picture_formats, formats.picture_extensions)
    real = builtins.__import__
    opened = {format: Image.OPEN.get(format) for format in ("HEIF",)}
    hidden = set()

    def hide(name, *arguments, **options):
        if name in hidden:
            raise ImportError(f"No module named '{name}'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", hide)

    def without(name):
        hidden.add(name)
        for cached in caches:
            cached.cache_clear()
        # Another test may have let Pillow open HEIC already.
        if name == "pillow_heif":
            monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
            monkeypatch.setattr(Image, "ID", [each for each in Image.ID if each != "HEIF"])

    yield without
    for cached in caches:
        cached.cache_clear()
    for format, opener in opened.items():
        if opener:
            Image.OPEN[format] = opener


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_without_its_library(without):
    without("pillow_heif")
    assert "HEIF" not in picture_formats()
    assert ".heic" in picture_extensions()
    with pytest.raises(PictureError, match=r"pip install pillow-heif .*datasette-clip-search\[emb"):
        decode_picture(HEIC, name="IMG_1.HEIC")


def test_broken_heic():
    needs("HEIF")
    with pytest.raises(PictureError) as error:
        decode_picture(HEIC)
    assert "install" not in str(error.value)
    assert "HEIF" not in images.WEB_FORMATS
    good = encode(scene(), "HEIF")
    with pytest.raises(PictureError, match="not a picture in a format that can be read"):
        decode_picture(good, formats=images.WEB_FORMATS)


# Camera RAW. A DNG (Adobe, DNG 1.4) as a camera writes it: a thumbnail first, the mosaic of the
# sensor in a sub-picture, and a JPEG preview in another.


class Tiff:
    """A little-endian TIFF, built from its end: whatever is added is written at once."""

    def __init__(self):
        self.data = bytearray(b"II*\0\0\0\0\0")

    def add(self, data):
        place = len(self.data)
        self.data += data + bytes(len(data) % 2)
        return place

    def directory(self, *entries):
        """Adds (tag, type, values), and returns its place."""
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
    """A DNG of a green sensor; its previews are of scene(), the thumbnail blue."""
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
            # As cameras do: EXIF in place of JFIF, right at the start.
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
    """By the preview's own EXIF, or else by the RAW file's."""
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


def test_raw_is_told_by_name_and_never_for_strangers():
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


# Colours.


def fixed(value):
    return struct.pack(">l", round(value * 65536))


def profile(space, tags, connection=b"XYZ "):
    """An ICC profile (ICC.1:2001-04) of a device."""
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


# sRGB's primaries, adapted to D50.
PRIMARIES = {
    "r": (0.4361, 0.2225, 0.0139),
    "g": (0.3851, 0.7169, 0.0971),
    "b": (0.1431, 0.0606, 0.7142),
}
WHITE = {b"wtpt": xyz(0.9642, 1, 0.8249)}


def rgb_profile(order="rgb", power=2.2):
    """A matrix profile whose first channel is the first of `order`, and so on."""
    tags = dict(WHITE)
    for channel, primary in zip("rgb", order, strict=True):
        tags[f"{channel}XYZ".encode()] = xyz(*PRIMARIES[primary])
        tags[f"{channel}TRC".encode()] = gamma(power)
    return profile(b"RGB ", tags)


GREY = profile(b"GRAY", {**WHITE, b"kTRC": gamma(1.0)})
# What linear 100 of 255 is in sRGB.
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
        # A grey picture with a colour profile is common.
        (plain("L", 100), rgb_profile(power=1.0), (LINEAR_100,) * 3),
        (plain("P", 0), rgb_profile("bgr"), (0, 0, 255)),
        (plain("RGBA", (255, 0, 0, 255)), rgb_profile("bgr"), (0, 0, 255)),
        (plain("RGBA", (255, 0, 0, 0)), rgb_profile("bgr"), (255, 255, 255)),
        # These say nothing of the picture's colours, so it keeps them.
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
    """A CMYK profile by whose table yellow ink looks blue, black is black, and others nothing."""
    # lut8Type, Lab in 8 bits: L of 255 is white, a and b of 128 are none.
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
    """Pillow writes JPEG inverted, as Adobe does, and reads it so."""
    yellow = plain("CMYK", (0, 0, 255, 0))
    red, green, blue = decode_picture(encode(yellow, format)).image.getpixel((16, 16))
    assert min(red, green) > 200 > 60 > blue
    data = encode(yellow, format, icc_profile=cmyk_profile())
    red, green, blue = decode_picture(data).image.getpixel((16, 16))
    assert blue > 120 > max(red, green)


def test_lab():
    lab = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (255, 128, 128)])
    # Pillow writes the signed channels as they are.
    assert min(decode_picture(encode(lab, "TIFF")).image.getpixel((4, 4))) > 200


# JPEGs that end early.

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


def test_grey_of_the_picture_itself_is_not_missing():
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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "The file is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS is a program for a printer; it is not run"),
        (b"%PDF-1.7\n", "PDF is a document, not a picture"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "SVG is a list of drawing commands; it is not run",
        ),
        (b" <!DOCTYPE html><html>", "It is a web page, not a picture"),
        (b"PK\x03\x04" + bytes(30), "It is an archive or a document, not a picture"),
        (b"just words", "It is not a picture in a format that can be read"),
        (encode(scene(), "PNG")[:900], "It ends early, so that part of the picture is missing"),
        (
            encode(scene(), "JPEG")[:20],
            "It ends early, or is damaged: it begins like a JPEG, but its header can't be read",
        ),
        (
            encode(scene(), "BMP")[:-9000],
            "It ends early, so that part of the picture is missing",
        ),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(PictureError) as error:
        decode_picture(data)
    assert str(error.value) == reason
