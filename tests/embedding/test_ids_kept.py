"""Pruned pictures that come back get their ids, and deletions are done in parts."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from datasette_clip_search.database.connection import connect as connect_to_write
from datasette_clip_search.database.schema import OWN_TABLES
from datasette_clip_search.embedding.store import Store
from support.commands import run
from support.contents import contents, ids
from support.databases import rows
from support.embedding import embed
from support.pictures import make_picture
from support.vector_database import clustered, make


@pytest.fixture(autouse=True)
def _torch():
    pytest.importorskip("open_clip")


def test_a_folder_that_comes_back(tiny_database, pictures, tmp_path):
    before, stored = ids(tiny_database), contents(tiny_database)
    away = tmp_path / "away"
    shutil.move(pictures / "deep", away)
    (pictures / "e.jpg").rename(tmp_path / "e.jpg")
    assert embed(tiny_database, pictures, "--prune")["Deleted"].startswith("2 ")
    # Other pictures get none of these ids.
    make_picture(pictures / "new.png", 50)
    embed(tiny_database, pictures)
    assert ids(tiny_database)["pictures/new.png"] == 7
    shutil.move(away, pictures / "deep")
    # They come back under another name, and beside a copy.
    shutil.copy(tmp_path / "e.jpg", pictures / "a copy.jpg")
    (tmp_path / "e.jpg").rename(pictures / "renamed.jpg")
    embed(tiny_database, pictures)
    after = ids(tiny_database)
    assert after["pictures/deep/f.jpg"] == before["pictures/deep/f.jpg"]
    named = {after["pictures/a copy.jpg"], after["pictures/renamed.jpg"]}
    assert named == {before["pictures/e.jpg"], 8}
    kept = contents(tiny_database)["pictures/deep/f.jpg"]
    assert (
        kept[:2] + kept[3:] == stored["pictures/deep/f.jpg"][:2] + stored["pictures/deep/f.jpg"][3:]
    )
    assert rows(tiny_database, "select count(*) from clip_pruned") == [(0,)]


def test_an_id_taken_in_the_meantime(tiny_database, pictures, tmp_path):
    before = ids(tiny_database)
    (pictures / "e.jpg").rename(tmp_path / "e.jpg")
    embed(tiny_database, pictures, "--prune")
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute(
            "insert into images (id, path, content_hash, size, mtime, width, height, format) "
            "values (?, 'theirs', 'x', 1, 1, 1, 1, 'JPEG')",
            [before["pictures/e.jpg"]],
        )
    shutil.move(tmp_path / "e.jpg", pictures / "e.jpg")
    told = embed(tiny_database, pictures)
    assert ids(tiny_database)["pictures/e.jpg"] == 7
    assert told["No vector"].startswith("1 ")


def test_a_file_that_breaks_and_is_repaired(tiny_database, pictures):
    before = ids(tiny_database)
    whole = (pictures / "a.jpg").read_bytes()
    (pictures / "a.jpg").write_bytes(b"nonsense")
    embed(tiny_database, pictures)
    assert "pictures/a.jpg" not in ids(tiny_database)
    (pictures / "a.jpg").write_bytes(whole)
    embed(tiny_database, pictures)
    assert ids(tiny_database) == before


def test_ids_of_pruned_pictures_are_not_published(tiny_database, pictures, tmp_path):
    digest = rows(tiny_database, "select content_hash from images where path like '%e.jpg'")[0][0]
    (pictures / "e.jpg").unlink()
    embed(tiny_database, pictures, "--prune")
    assert rows(tiny_database, "select * from clip_pruned") == [(5, digest)]
    assert run("clip-publish", tiny_database, tmp_path / "p.db").exit_code == 0
    data = (tmp_path / "p.db").read_bytes()
    assert digest.encode() not in data
    assert digest[:16].encode() not in data
    for table in ("clip_pruned", "clip_replaced"):
        assert table in OWN_TABLES
        assert rows(tmp_path / "p.db", f"select count(*) from {table}") == [(0,)]


def test_many_are_deleted_in_parts(tmp_path, configured, monkeypatch):
    """Finished parts stay, and another program can write between them."""
    configured(rows_at_once=10, part_seconds=0, pause_seconds=0)
    path = make(tmp_path / "p.db", clustered(45))
    pauses = []

    def pause(_):
        with closing(sqlite3.connect(path, timeout=0)) as other, other:
            other.execute("create table if not exists log (at)")
            other.execute("insert into log values (1)")
            pauses.append(other.execute("select count(*) from images").fetchone()[0])
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("datasette_clip_search.database.connection.time.sleep", pause)
    with closing(connect_to_write(path)) as connection:
        store = Store(connection, path, None)
        with pytest.raises(KeyboardInterrupt):
            store.prune(range(1, 45), [])
    assert pauses == [35, 25, 15]
    assert rows(path, "select count(*) from images") == [(15,)]
    assert rows(path, "select count(*) from clip_embeddings") == [(15,)]
    assert rows(path, "select count(*) from clip_pruned") == [(30,)]


def test_deleting_finds_vectors_by_an_index(tmp_path):
    path = make(tmp_path / "p.db", clustered(10))
    for table in ("clip_embeddings", "clip_thumbnails"):
        plan = rows(path, f"explain query plan delete from {table} where image_id = 3")
        assert all("SEARCH" in step[-1] for step in plan), plan


def test_orphans_are_deleted_by_the_next_run(tiny_database, pictures):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute("drop trigger clip_image_deleted")
        connection.execute("delete from images where id in (2, 3)")
    told = embed(tiny_database, pictures)
    assert told["Restored"] == (
        "the triggers of images, 2 vectors without a picture deleted, "
        "2 thumbnails without a picture deleted"
    )
    assert told["Embedded"] == "2"
    assert len(contents(tiny_database)) == 6
    assert "Restored" not in embed(tiny_database, pictures)
