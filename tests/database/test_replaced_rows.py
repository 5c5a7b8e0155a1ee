"""REPLACE, upserts and updates of the pictures' table: unchanged pictures keep their vectors."""

import json
import sqlite3
from contextlib import closing

import pytest

from support.commands import run
from support.databases import rows
from support.rebuilds import COUNT, counts, delete, found_ids, make_photos, nearest, status

COLUMNS = "id, path, content_hash, size, mtime, width, height, format"
SAME = f"insert or replace into images ({COLUMNS}) select {COLUMNS} from images where id in (6, 9)"
OTHER = COLUMNS.replace("content_hash", "content_hash || 'x'")
REHASHED = SAME.replace(f"select {COLUMNS}", f"select {OTHER}")


@pytest.fixture
def path(tmp_path):
    return make_photos(tmp_path)


@pytest.fixture(params=[0, 1], ids=["plain", "recursive triggers"])
def writer(path, request):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"pragma recursive_triggers = {request.param}")
        yield connection


def kept(connection):
    """Return the ids of the vectors, which must be those of the thumbnails."""
    vectors, thumbnails = (
        [id for (id,) in connection.execute(f"select image_id from {table} order by image_id")]
        for table in ("clip_embeddings", "clip_thumbnails")
    )
    assert vectors == thumbnails
    return set(vectors)


def without(*ids):
    return set(range(1, COUNT + 1)) - set(ids)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (SAME, without()),
        (SAME.replace("id in (6, 9)", "true"), without()),
        (SAME.replace("select id, path", "select id, 'new ' || path"), without()),
        (REHASHED, without(6, 9)),
        (f"replace into images ({COLUMNS}) {SAME.partition(') ')[2]}", without()),
        # The paths now have other ids.
        (SAME.replace("select id", "select id + 1000"), without(6, 9)),
        (SAME.replace("select id", "select null"), without(6, 9)),
        # One row replaces two.
        (SAME.replace("select id, path", "select id, iif(id = 6, '7.jpg', path)"), without(7)),
        (SAME.replace("or replace", "or ignore"), without()),
        ("update images set size = size + 1", without()),
        ("update images set content_hash = content_hash", without()),
        ("update images set content_hash = 'other' where id = 6", without(6)),
        ("delete from images where id in (6, 9)", without(6, 9)),
        ("delete from images", set()),
        ("update images set id = 1000 where id = 6", without(6) | {1000}),
    ],
)
def test_rows_and_what_belongs_to_them(path, writer, connect, sql, expected):
    writer.execute(sql)
    assert kept(writer) == expected
    there = {id for (id,) in writer.execute("select id from images")}
    with closing(connect(path)) as connection:
        if 1 in expected:
            assert (
                found_ids(connection, 1, 99)
                == [id for id in nearest(1, k=99) if id in expected & there]
                or 1000 in expected
            )
    assert status(path, "--status")["pictures_without_vector"] == len(there - expected)


@pytest.mark.parametrize(
    "before",
    [
        SAME.replace("or replace", "or ignore"),
        f"{SAME.replace('or replace ', '')} on conflict do update set size = 7",
        SAME,
    ],
)
def test_nothing_of_a_deleted_picture_stays(writer, before):
    """Whatever recorded it before: an insert that did not happen, or one that did."""
    writer.execute(before)
    (now,) = writer.execute("select julianday('now')").fetchone()
    while writer.execute("select julianday('now')").fetchone()[0] == now:
        pass
    writer.execute("delete from images where id in (6, 9)")
    assert kept(writer) == without(6, 9)
    assert writer.execute("select count(*) from clip_replaced").fetchone()[0] <= 1


def test_an_upsert_and_a_deletion_at_once(writer):
    upsert = SAME.replace("or replace ", "").replace("in (6, 9)", "= 6")
    writer.execute(f"{upsert} on conflict (path) do update set size = 7")
    writer.execute("delete from images where id = 6")
    assert kept(writer) == without(6)


def test_an_earlier_vector_is_not_reused(writer):
    """A reused id brings no vector with it, unless the content is the same."""
    (row,) = writer.execute(f"select {COLUMNS} from images where id = 6").fetchall()
    vector = writer.execute("select * from clip_embeddings where image_id = 6").fetchone()
    insert = f"insert into images ({COLUMNS}) values ({','.join('?' * len(row))})"
    add = f"insert into clip_embeddings values ({','.join('?' * len(vector))})"
    for content, expected in ((row[2], 1), ("another", 0)):
        writer.execute("delete from images where id = 6")
        writer.execute(add, vector)
        writer.execute(insert, [*row[:2], content, *row[3:]])
        sql = "select count(*) from clip_embeddings where image_id = 6"
        assert writer.execute(sql).fetchone() == (expected,)


def test_by_sqlite_utils(path):
    lines = run("rows", path, "images", "--where", "id in (6, 9)").stdout
    for options in (["--replace"], ["--ignore"], ["--upsert"]):
        command = "upsert" if options == ["--upsert"] else "insert"
        given = [] if command == "upsert" else options
        (path.parent / "rows.json").write_text(lines)
        file = path.parent / "rows.json"
        assert run(command, path, "images", file, "--pk", "id", *given).exit_code == 0
        assert counts(path) == (COUNT, COUNT)
    changed = json.loads(lines)
    changed[0]["content_hash"] = "f" * 64
    file.write_text(json.dumps(changed))
    assert run("insert", path, "images", file, "--pk", "id", "--replace").exit_code == 0
    assert counts(path) == (COUNT - 1, COUNT - 1)
    told = run("clip-index", path).stdout
    assert "No vector: 1 pictures are not found until embed-images embeds them" in told


def test_enforced_foreign_keys(writer):
    """They delete what belongs to a replaced row, and leave nothing that belongs to no row."""
    writer.execute("pragma foreign_keys = on")
    writer.execute(SAME)
    assert kept(writer) in (without(), without(6, 9))
    writer.execute("delete from images where id = 1")
    assert 1 not in kept(writer)
    assert writer.execute("pragma foreign_key_check").fetchall() == []


def test_without_triggers_the_other_content_is_not_found(path, connect):
    """A vector of a row's earlier content does not count for its new content."""
    assert run("transform", path, "images", "--drop", "mine").exit_code == 0
    gone = nearest(1)[0]
    replaced = (
        f"insert or replace into images ({COLUMNS}) "
        f"select {COLUMNS.replace('content_hash', chr(39) + 'other' + chr(39))} "
        f"from images where id = {gone}"
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(replaced)
    assert counts(path) == (COUNT, COUNT)
    assert found_ids(connect(path), 1) == nearest(1, [gone])
    told = status(path, "--status")
    assert (told["vectors_without_picture"], told["pictures_without_vector"]) == (1, 1)
    assert "1 vectors without a picture deleted" in run("clip-index", path).stdout
    assert rows(path, f"select count(*) from clip_embeddings where image_id = {gone}") == [(0,)]
    delete(path, [gone])
    assert status(path, "--status")["pictures_without_vector"] == 0
