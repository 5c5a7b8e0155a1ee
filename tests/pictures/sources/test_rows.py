"""--sql finds pictures in rows: blobs, and paths of files."""

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_clip_search.common.errors import CommandError, PictureUnreadable
from datasette_clip_search.pictures.sources import find_rows, rows
from support.sources import contents, put


@pytest.fixture
def photos(connect, tmp_path):
    connection = connect(tmp_path / "photos.db", isolation_level=None)
    connection.execute("create table photos (id integer primary key, name text, data)")
    for key, data in [(1, b"one"), (2, b""), (5, bytes(100_000)), (7, None), (8, 12), (9, 1.5)]:
        connection.execute("insert into photos values (?, ?, ?)", (key, f"n{key}", data))
    return connection


def test_blobs(photos, tmp_path):
    found = find_rows(photos, "select id, data from photos", tmp_path)
    assert contents(found) == {
        "sqlite:photos/1": b"one",
        "sqlite:photos/2": b"",
        "sqlite:photos/5": bytes(100_000),
    }
    assert [(source.key, source.size) for source in found.sources] == [(1, 3), (2, 0), (5, 100000)]
    for source in found.sources:
        assert (source.mtime, source.path, source.in_order) == (0.0, None, True)
        assert not hasattr(source, "__dict__")
    number = "The value is a number. Expected a picture's bytes or path"
    assert found.unreadable == [
        ("sqlite:photos/7", "The value is null. Expected a picture's bytes or path"),
        ("sqlite:photos/8", number),
        ("sqlite:photos/9", number),
    ]
    assert found.covers("sqlite:photos/6")
    assert found.lacks("sqlite:photos/6")
    assert not found.lacks("sqlite:photos2/6")
    assert not found.covers("photos/6")


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("select id, data from photos;", "photos"),
        ("select id, data from photos -- all; of them", "photos"),
        ("/* ; */ select id, data from photos; -- ;", "photos"),
        ("select id, data from photos /* never closed", "photos"),
        ("SELECT data, id FROM (select id as data, data as id from photos)", "photos"),
        ("select id as data, data as key from photos order by key desc", "photos"),
        ("with source as (select id, data from photos) select * from source", "photos"),
        ("select id, data from (select * from photos) where name != ';--' and id < 6", "photos"),
        ("select p.id, p.data from photos p join tags t on t.photo = p.id", "photos+tags"),
        ("select id, data from recent", "photos"),
        ('select id, data from "source"', "source"),
        ('select id, data from "a/b+c%"', "a%2Fb%2Bc%25"),
        ("select name, data from photos", "photos"),
        ("values (1, x'00'), (2, x'01')", "query"),
        ("select id, data from other.photos", "other.photos"),
        (
            "with recursive c(i) as (values (1) union all select i + 1 from c where i < 5) "
            "select i, data from c join photos on id = i",
            "photos",
        ),
    ],
)
def test_selects(photos, tmp_path, sql, name):
    photos.executescript(
        """
        create table tags (photo, tag);
        insert into tags values (1, 'x');
        create view recent as select * from photos where id > 1;
        create table source as select * from photos;
        create table "a/b+c%" as select * from photos;
        attach ':memory:' as other;
        create table other.photos as select * from photos;
        """
    )
    found = find_rows(photos, sql, tmp_path)
    assert found.sources
    expected = {1: b"one", 2: b"", 5: bytes(100_000), "n1": b"one", "n2": b"", "n5": bytes(100_000)}
    if name == "query":
        expected = {1: b"\0", 2: b"\1"}
    for source in found.sources:
        assert source.stored == f"sqlite:{name}/{source.key}"
        assert source.read() == expected[source.key]
    assert found.covers(f"sqlite:{name}/99")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "The SQL is empty"),
        (" ; -- nothing", "The SQL is empty"),
        ("select id from photos", r"returns 1 column \(id\)\. Expected two: a key, and a picture"),
        ("select * from photos", r"returns 3 columns \(id, name, data\)\. Expected two"),
        ("select id, data from nowhere", "can't be run: no such table: nowhere"),
        ("select id, data form photos", "The SQL can't be run: "),
        ("select id, data from photos where id = ?", "The SQL can't be run: "),
        ("select id, data from photos where id = :id", "The SQL can't be run: "),
        ("select id, data from photos; delete from photos", "more than one statement"),
        ("delete from photos returning id, data", "begins with delete"),
        ("insert into photos (id) values (50) returning id, data", "begins with insert"),
        ("pragma user_version = 7", "begins with pragma"),
        ("explain select id, data from photos", "begins with explain"),
        ("with x as (select 1) delete from photos returning id, data", "not authorized"),
        ("select 1, 2) , y as (select 3, 4", "The SQL can't be run: "),
        ("select id, data from photos where name = 'open", "The SQL can't be run: "),
        ("select id, data from photos where json_extract(name, '$')", "The SQL can't be run: "),
        ("select 1, data from photos", r"The key 1 appears twice in the column 1"),
        ("select id, data from photos union all select '5', x'00'", r"The key 5 appears twice"),
        ("select null as k, data from photos", r"A key in the column k is null"),
        ("select 1.5, data from photos", "is a real number"),
        ("select x'00', data from photos", "is a blob"),
        ("select cast(x'ff' as text), data from photos", "is not valid UTF-8"),
    ],
)
def test_sql_that_is_not_such_a_select(photos, tmp_path, sql, message):
    before = list(photos.iterdump())
    with pytest.raises(CommandError, match=message) as caught:
        find_rows(photos, sql, tmp_path)
    assert 'for example --sql "select id, data from photos"' in str(caught.value)
    assert list(photos.iterdump()) == before
    photos.execute("insert into photos (id) values (51)")
    assert photos.text_factory is str


def test_keys_that_are_equal_only_without_case(photos, tmp_path):
    photos.execute("create table t (k text collate nocase, data)")
    photos.execute("insert into t values ('a', x'01'), ('A', x'02'), ('a/../b', x'03')")
    found = find_rows(photos, "select k, data from t", tmp_path)
    assert contents(found) == {
        "sqlite:t/a": b"\1",
        "sqlite:t/A": b"\2",
        "sqlite:t/a/../b": b"\3",
    }


def test_rows_are_written_while_they_are_read(photos, tmp_path):
    found = find_rows(photos, "select id, data from photos", tmp_path)
    first, second, third = found.sources
    photos.execute("begin immediate")
    assert first.read() == b"one"
    photos.execute("update photos set data = x'99' where id = 2")
    photos.execute("delete from photos where id = 5")
    photos.execute("commit")
    assert second.read() == b"\x99"
    with pytest.raises(
        PictureUnreadable, match="Its row was changed while the pictures were being read"
    ):
        third.read()
    photos.execute("drop table photos")
    with pytest.raises(PictureUnreadable, match="can't be read: no such table: photos"):
        first.read()


def bytes_read() -> int:
    """Return how many bytes this process has read so far, from any file."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="Only Linux counts what is read")
@pytest.mark.parametrize("order", ["", " order by id desc", " order by name"])
def test_listing_loads_no_blob_and_reading_looks_up_its_row(photos, connect, tmp_path, order):
    small = [(key, b"x") for key in range(100, 5000)]
    with photos:
        photos.execute("begin")
        photos.execute("insert into photos values (20, 'big', zeroblob(50000000))")
        photos.executemany("insert into photos (id, data) values (?, ?)", small)
    fresh = connect(tmp_path / "photos.db")
    before = bytes_read()
    found = find_rows(fresh, f"select id, data from photos where id > 1{order}", tmp_path)
    assert bytes_read() - before < 2_000_000
    sources = {source.key: source for source in found.sources}
    assert sources[20].size == 50_000_000
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    fresh.set_progress_handler(count, 100)
    assert sources[4999].read() == b"x"
    assert steps < 5
    assert sources[20].read() == bytes(50_000_000)
    assert bytes_read() - before > 50_000_000


@pytest.mark.parametrize(
    "sql",
    [
        "select id, data from t limit 3000",
        "select name, data from t",
        "select id, data from t group by id",
        "select id, data from t order by name limit 3000",
    ],
)
def test_rows_without_an_index_are_fetched_many_at_once(connect, tmp_path, sql):
    connection = connect(tmp_path / "t.db")
    connection.execute("create table t (id, name, data)")
    many = [(key, f"n{key}", b"%d" % key) for key in range(3000)]
    connection.executemany("insert into t values (?, ?, ?)", many)
    connection.commit()
    found = find_rows(connection, sql, tmp_path)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    for source in found.sources:
        assert source.read() == str(source.key).removeprefix("n").encode()
    assert len(found.sources) == 3000
    assert len(statements) == 6
    assert found.sources[0].read() == b"0"


def test_rows_fetched_at_once_are_few_megabytes(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MAX_BYTES_AT_ONCE", 100_000)
    found = find_rows(photos, "select id, data from photos limit 10", tmp_path)
    statements: list[str] = []
    photos.set_trace_callback(statements.append)
    assert [len(source.read()) for source in found.sources] == [3, 0, 100_000]
    assert len(statements) == 2


def test_paths_in_rows(photos, tmp_path):
    put(tmp_path, "in/a.jpg", "in/b", "folder/c.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).touch()
    photos.execute("create table files (id integer primary key, path)")
    for path in ["in/a.jpg", f"{tmp_path}/in/b", "in/../in/a.jpg", "gone.jpg", "folder"]:
        photos.execute("insert into files (path) values (?)", (path,))
    for path in ["https://example.com/a.jpg", "data:image/png;base64,", "pipe.jpg", "", "a\0b"]:
        photos.execute("insert into files (path) values (?)", (path,))
    photos.execute("insert into files (path) values (cast(x'636166e92e6a7067' as text))")
    found = find_rows(photos, "select id, path from files", tmp_path)
    assert contents(found) == {"in/a.jpg": b"in/a.jpg", "in/b": b"in/b"}
    first, second = found.sources
    assert (first.key, second.key, first.in_order) == (1, 2, False)
    assert (first.path, first.size) == (f"{tmp_path}/in/a.jpg", 8)
    assert first.mtime == (tmp_path / "in/a.jpg").stat().st_mtime
    address = "It is a URL. Expected a picture's bytes or the path of a file"
    assert found.unreadable == [
        ("gone.jpg", "There is no such file"),
        ("folder", "It is a folder"),
        ("sqlite:files/6", address),
        ("sqlite:files/7", address),
        ("pipe.jpg", "It is not a regular file"),
        (
            "sqlite:files/9",
            "The value can't be a path. Expected a picture's bytes or the path of a file",
        ),
        (
            "sqlite:files/10",
            "The value can't be a path. Expected a picture's bytes or the path of a file",
        ),
        ("caf\\xe9.jpg", "Its name is not valid UTF-8. Rename the file"),
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(-(2**63), 2**63 - 1)
)
def test_any_key(text, number):
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (k, data)")
    connection.executemany("insert into t values (?, ?)", [(f"t{text}", b"a"), (number, b"b")])
    found = find_rows(connection, "select k, data from t", Path("/"))
    assert contents(found) == {f"sqlite:t/t{text}": b"a", f"sqlite:t/{number}": b"b"}
    connection.close()


@settings(max_examples=200, deadline=None)
@given(st.text("select idatfromphs()';-*/\"[`, 1\n?", max_size=40))
def test_any_sql_is_a_select_or_explained(sql):
    connection = sqlite3.connect(":memory:")
    connection.execute("create table photos (id integer primary key, data)")
    for text in (sql, f"select id, data from photos {sql}"):
        try:
            assert find_rows(connection, text, Path("/")).sources == []
        except CommandError as error:
            assert "--sql" in str(error)
    connection.close()
