"""Tables and columns of the user's are published on request, without picture files."""

import io
import sqlite3
import zlib
from contextlib import closing

import pytest
from PIL import Image

from datasette_clip_search.database.private_facts import kept_facts
from datasette_clip_search.publish.private_paths import PublicPaths
from datasette_clip_search.publish.public_facts import PublicFacts
from support.commands import run
from support.databases import rows


def test_tables_and_columns_of_the_users(tiny_database, tmp_path):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.executescript("""
            create table photos (id integer primary key, title text, file text, twice as (id * 2));
            insert into photos (title, file) values ('one', '/home/me/1.jpg'), ('two', 'b');
            create index by_title on photos (title);
            create view both as select * from photos;
            create table secrets (word text);
            insert into secrets values ('sesame-open-wide');
            create virtual table words using fts5(title);
            alter table images add column stars integer;
            update images set stars = id;
        """)
    result = run("clip-publish", tiny_database, tmp_path / "bare.db")
    assert b"sesame" not in (tmp_path / "bare.db").read_bytes()
    assert "Left out: your own columns stars; --with-column stars keeps one" in result.stderr
    options = ["--with-table", "Photos", "--with-column", "stars"]
    result = run("clip-publish", tiny_database, tmp_path / "p.db", *options)
    assert result.exit_code == 0, result.output
    assert "Published: 1 absolute path in photos.file, unchanged" in result.stderr
    assert rows(tmp_path / "p.db", "select title, twice from photos") == [("one", 2), ("two", 4)]
    assert rows(tmp_path / "p.db", "select sum(stars = id) from images") == [(6,)]
    assert rows(
        tmp_path / "p.db", "select count(*) from sqlite_master where name = 'by_title'"
    ) == [(1,)]
    for option, name, said in [
        ("--with-table", "both", "both is a view"),
        ("--with-table", "words", "words is a virtual table"),
        ("--with-table", "clip_models", "is one of embed-images' own tables"),
        ("--with-table", "images", "is one of embed-images' own tables"),
        (
            "--with-table",
            "nothing",
            "There is no table nothing to publish. Your own tables in this database: photos, ",
        ),
        (
            "--with-column",
            "nothing",
            "has no column nothing that you added. Columns that you added: stars",
        ),
        ("--with-column", "path", "has no column path that you added"),
    ]:
        result = run("clip-publish", tiny_database, tmp_path / "none.db", option, name)
        assert result.exit_code == 1
        assert said in result.stderr
        assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_picture_files_in_user_tables_are_left_out(kind):
    data = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(data, kind)
    published = PublicFacts(kept_facts((), ()), PublicPaths([]))
    assert published.user_value("photos", "data", data.getvalue()) is None
    assert published.user_value("photos", "data", data.getvalue(), b"") == b""
    assert published.originals == {"photos.data": 2}
    published = PublicFacts(kept_facts(["original"], ()), PublicPaths([]))
    assert published.user_value("photos", "data", data.getvalue()) == data.getvalue()


@pytest.mark.parametrize("value", [None, 7, "GIF89a", b"", b"GI", b"text", zlib.compress(b"x")])
def test_other_values_of_the_users_are_published(value):
    published = PublicFacts(kept_facts((), ()), PublicPaths([]))
    assert published.user_value("photos", "data", value, b"") is value
    assert published.originals == {}
