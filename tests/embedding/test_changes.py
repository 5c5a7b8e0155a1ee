"""Folders that change between runs: nothing is embedded twice, and nothing is lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.commands import run
from support.contents import contents, ids
from support.databases import rows
from support.embedding import assert_as_fresh, embed, summary, vectors
from support.pictures import make_picture

pytest.importorskip("open_clip")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make loading a model an error."""
    from datasette_clip_search.embedding import model_loading as loading

    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "TorchModel", refuse)


def test_touched_files_are_not_embedded_again(tiny_database, pictures, no_model):
    before = contents(tiny_database)
    for number, path in enumerate(pictures.glob("*.*")):
        os.utime(path, (1e9 + number, 1e9 + number))
    told = embed(tiny_database, pictures)
    assert (told["Embedded"], told["Unchanged"], told["Failed"]) == ("0", "6", "0")
    assert "Copies" not in told
    assert "Moved" not in told
    assert told["Index"].endswith("(up to date)")
    after = contents(tiny_database)
    for path in before:
        # Everything but the time of the file.
        assert before[path][:2] + before[path][3:] == after[path][:2] + after[path][3:]
    assert after["pictures/a.jpg"][2] != before["pictures/a.jpg"][2]


def test_only_rehash_sees_a_change_of_the_same_size_and_time(tmp_path, tiny_model):
    picture = make_picture(tmp_path / "p" / "a.bmp", 1)
    make_picture(tmp_path / "p" / "b.bmp", 2)
    database = tmp_path / "d.db"
    embed(database, tmp_path / "p", "--pretrained", tiny_model)
    before, info = vectors(database), picture.stat()
    make_picture(picture, 3)
    os.utime(picture, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert picture.stat().st_size == info.st_size
    assert embed(database, tmp_path / "p")["Embedded"] == "0"
    told = embed(database, tmp_path / "p", "--rehash")
    assert (told["Embedded"], told["Unchanged"]) == ("1", "1")
    assert not np.array_equal(vectors(database)["p/a.bmp"], before["p/a.bmp"])
    assert np.array_equal(vectors(database)["p/b.bmp"], before["p/b.bmp"])
    assert_as_fresh(database, tmp_path / "p", tiny_model)


def test_changed_files_are_embedded_again(tiny_database, pictures, tiny_model):
    before = ids(tiny_database)
    make_picture(pictures / "a.jpg", 100)
    make_picture(pictures / "deep" / "f.jpg", 101, (30, 40))
    told = embed(tiny_database, pictures)
    assert (told["Embedded"], told["Unchanged"]) == ("2", "4")
    assert ids(tiny_database) == before
    assert_as_fresh(tiny_database, pictures, tiny_model)


def test_renamed_file_keeps_its_row(tiny_database, pictures):
    before = ids(tiny_database)
    (pictures / "a.jpg").rename(pictures / "deep" / "z.jpg")
    told = embed(tiny_database, pictures)
    assert told["Moved"].startswith("1 ")
    assert (told["Embedded"], told["Unchanged"]) == ("0", "5")
    assert "Missing" not in told
    after = ids(tiny_database)
    assert after.pop("pictures/deep/z.jpg") == before.pop("pictures/a.jpg")
    assert after == before
    assert told["Index"].endswith("(up to date)")


@pytest.mark.parametrize("given", ["both", "new"])
def test_renamed_folder_keeps_its_rows(tmp_path, tiny_model, given):
    for seed in range(30):
        make_picture(tmp_path / "all" / "old" / f"{seed}.png", seed)
    make_picture(tmp_path / "all" / "kept.png", 99)
    database = tmp_path / "d.db"
    embed(database, tmp_path / "all", "--pretrained", tiny_model)
    before = ids(database)
    (tmp_path / "all" / "old").rename(tmp_path / "all" / "new")
    told = embed(database, tmp_path / "all" / ("new" if given == "new" else ""), "--prune")
    assert told["Moved"].startswith("30 ")
    assert told["Embedded"] == "0"
    assert "Deleted" not in told
    renamed = {path.replace("/old/", "/new/"): id for path, id in before.items()}
    assert ids(database) == renamed
    assert_as_fresh(database, tmp_path / "all", tiny_model)


def test_moved_file_and_another_one_under_its_old_name(tiny_database, pictures, tiny_model):
    (pictures / "a.jpg").rename(pictures / "moved.jpg")
    make_picture(pictures / "a.jpg", 100)
    told = embed(tiny_database, pictures, "--prune")
    assert "Deleted" not in told
    assert_as_fresh(tiny_database, pictures, tiny_model)


def test_copy_is_a_second_row(tiny_database, pictures):
    before = ids(tiny_database)
    shutil.copy(pictures / "a.jpg", pictures / "copy.jpg")
    told = embed(tiny_database, pictures)
    assert (told["Embedded"], told["Unchanged"]) == ("0", "6")
    assert told["Copies"].startswith("1 ")
    after = ids(tiny_database)
    assert after.pop("pictures/copy.jpg") not in before.values()
    assert after == before
    held = contents(tiny_database)
    copy, original = held["pictures/copy.jpg"], held["pictures/a.jpg"]
    assert copy[:2] + copy[3:] == original[:2] + original[3:]


def test_equal_new_files_are_embedded_once(tmp_path, tiny_model):
    folder = tmp_path / "p"
    for number in range(20):
        make_picture(folder / f"{number:02}.png", number % 2)
    database = tmp_path / "d.db"
    told = embed(database, folder, "--pretrained", tiny_model, "--batch-size", "2")
    assert told["Embedded"] == "2"
    assert told["Copies"].startswith("18 ")
    held = contents(database)
    assert len(held) == 20
    assert len({row[11] for row in held.values()}) == 2
    assert all(row[11] == held[f"p/{int(path[2:4]) % 2:02}.png"][11] for path, row in held.items())


@pytest.mark.parametrize("prune", [[], ["--prune"]])
def test_copies_of_a_file_that_is_deleted(tiny_database, pictures, tiny_model, prune):
    """One copy takes over the row, in one run; the other is a copy of it."""
    before = ids(tiny_database)["pictures/a.jpg"]
    shutil.copy(pictures / "a.jpg", pictures / "x.jpg")
    shutil.copy(pictures / "a.jpg", pictures / "y.jpg")
    (pictures / "a.jpg").unlink()
    told = embed(tiny_database, pictures, *prune)
    assert told["Embedded"] == "0"
    assert (told["Moved"][:2], told["Copies"][:2]) == ("1 ", "1 ")
    assert "Missing" not in told
    after = ids(tiny_database)
    assert before in (after["pictures/x.jpg"], after["pictures/y.jpg"])
    assert_as_fresh(tiny_database, pictures, tiny_model)


@pytest.mark.parametrize("suffix", ["jpg", "bmp"])
def test_swapped_and_rotated_files(tmp_path, tiny_model, suffix):
    """a, b and c are renamed in a ring, d and e are swapped; as BMPs, their sizes are equal."""
    folder, database = tmp_path / "p", tmp_path / "d.db"
    for seed, name in enumerate("abcde"):
        path = make_picture(folder / f"{name}.{suffix}", seed)
        os.utime(path, (1e9 + seed, 1e9 + seed))
    embed(database, folder, "--pretrained", tiny_model)
    for ring in ("abc", "de"):
        paths = [folder / f"{name}.{suffix}" for name in ring]
        held = [(path.read_bytes(), path.stat().st_mtime) for path in paths]
        for path, (data, mtime) in zip(paths[1:] + paths[:1], held, strict=True):
            path.write_bytes(data)
            os.utime(path, (mtime, mtime))
    embed(database, folder, "--prune")
    assert_as_fresh(database, folder, tiny_model)


def test_chain_of_renames(tiny_database, pictures, tiny_model):
    (pictures / "e.jpg").rename(pictures / "g.jpg")
    (pictures / "d.jpg").rename(pictures / "e.jpg")
    (pictures / "a.jpg").rename(pictures / "d.jpg")
    embed(tiny_database, pictures, "--prune")
    assert_as_fresh(tiny_database, pictures, tiny_model)


def test_missing_files_are_reported_and_pruned(tiny_database, pictures):
    lost = ids(tiny_database)["pictures/b.png"]
    (pictures / "b.png").unlink()
    told = embed(tiny_database, pictures)
    assert told["Missing"] == "1  (pictures/b.png; --prune deletes their rows)"
    assert len(contents(tiny_database)) == 6
    told = embed(tiny_database, pictures, "--prune")
    assert told["Deleted"].startswith("1 ")
    assert "Missing" not in told
    assert not told["Index"].endswith("(up to date)")
    assert "pictures/b.png" not in contents(tiny_database)
    for table in ("clip_embeddings", "clip_thumbnails"):
        sql = f"select count(*) from {table} where image_id = ?"
        assert rows(tiny_database, sql, lost) == [(0,)]
    found = _search(tiny_database)
    assert len(found) == 5
    assert lost not in found


def _search(database: Path) -> list[int]:
    """Return the ids that a search for a stored vector finds through the index file."""
    from datasette_clip_search.database.changes import moment_of
    from datasette_clip_search.database.index import index_path, open_index
    from datasette_clip_search.database.model import models

    connection = sqlite3.connect(database)
    try:
        model = models(connection)[0]
        file = index_path(database, model.id)
        base, facts = open_index(file, model.fingerprint, model.dimension)
        assert facts.moment == moment_of(connection, model)
    finally:
        connection.close()
    (vector, *_) = vectors(database).values()
    return [int(id) for id in base.exact(vector, len(base), None)[0]]


def test_prune_spares_places_not_searched(tiny_database, pictures, tmp_path, tiny_model):
    for seed in range(3):
        make_picture(tmp_path / "elsewhere" / f"{seed}.png", 200 + seed)
    embed(tiny_database, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere")
    (pictures / "deep" / "f.jpg").unlink()
    (pictures / "a.jpg").unlink()
    # A file that is given by name says nothing about its neighbours.
    (pictures / "d.jpg").unlink()
    assert "Deleted" not in embed(tiny_database, pictures / "e.jpg", "--prune")
    assert len(contents(tiny_database)) == 9
    assert embed(tiny_database, pictures, "--prune")["Deleted"].startswith("3 ")
    held = set(contents(tiny_database))
    assert {"pictures/b.png", "elsewhere/0.png"} < held
    assert len(held) == 6


def test_prune_spares_folders_that_cannot_be_read(tiny_database, pictures, tiny_model):
    """Root can read everything, so tests that run as root start another user."""
    make_picture(pictures / "deep" / "g.jpg", 44)
    make_picture(pictures / "shut" / "h.jpg", 45)
    embed(tiny_database, pictures)
    (pictures / "deep" / "f.jpg").unlink()
    (pictures / "a.jpg").unlink()
    for path in {*tiny_database.parents, tiny_model, *tiny_model.parents, *tiny_model.iterdir()}:
        if os.getuid() == 0:
            path.chmod(path.stat().st_mode | 0o055)
    tiny_database.parent.chmod(0o777)
    for path in tiny_database.parent.glob("photos.db*"):
        path.chmod(0o666)
    (pictures / "deep").chmod(0)
    (pictures / "shut").chmod(0o444)  # Can be listed, but not looked into.
    code = (
        # The other user may not be able to import it.
        "import mmap, os, sys, termios\n"
        "from sqlite_utils.cli import cli\n"
        "import datasette_clip_search.embedding, datasette_clip_search.cli.embed_output\n"
        "os.getuid() or os.setuid(65534)\n"
        f"cli(['embed-images', {str(tiny_database)!r}, {str(pictures)!r}, '--prune'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    (pictures / "deep").chmod(0o755)
    (pictures / "shut").chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert summary(result.stdout)["Deleted"].startswith("1 ")
    assert "pictures/deep: " in result.stderr
    held = set(contents(tiny_database))
    assert {"pictures/deep/f.jpg", "pictures/deep/g.jpg", "pictures/shut/h.jpg"} < held
    assert "pictures/a.jpg" not in held


@pytest.mark.parametrize("way", ["emptied", "deleted"])
def test_empty_folder_deletes_nothing(tiny_database, pictures, way):
    """The folder of an unplugged disk is empty."""
    before = contents(tiny_database)
    shutil.rmtree(pictures)
    if way == "emptied":
        pictures.mkdir()
    result = run("embed-images", tiny_database, pictures, "--prune")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    if way == "emptied":
        assert f"There are no pictures in {pictures} any more. The 6 that " in result.stderr
    assert contents(tiny_database) == before


def test_failures_are_tried_again_when_they_change(tiny_database, pictures):
    broken = pictures / "broken.jpg"
    broken.write_bytes(b"nonsense")
    first = embed(tiny_database, pictures)
    assert first["Failed"].startswith("1 ")
    assert "broken.jpg: " in first["stderr"]
    again = embed(tiny_database, pictures)
    assert again["Failed"].startswith("1 ")
    assert "broken.jpg" not in again["stderr"]
    assert "broken.jpg: " in embed(tiny_database, pictures, "--retry-failed")["stderr"]
    broken.write_bytes(b"other nonsense")
    assert "broken.jpg: " in embed(tiny_database, pictures)["stderr"]
    make_picture(broken, 50)
    told = embed(tiny_database, pictures)
    assert (told["Embedded"], told["Failed"]) == ("1", "0")
    assert rows(tiny_database, "select count(*) from clip_failures") == [(0,)]


def test_strict(tiny_database, pictures):
    assert run("embed-images", tiny_database, pictures, "--strict").exit_code == 0
    (pictures / "broken.jpg").write_bytes(b"nonsense")
    for _ in range(2):
        # The second time, it is a failure of before.
        result = run("embed-images", tiny_database, pictures, "--strict")
        assert result.exit_code == 1
        assert "Error: --strict: 1 of the pictures could not be embedded" in result.stderr
    (pictures / "broken.jpg").unlink()
    assert run("embed-images", tiny_database, pictures, "--strict").exit_code == 0
    assert rows(tiny_database, "select count(*) from clip_failures") == [(0,)]


def test_picture_that_breaks_loses_its_old_vector(tiny_database, pictures):
    (pictures / "a.jpg").write_bytes(b"nonsense")
    assert embed(tiny_database, pictures)["Failed"].startswith("1 ")
    assert "pictures/a.jpg" not in contents(tiny_database)
    assert len(_search(tiny_database)) == 5


def test_many_failures_are_summarised(tiny_database, pictures):
    for number in range(25):
        (pictures / f"broken {number:02}.jpg").write_bytes(b"nonsense")
    result = run("embed-images", tiny_database, pictures)
    listed = [line for line in result.stderr.splitlines() if "broken" in line]
    assert 0 < len(listed) <= 10
    assert f"and {25 - len(listed)} more" in result.stderr
    assert summary(result.stdout)["Failed"].startswith("25  (see: sqlite-utils rows ")


def test_without_thumbnails(tmp_path, pictures, tiny_model):
    database = tmp_path / "photos.db"
    embed(database, pictures, "--pretrained", tiny_model, "--no-thumbnails")
    assert rows(database, "select count(*) from clip_thumbnails") == [(0,)]
    assert len(vectors(database)) == 6


def test_no_thumbnail_outlives_what_it_shows(tiny_database, pictures):
    make_picture(pictures / "a.jpg", 100)
    embed(tiny_database, pictures, "--no-thumbnails")
    changed = ids(tiny_database)["pictures/a.jpg"]
    sql = "select count(*) from clip_thumbnails where image_id = ?"
    # The thumbnail of the old content is gone.
    assert rows(tiny_database, sql, changed) == [(0,)]


def test_picture_without_a_time(tmp_path, tiny_model):
    """Reproducible builds set all times to 0, which does not make a file look new."""
    picture = make_picture(tmp_path / "p" / "a.png", 1)
    os.utime(picture, (0, 0))
    embed(tmp_path / "d.db", tmp_path / "p", "--pretrained", tiny_model)
    assert embed(tmp_path / "d.db", tmp_path / "p")["Unchanged"] == "1"
    Image.new("RGB", (9, 9)).save(picture)
    os.utime(picture, (0, 0))
    assert embed(tmp_path / "d.db", tmp_path / "p")["Embedded"] == "1"
