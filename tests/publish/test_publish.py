"""clip-publish copies all that searches need from one moment of a database."""

import re
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.database.schema import KNOWN_MIGRATIONS, OWN_TABLES
from support.commands import run
from support.contents import contents
from support.databases import rows
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.publishing import digest, publish, schema

TOWERS = "clip_towers"


PLACES = "select count(*) from images where latitude is not null or longitude is not null"


def test_holds_all_that_searches_need(demo_database, published):
    assert schema(published) == schema(demo_database)
    assert rows(published, "select name from _sqlite_migrations order by name") == [
        (name,) for name in sorted(KNOWN_MIGRATIONS)
    ]
    theirs = rows(demo_database, "select id, content_hash, taken, camera, width from images")
    assert rows(published, "select id, content_hash, taken, camera, width from images") == theirs
    for table in ("clip_embeddings", "clip_thumbnails"):
        assert rows(published, f"select * from {table}") == rows(
            demo_database, f"select * from {table}"
        )
    contents(published)
    assert rows(published, "pragma foreign_key_check") == []


def test_is_one_compact_file(published):
    assert [path.name for path in published.parent.iterdir()] == [published.name]
    assert rows(published, "pragma journal_mode") == [("delete",)]
    assert rows(published, "pragma freelist_count") == [(0,)]
    assert rows(published, "pragma page_size") == [(CONFIG.published_page_size,)]


def test_tells_nothing_of_the_machine(demo_database, published):
    data = published.read_bytes()
    for place in (demo_database.parent, DEMO_PICTURES.parent, DEMO_MODEL.parent, Path.home()):
        assert str(place).encode() not in data
    places = rows(demo_database, "select latitude, longitude from images where latitude not null")
    assert len(places) > 50
    for numbers in places:
        for number in numbers:
            assert struct.pack(">d", number) not in data
    assert rows(published, PLACES) == [(0,)]
    assert rows(published, "select count(*) from clip_failures") == [(0,)]
    assert rows(published, "select pretrained from clip_models") == [("./model",)]


def test_source_stays_as_it_is(demo_database, tmp_path):
    before = digest(demo_database), sorted(demo_database.parent.iterdir())
    publish(demo_database, tmp_path / "p.db", "--vectors", "fp16", "--thumbnail-size", "100")
    assert (digest(demo_database), sorted(demo_database.parent.iterdir())) == before


def test_changes_of_a_published_database_are_noticed(published, demo_database, tmp_path):
    """The triggers exist, and an index of the private vectors is not taken for a public one."""
    sql = "select revision from clip_models"
    assert rows(published, sql) != rows(demo_database, sql)
    # Only the current point of the history.
    assert rows(published, "select seq, revision from clip_changes") == [
        (1, *rows(published, sql)[0])
    ]
    copy = tmp_path / "copy.db"
    copy.write_bytes(published.read_bytes())
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("delete from images where id = 1")
    assert rows(copy, sql) != rows(published, sql)
    assert rows(copy, "select count(*) from clip_embeddings where image_id = 1") == [(0,)]


@pytest.mark.parametrize(
    ("options", "sql", "expected"),
    [
        (["--keep-gps"], PLACES, 99),
        (["--drop", "taken"], "select count(*) from images where taken not null or mtime", 0),
        (["--drop", "camera"], "select count(*) from images where camera not null", 0),
        (["--no-thumbnails"], "select count(*) from clip_thumbnails", 0),
        (["--where", "taken >= '2023-07'"],
         "select count(*) from images where taken < '2023-07'", 0),
        (["--where", "id < :n", "-p", "n", "4"], "select count(*) from clip_embeddings", 3),
        (["--where", "id in (select id from clip_search(1, 5))"],
         "select count(*) from images", 5),
    ],
)  # fmt: skip
def test_choices(demo_database, tmp_path, options, sql, expected):
    database = publish(demo_database, tmp_path / "p.db", *options)
    assert rows(database, sql) == [(expected,)]
    assert rows(database, "select count(*) from images") > [(0,)]
    assert contents(database)


def test_models(tiny_database, tmp_path, other_model):
    picture = tiny_database.parent / "pictures" / "00.png"
    result = run("embed-images", tiny_database, picture, "--pretrained", other_model)
    assert result.exit_code == 0, result.output
    sql = "select id, is_default from clip_models order by id"
    assert rows(publish(tiny_database, tmp_path / "1.db"), sql) == [(1, 1)]
    other = publish(tiny_database, tmp_path / "2.db", "--model", "other")
    assert rows(other, sql) == [(2, 1)]
    assert rows(other, "select count(*) from images") == [(1,)]
    both = publish(tiny_database, tmp_path / "3.db", "--all-models")
    assert rows(both, sql) == [(1, 1), (2, 0)]
    assert rows(both, "select model_id, count(*) from clip_embeddings group by 1") == [
        (1, 6),
        (2, 1),
    ]


def test_renamed_table_and_dropped_columns(tiny_database, tmp_path):
    """No command that writes has restored a read-only database."""
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.executescript("""
            alter table images drop column key;
            alter table clip_embeddings drop column precision;
            alter table clip_models drop column calibration;
            drop table clip_publication;
            drop table clip_changes;
            drop trigger clip_model_inserted;
            drop trigger clip_embedding_inserted;
            drop trigger clip_embedding_updated;
            drop trigger clip_embedding_moved;
            drop trigger clip_embedding_deleted;
            alter table images rename to "odd ""name";
        """)
    database = publish(tiny_database, tmp_path / "p.db")
    assert rows(database, 'select count(path), count(key) from "odd ""name"') == [(6, 0)]
    assert rows(database, "select count(precision) from clip_embeddings") == [(0,)]


@pytest.mark.skipif(not set(OWN_TABLES) >= {TOWERS}, reason="there are no towers")
def test_towers(tiny_database, tmp_path, other_model):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute(f"delete from {TOWERS}")
        for tower in ("text", "image"):
            for part in range(2):
                sql = f"insert into {TOWERS} (model_id, tower, precision, part, data) values "
                connection.execute(f"{sql} (1, ?, 'int8', ?, ?)", (tower, part, b"x" * 1000))
    picture = tiny_database.parent / "pictures" / "00.png"
    result = run("embed-images", tiny_database, picture, "--pretrained", other_model)
    assert result.exit_code == 0, result.output
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute(f"delete from {TOWERS} where model_id = 2")
        sql = f"insert into {TOWERS} (model_id, tower, part, data) values (2, 'text', 0, ?)"
        connection.execute(sql, ('{"refused": "/home/me/broken"}',))
    sql = f"select tower, count(*) from {TOWERS} group by tower order by tower"
    result = run("clip-publish", tiny_database, tmp_path / "1.db")
    assert "text tower" in result.stdout
    assert "no text tower" not in result.stderr
    assert rows(tmp_path / "1.db", sql) == [("text", 2)]
    both = publish(tiny_database, tmp_path / "2.db", "--with-image-search")
    assert rows(both, sql) == [("image", 2), ("text", 2)]
    every = ("--all-models", "--with-image-search")
    result = run("clip-publish", tiny_database, tmp_path / "3.db", *every)
    assert "no text tower" in result.stderr
    assert "Visitors can't search by their own pictures: that needs an image tower" in result.stderr
    assert "an image tower" not in run("clip-publish", tiny_database, both, every[1]).stderr
    assert rows(tmp_path / "3.db", sql) == [("image", 2), ("text", 2)]
    assert b"/home/me" not in (tmp_path / "3.db").read_bytes()


def test_one_moment_of_a_database_that_is_being_written(tiny_database, tmp_path):
    from datasette_clip_search.publish import PublishOptions, PublishProgress
    from datasette_clip_search.publish import publish_file as write

    with closing(sqlite3.connect(tiny_database)) as connection:
        connection.execute("pragma journal_mode = wal")

    class Writing(PublishProgress):
        def start(self, what: str, pictures: int) -> None:
            assert pictures == 6
            with closing(sqlite3.connect(tiny_database)) as connection, connection:
                connection.execute("delete from images where id > 3")

    with closing(sqlite3.connect(tiny_database)) as connection:
        report = write(tiny_database, tmp_path / "p.db", connection, PublishOptions(), Writing())
    assert report.pictures == 6
    assert len(contents(tmp_path / "p.db")) == 6
    assert rows(tmp_path / "p.db", "select count(*) from clip_embeddings") == [(6,)]
    assert rows(tiny_database, "select count(*) from images") == [(3,)]


def test_bytes_by_part_add_up(demo_database, tmp_path):
    result = run("clip-publish", demo_database, tmp_path / "p.db")
    sizes = {}
    for line in result.stdout.splitlines():
        if " bytes " in line:
            part, number = line.split(" bytes ")[0].rsplit(None, 1)
            sizes[part.strip()] = int(number.replace(",", ""))
    total = sizes.pop("total")
    assert total == sum(sizes.values()) == (tmp_path / "p.db").stat().st_size
    [(vectors,)] = rows(demo_database, "select sum(length(embedding)) from clip_embeddings")
    [(thumbnails,)] = rows(demo_database, "select sum(length(data)) from clip_thumbnails")
    assert vectors < sizes["vectors"] < 1.1 * vectors
    assert thumbnails < sizes["thumbnails"] < 1.1 * thumbnails
    assert "datasette publish cloudrun" in result.stdout
    [left_out] = re.findall(r"^Left out: +(.*)", result.stdout, re.M)
    assert left_out.startswith("gps (99), ")
    assert left_out.endswith("  (--keep FACT publishes one)")
    assert "gps" not in result.stderr.lower()


def test_silent(tiny_database, tmp_path):
    assert run("clip-publish", tiny_database, tmp_path / "p.db", "--silent").output == ""
