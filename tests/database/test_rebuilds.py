"""Tables that other programs rebuild: answers stay right, and the next command restores them."""

import json
import sqlite3
from contextlib import closing

import pytest

from datasette_clip_search.database.index import IndexChoice
from datasette_clip_search.database.index.kinds import KINDS
from datasette_clip_search.database.index.snapshot_cache import snapshot_for
from datasette_clip_search.database.model import default_model
from datasette_clip_search.database.thumbnails import read_thumbnail
from support.commands import run
from support.databases import rows
from support.indexes import build_index, everything
from support.rebuilds import (
    COUNT,
    VECTORS,
    counts,
    delete,
    found_ids,
    make_photos,
    nearest,
    status,
    table_of,
)
from support.vector_database import clustered, make, put


def sql(*statements):
    def change(path):
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return change


def command(*arguments):
    def change(path):
        done = run(arguments[0], path, *arguments[1:])
        assert done.exit_code == 0, done.output

    return change


def foreign_key(path):
    sql("create table albums (id text primary key)", "insert into albums values ('y0')")(path)
    command("add-foreign-key", "images", "album", "albums", "id", "--ignore")(path)


def by_hand(path):
    """The way that SQLite's documentation describes."""
    with closing(sqlite3.connect(path)) as connection, connection:
        query = "select sql from sqlite_master where name = 'images'"
        (declared,) = connection.execute(query).fetchone()
        connection.execute(declared.replace("images", "images_new", 1))
        connection.execute("insert into images_new select * from images")
        connection.execute("drop table images")
        connection.execute("alter table images_new rename to images")


# Each of these drops the triggers of the pictures' table.
OF_PICTURES = {
    "rename column": command("transform", "images", "--rename", "mine", "yours"),
    "drop column": command("transform", "images", "--drop", "mine"),
    "type": command("transform", "images", "--type", "mine", "integer"),
    "order": command("transform", "images", "--column-order", "mine"),
    "primary key": command("transform", "images", "--pk", "path"),
    "foreign key": foreign_key,
    "extract": command("extract", "images", "mine"),
    "extract ours": command("extract", "images", "camera"),
    "extract required": command("extract", "images", "format"),
    "by hand": by_hand,
    "rename after": lambda path: (
        command("transform", "images", "--drop", "mine")(path),
        sql("alter table images rename to pics")(path),
    ),
    "drop triggers": sql("drop trigger clip_image_deleted"),
}


def renamed_and_copied(path):
    """Leave the vectors referring to a table that is gone."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("alter table images rename to images_old")
        connection.execute("create table images as select * from images_old")
        connection.execute("drop table images_old")


# Each of these drops triggers that record changed vectors, or keys.
OF_VECTORS = {
    "vectors": command("transform", "clip_embeddings", "--type", "precision", "text"),
    "vectors' key": command("transform", "clip_embeddings", "--pk", "image_id"),
    "vectors' link": command("transform", "clip_embeddings", "--drop-foreign-key", "model_id"),
    "models": command("transform", "clip_models", "--type", "calibration", "text"),
    "history": sql(
        "drop table clip_changes",
        "drop trigger clip_model_inserted",
        *(
            f"drop trigger clip_embedding_{done}"
            for done in ("inserted", "updated", "moved", "deleted")
        ),
    ),
    "triggers": sql("drop trigger clip_embedding_updated"),
}
# These do no harm.
HARMLESS = {
    "rename table": sql("alter table images rename to pics"),
    "add column": command("add-column", "images", "more", "text"),
    "convert": command("convert", "images", "mine", "value.upper()"),
    "thumbnails": command("transform", "clip_thumbnails", "--type", "format", "text"),
    "search of words": command("enable-fts", "images", "path", "--create-triggers"),
    "index": command("create-index", "images", "mine"),
    "indexes": command("index-foreign-keys"),
}


@pytest.fixture
def path(tmp_path):
    return make_photos(tmp_path)


@pytest.mark.parametrize("name", OF_PICTURES)
def test_pictures_without_triggers(path, connect, name):
    warm = connect(path)
    gone = nearest(1)[:3]
    found_ids(warm, 1)
    OF_PICTURES[name](path)
    assert found_ids(warm, 1) == nearest(1)
    delete(path, gone)
    # The vectors are there, but neither an old nor a new connection finds them.
    assert counts(path) == (COUNT, COUNT)
    for connection in (warm, connect(path)):
        assert found_ids(connection, 1) == nearest(1, gone)
        assert len(found_ids(connection, 1, 100)) == COUNT - 4
        everything = json.dumps(list(range(1, COUNT + 1)))
        assert found_ids(connection, 1, 10, f", null, '{everything}'") == nearest(1, gone)
        (text,) = connection.execute("select clip_search_json(1, 10)").fetchone()
        assert [hit["id"] for hit in json.loads(text)] == nearest(1, gone)
        with pytest.raises(sqlite3.OperationalError, match="There is no picture"):
            connection.execute("select clip_vector(?)", gone[:1]).fetchone()
        with pytest.raises(sqlite3.OperationalError, match="There is no picture"):
            found_ids(connection, gone[0])
        pairs = connection.execute("select id from clip_duplicates(0.7)").fetchall()
        assert not {id for (id,) in pairs} & set(gone)
        assert read_thumbnail(connection, gone[0]) is None
        assert read_thumbnail(connection, 1)
    told = status(path, "--status")
    assert (told["pictures"], told["vectors_without_picture"]) == (COUNT - 3, 3)
    result = run("clip-index", path, "--status")
    assert "3 vectors have no picture and are not searched" in result.output
    # A command that writes restores them, and says so.
    result = run("clip-index", path)
    assert "Restored:" in result.output
    assert "3 vectors without a picture deleted" in result.output
    assert counts(path) == (COUNT - 3, COUNT - 3)
    assert status(path)["restored"] == []
    assert found_ids(warm, 1) == nearest(1, gone)
    delete(path, [4])
    assert counts(path) == (COUNT - 4, COUNT - 4)
    assert found_ids(warm, 1) == nearest(1, [*gone, 4])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_index_leaves_them_out(tmp_path, connect, configured, monkeypatch, kind):
    configured(depths=(64, 100))
    monkeypatch.setattr("datasette_clip_search.database.index.build._least_effort", everything)
    path = make(tmp_path / "photos.db", clustered(1200))
    build_index(path, IndexChoice(kind))
    warm = connect(path)
    gone = {id for query in (1, 2) for id in found_ids(warm, query, 40)[::2]}
    sql("drop trigger clip_image_deleted")(path)
    delete(path, gone)
    for connection in (warm, connect(path)):
        for query in (1, 2):
            if query not in gone:
                assert found_ids(connection, query, 30) == nearest(query, gone, 30, clustered(1200))
        crowd = snapshot_for(connection, default_model(connection)[1]).crowd(connection)
        assert not gone & set(crowd.ids.tolist())
    # A new index holds none of them.
    assert build_index(path, IndexChoice(kind), force=True).header.count == 1200 - len(gone)


@pytest.mark.parametrize("name", ["drop column", "extract required", "rename after"])
def test_publishing_pictures_without_triggers(path, name, tmp_path):
    OF_PICTURES[name](path)
    delete(path, [2, 3, 4])
    published = tmp_path / "published.db"
    assert run("clip-publish", path, published).exit_code == 0
    for table in ("clip_embeddings", "clip_thumbnails"):
        sql = f"select count(*) from {table} where image_id not in (select id from {{}})"
        assert rows(published, sql.format(table_of(published))) == [(0,)]
    assert counts(published) == (COUNT - 3, COUNT - 3)
    result = run("clip-publish", path, tmp_path / "other.db")
    assert "Left out: 3 vectors without a picture" in result.output + result.stderr


@pytest.mark.parametrize("name", OF_VECTORS)
def test_vectors_without_triggers(path, connect, name):
    warm = connect(path)
    found_ids(warm, 1)
    OF_VECTORS[name](path)
    vectors = VECTORS.copy()
    vectors[5:15] = clustered(10, seed=9)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "update clip_embeddings set embedding = ? where image_id = ?",
            [(vectors[id - 1].astype("<f4").tobytes(), id) for id in range(6, 16)],
        )
        connection.execute("delete from clip_embeddings where image_id = 20")
    for query in (1, 7):
        expected = nearest(query, [20], vectors=vectors)
        assert found_ids(warm, query) == found_ids(connect(path), query) == expected
    told = status(path, "--status")
    assert (told["pictures"], told["pictures_without_vector"]) == (COUNT - 1, 1)
    if name != "models":
        assert "triggers" in told["problem"]
    assert status(path)["restored"]
    assert status(path, "--status")["problem"] is None
    assert found_ids(connect(path), 7) == nearest(7, [20], vectors=vectors)
    with closing(sqlite3.connect(path)) as connection, connection:
        put(connection, [20], clustered(1, seed=11))
    assert status(path, "--status")["changed_since"] == 1
    assert rows(path, "pragma foreign_key_check") == []


@pytest.mark.parametrize("name", HARMLESS)
def test_statements_that_keep_the_triggers(path, connect, name):
    warm = connect(path)
    found_ids(warm, 1)
    HARMLESS[name](path)
    assert found_ids(warm, 1) == nearest(1)
    delete(path, [2, 3])
    assert counts(path) == (COUNT - 2, COUNT - 2)
    assert found_ids(warm, 1) == nearest(1, [2, 3])
    assert status(path)["restored"] == []


def test_restored_triggers_hide_no_changes(path, connect):
    """Between two searches, triggers are dropped, pictures deleted, and the triggers made again."""
    warm = connect(path)
    gone = nearest(1)[:2]
    found_ids(warm, 1)
    query = "select sql from sqlite_master where name = 'clip_image_deleted'"
    with closing(sqlite3.connect(path)) as connection, connection:
        (trigger,) = connection.execute(query).fetchone()
        connection.execute("drop trigger clip_image_deleted")
        connection.executemany("delete from images where id = ?", [(id,) for id in gone])
        connection.execute(trigger)
    assert found_ids(warm, 1) == nearest(1, gone)
    assert status(path, "--status")["vectors_without_picture"] == 2


def test_a_hit_without_a_picture_is_replaced_by_the_next(path, connect):
    """Neither a trigger nor the schema's version reveals it."""
    warm = connect(path)
    found_ids(warm, 1)
    gone = nearest(1)[:2]
    writer = connect(path)
    # A connection without recursive triggers replaces rows like this.
    for id in gone:
        writer.execute("update or replace images set path = ? where id = 60", [f"{id}.jpg"])
    writer.commit()
    assert counts(path) == (COUNT, COUNT)
    assert found_ids(warm, 1) == nearest(1, gone)


def test_rows_that_come_back_are_found_again(path, connect):
    sql("drop trigger clip_image_deleted")(path)
    warm = connect(path)
    gone = nearest(1)[:2]
    before = rows(path, f"select * from images where id in ({gone[0]}, {gone[1]})")
    delete(path, gone)
    assert found_ids(warm, 1) == nearest(1, gone)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("drop trigger clip_image_inserted")
        marks = ",".join("?" * len(before[0]))
        connection.executemany(f"insert into images values ({marks})", before)
    assert found_ids(warm, 1) == nearest(1)


def test_other_content_under_an_id_has_no_vector(path, connect):
    """Even without triggers, a vector tells what content it was made from."""
    sql("update clip_embeddings set made_from = 'other' where image_id = 2")(path)
    sql("update images set content_hash = 'y' || content_hash where id > 50")(path)
    # The trigger deleted the vectors of changed pictures, and the odd one is not found.
    assert len(rows(path, "select 1 from clip_embeddings")) == 50
    connection = connect(path)
    gone = [2, *range(51, 61)]
    assert found_ids(connection, 1, 60) == nearest(1, gone, 60)
    told = status(path, "--status")
    assert (told["pictures"], told["pictures_without_vector"]) == (49, 11)
    assert told["vectors_without_picture"] == 1


@pytest.mark.parametrize(
    "change",
    [
        renamed_and_copied,
        command("transform", "clip_embeddings", "--drop-foreign-key", "image_id"),
    ],
)
def test_a_lost_foreign_key_is_restored(path, connect, change):
    change(path)
    result = run("clip-search", path, "--like", "1")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    result = run("clip-index", path)
    assert "the table clip_embeddings" in result.output
    assert found_ids(connect(path), 1) == nearest(1)
    delete(path, [2])
    assert counts(path) == (COUNT - 1, COUNT - 1)
    assert rows(path, "pragma foreign_key_check") == []
    assert status(path)["restored"] == []


@pytest.mark.parametrize("table", ["clip_thumbnails", "clip_embeddings", "clip_failures"])
def test_a_dropped_table_is_created_again(path, table):
    sql(f"drop table {table}")(path)
    result = run("clip-index", path)
    assert f"the table {table}" in result.output
    delete(path, [2])
    vectors, thumbnails = counts(path)
    assert vectors == (0 if table == "clip_embeddings" else COUNT - 1)
    assert thumbnails == (0 if table == "clip_thumbnails" else COUNT - 1)
    assert status(path)["restored"] == []


def test_thumbnails_that_were_dropped_are_not_missed(path, connect):
    sql("drop table clip_thumbnails")(path)
    connection = connect(path)
    assert found_ids(connection, 1) == nearest(1)
    assert read_thumbnail(connection, 1) is None


@pytest.mark.parametrize("column", ["path", "content_hash"])
def test_a_missing_required_column_is_reported(path, column):
    command("transform", "images", "--rename", column, "other")(path)
    result = run("clip-index", path)
    assert result.exit_code == 1
    assert f"no column {column} any more" in result.output
    assert "Traceback" not in result.output


def test_duplicate_paths_are_reported(path):
    command("transform", "images", "--pk", "path")(path)
    sql("update images set id = 3 where id = 4")(path)
    result = run("clip-index", path)
    assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
    assert "lets several rows have one id" in result.output
