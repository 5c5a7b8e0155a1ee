"""Every format decodes to the same pixels, and every other file has its reason."""

import io

import numpy as np
import pytest
from PIL import Image

from datasette_clip_search.common.errors import PictureError
from datasette_clip_search.pictures import decode as images
from datasette_clip_search.pictures.decode import (
    decode_picture,
    picture_extensions,
    picture_formats,
)
from support.commands import run
from support.databases import rows
from support.encoded_pictures import BLUE, RED, UNTURN, encode, likeness, needs, scene, with_facts
from support.paths import DEMO_MODEL, DEMO_PICTURES

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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "The file is empty"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n",
            "It is EPS, a program for printers, which is never run. Convert it to PNG or JPEG",
        ),
        (b"%PDF-1.7\n", "It is a PDF document, not a picture. Convert it to PNG or JPEG"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "It is a vector drawing (SVG), which is never rendered. Convert it to PNG or JPEG",
        ),
        (b" <!DOCTYPE html><html>", "It is a web page, not a picture"),
        (b"PK\x03\x04" + bytes(30), "It is an archive or a document, not a picture"),
        (b"just words", "It is not a picture in a format that can be read"),
        (encode(scene(), "PNG")[:900], "It ends early: part of the picture is missing"),
        (
            encode(scene(), "JPEG")[:20],
            "It ends early or is damaged: it begins like a JPEG, but its header can't be read",
        ),
        (
            encode(scene(), "BMP")[:-9000],
            "It ends early: part of the picture is missing",
        ),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(PictureError) as error:
        decode_picture(data)
    assert str(error.value) == reason
