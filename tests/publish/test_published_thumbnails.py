"""A published thumbnail has nothing in it but a picture."""

import io
import sqlite3
from contextlib import closing

import pytest
from PIL import Image

from datasette_clip_search.publish.public_thumbnails import plain_thumbnail
from support.commands import run
from support.databases import rows
from support.publishing import publish


def test_smaller_thumbnails(demo_database, tmp_path, published):
    database = publish(demo_database, tmp_path / "p.db", "--thumbnail-size", "100")
    made = rows(database, "select format, data from clip_thumbnails")
    assert len(made) == 160
    for format, data in made:
        with Image.open(io.BytesIO(data)) as image:
            assert (format, image.format) == ("jpeg", "JPEG")
            assert max(image.size) == 100
    assert database.stat().st_size < published.stat().st_size


def test_damaged_thumbnail_is_left_out(tiny_database, tmp_path):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute("update clip_thumbnails set data = x'00' where image_id = 2")
    result = run("clip-publish", tiny_database, tmp_path / "p.db", "--thumbnail-size", "20")
    assert "Left out: 1 thumbnail that can't be read" in result.stderr
    assert rows(tmp_path / "p.db", "select count(*) from clip_thumbnails") == [(5,)]


def jpeg(**options: object) -> bytes:
    data = io.BytesIO()
    Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).convert("RGB").save(
        data, "JPEG", **options
    )
    return data.getvalue()


PLAIN = jpeg()


NOT_PLAIN = {
    "comment": jpeg(comment=b"Mark"),
    "exif": jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0Mark"),
    "after its end": PLAIN + b"Mark",
    "between scans": PLAIN[:-2] + b"\xff\xfe\0\x06Mark\xff\xd9",
    "padding": PLAIN[:2] + b"\xff\xfe\0\x06Mark" + PLAIN[2:],
    "application": PLAIN[:2] + b"\xff\xe9\0\x06Mark" + PLAIN[2:],
    "an extension of JFIF": PLAIN[:20] + b"\xff\xe0\0\x0bJFXX\0Mark" + PLAIN[20:],
    "progressive": jpeg(progressive=True, comment=b"Mark"),
}


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_thumbnails_with_metadata_are_encoded_again(kind):
    assert b"Mark" in NOT_PLAIN[kind]
    made = plain_thumbnail("jpeg", NOT_PLAIN[kind])
    assert made is not None
    assert b"Mark" not in made[1]
    with Image.open(io.BytesIO(made[1])) as image:
        assert image.size == (64, 48)


def test_a_thumbnail_that_would_fill_the_memory_is_left_out():
    data = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(data, "PNG")
    assert plain_thumbnail("png", data.getvalue()) is None


@pytest.mark.parametrize("options", [{}, {"quality": 95}, {"restart_marker_blocks": 2}])
def test_plain_thumbnails_stay(options):
    assert plain_thumbnail("jpeg", jpeg(**options)) == ("jpeg", jpeg(**options))


@pytest.mark.parametrize("end", range(0, len(PLAIN), 97))
def test_thumbnails_that_end_early(end):
    made = plain_thumbnail("jpeg", PLAIN[:end])
    assert made is None or plain_thumbnail(*made) == made
