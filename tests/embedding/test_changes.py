"""Folders that change between runs: nothing is embedded twice, and nothing is lost."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from support.commands import run
from support.contents import contents, ids
from support.databases import rows
from support.embedding import embed, summary, vectors
from support.models import make_model
from support.pictures import make_picture

pytest.importorskip("open_clip")


def fresh(database: Path, folder: Path, model: Path) -> dict[str, tuple]:
    """Returns the contents of a new database, beside another one, of the same folder."""
    other = database.with_name("fresh.db")
    other.unlink(missing_ok=True)
    embed(other, folder, "--pretrained", model)
    return contents(other)


def assert_as_fresh(database: Path, folder: Path, model: Path) -> None:
    """Fails unless a database holds what a new one of the same folder would hold."""
    assert contents(database) == fresh(database, folder, model)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes loading a model an error."""
    from datasette_clip_search.embedding import model_loading as loading

    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "TorchModel", refuse)


def test_touched_files_cost_nothing(tiny_database, pictures, no_model):
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
        # All but the time of the file.
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
    """One of them takes its row over, in one run; the other is a copy of that."""
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
def test_contents_that_change_places(tmp_path, tiny_model, suffix):
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
    assert told["Missing"] == "1  (pictures/b.png; --prune deletes them)"
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
    """Returns the ids that a search for a stored vector finds, by way of the index file."""
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


def test_prune_spares_what_was_not_searched(tiny_database, pictures, tmp_path, tiny_model):
    for seed in range(3):
        make_picture(tmp_path / "elsewhere" / f"{seed}.png", 200 + seed)
    embed(tiny_database, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere")
    (pictures / "deep" / "f.jpg").unlink()
    (pictures / "a.jpg").unlink()
    # A file that is given by its name says nothing of those beside it.
    (pictures / "d.jpg").unlink()
    assert "Deleted" not in embed(tiny_database, pictures / "e.jpg", "--prune")
    assert len(contents(tiny_database)) == 9
    assert embed(tiny_database, pictures, "--prune")["Deleted"].startswith("3 ")
    held = set(contents(tiny_database))
    assert {"pictures/b.png", "elsewhere/0.png"} < held
    assert len(held) == 6


def test_prune_spares_folders_that_cannot_be_read(tiny_database, pictures, tiny_model):
    """Run by another user where the tests run as root, to whom everything is readable."""
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
        # Which that user may not be able to import.
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
    """A disk that is not plugged in leaves an empty folder behind."""
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
        # The second time it is an old failure.
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
    # The one of what the file held before is gone.
    assert rows(tiny_database, sql, changed) == [(0,)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A database with a table of blobs and paths, as people have them."""
    database = tmp_path / "photos.db"
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("create table photos (id integer primary key, title, data, path)")
        for key in range(1, 7):
            path = make_picture(tmp_path / "files" / f"{key}.png", key)
            held = (key * 10, f"picture {key}", path.read_bytes(), f"files/{key}.png")
            connection.execute("insert into photos values (?, ?, ?, ?)", held)
    connection.close()
    return database


def _change(database: Path, sql: str, *parameters: object) -> None:
    connection = sqlite3.connect(database)
    with connection:
        connection.execute(sql, parameters)
    connection.close()


def test_blobs(photos, tiny_model, tmp_path, connect):
    select = "select id, data from photos"
    told = embed(photos, "--sql", select, "--pretrained", tiny_model)
    assert told["Embedded"] == "6"
    joined = connect(photos).execute(
        "select photos.title from clip_search(?, 3) join images using(id) "
        "join photos on photos.id = images.key order by score desc",
        ((tmp_path / "files" / "4.png").read_bytes(),),
    )
    assert joined.fetchall()[0] == ("picture 4",)
    told = embed(photos, "--sql", select)
    assert (told["Embedded"], told["Unchanged"]) == ("0", "6")
    before = ids(photos)
    changed = make_picture(tmp_path / "changed.png", 77).read_bytes()
    _change(photos, "update photos set data = ? where id = 10", changed)
    _change(photos, "delete from photos where id = 20")
    told = embed(photos, "--sql", select)
    assert (told["Embedded"], told["Unchanged"]) == ("1", "4")
    assert told["Missing"].startswith("1 ")
    assert ids(photos) == before
    told = embed(photos, "--sql", select, "--prune")
    assert told["Deleted"].startswith("1 ")
    keys = rows(photos, "select key from images order by key")
    assert keys == [(10,), (30,), (40,), (50,), (60,)]


def test_rows_of_paths(photos, tiny_model, tmp_path, connect):
    select = "select id, path from photos"
    assert embed(photos, "--sql", select, "--pretrained", tiny_model)["Embedded"] == "6"
    sql = "select path, key from images order by key"
    assert rows(photos, sql)[:2] == [("files/1.png", 10), ("files/2.png", 20)]
    found = connect(photos).execute(
        "select photos.title from clip_search(?, 1) join images using(id) "
        "join photos on photos.id = images.key",
        ((tmp_path / "files" / "3.png").read_bytes(),),
    )
    assert found.fetchall() == [("picture 3",)]
    make_picture(tmp_path / "files" / "1.png", 50, (80, 80))
    told = embed(photos, "--sql", select)
    assert (told["Embedded"], told["Unchanged"]) == ("1", "5")


def _zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))


def _tar(path: Path, folder: Path) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        archive.add(folder, "in")


@pytest.mark.parametrize(("name", "pack"), [("p.zip", _zip), ("p.tar", _tar), ("p.tar.gz", _tar)])
def test_archives(tmp_path, pictures, tiny_model, name, pack: Callable[[Path, Path], None]):
    archive, database = tmp_path / name, tmp_path / "d.db"
    pack(archive, pictures)
    assert embed(database, archive, "--pretrained", tiny_model)["Embedded"] == "6"
    by_file = {hash: row for hash, *row in fresh(database, pictures, tiny_model).values()}
    for hash, *row in contents(database).values():
        # Vector and thumbnail are those of the file outside.
        assert (row[10], row[12]) == (by_file[hash][10], by_file[hash][12])
    told = embed(database, archive)
    assert (told["Embedded"], told["Unchanged"]) == ("0", "6")
    before = ids(database)
    make_picture(pictures / "a.jpg", 90)
    (pictures / "b.png").unlink()
    make_picture(pictures / "new.png", 91)
    pack(archive, pictures)
    os.utime(archive, (2e9, 2e9))
    told = embed(database, archive, "--prune")
    assert (told["Embedded"], told["Deleted"][:2], told["Unchanged"]) == ("2", "1 ", "4")
    after = ids(database)
    assert len(after) == 6
    gone = next(path for path in before if path.endswith("b.png"))
    assert {path: id for path, id in before.items() if path != gone}.items() <= after.items()


def test_list_on_standard_input(tmp_path, pictures, tiny_model):
    from sqlite_utils.cli import cli

    listed = f"{pictures / 'a.jpg'}\n{pictures / 'deep' / 'f.jpg'}\n"
    arguments = ["embed-images", str(tmp_path / "d.db"), "-", "--pretrained", str(tiny_model)]
    result = CliRunner().invoke(cli, arguments, input=listed)
    assert result.exit_code == 0, result.output
    assert sorted(contents(tmp_path / "d.db")) == ["pictures/a.jpg", "pictures/deep/f.jpg"]


def test_globs(tmp_path, pictures, tiny_model):
    embed(tmp_path / "d.db", pictures / "**" / "*.jpg", "--pretrained", tiny_model)
    assert len(contents(tmp_path / "d.db")) == 4


class Folder:
    """A folder that something happens to, with times that always go on."""

    def __init__(self, path: Path, seed: int):
        self.path = path
        self.random = random.Random(seed)
        self.clock = 1_500_000_000
        self.made = 0

    def files(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*.*") if path.is_file())

    def change(self) -> str:
        ways = [self.add, self.delete, self.rename, self.swap, self.copy, self.modify, self.touch]
        way = self.random.choice(ways if len(self.files()) > 4 else [self.add])
        way()
        return way.__name__

    def one(self) -> Path:
        return self.random.choice(self.files())

    def name(self) -> Path:
        """Returns a path that is often one that there was before."""
        below = self.random.choice(["", "x", "y", "x/z"])
        path = self.path / below / f"{self.random.randrange(12)}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stamp(self, path: Path) -> None:
        self.clock += 1
        os.utime(path, (self.clock, self.clock))

    def add(self) -> None:
        self.made += 1
        self.stamp(make_picture(self.name(), self.made))

    def modify(self) -> None:
        self.made += 1
        self.stamp(make_picture(self.one(), self.made))

    def touch(self) -> None:
        self.stamp(self.one())

    def delete(self) -> None:
        self.one().unlink()

    def rename(self) -> None:
        self.one().replace(self.name())

    def copy(self) -> None:
        name = self.name()
        source = self.one()
        if name != source:
            shutil.copy(source, name)
            self.stamp(name)

    def swap(self) -> None:
        one, other, between = self.one(), self.one(), self.path / "between"
        one.rename(between)
        if other.exists():
            other.rename(one)
        between.rename(other)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory):
    """A model that is loaded once for many runs, and its folder."""
    from datasette_clip_search.embedding.model_loading import RunCache

    return RunCache(), make_model(tmp_path_factory.mktemp("loaded") / "tiny")


@pytest.mark.parametrize("seed", [1, 2])
def test_any_sequence_of_changes_ends_like_a_fresh_start(tmp_path, loaded, seed):
    from datasette_clip_search.embedding import EmbedOptions, embed_images

    held, model = loaded
    options = EmbedOptions(pretrained=str(model), prune=True)
    folder, database = Folder(tmp_path / "p", seed), tmp_path / "d.db"
    for _ in range(8):
        folder.add()
    embed_images(database, [folder.path], options, cache=held)
    # What a file was when it was last looked at: its row may only be kept for the same content.
    before = {path: path.read_bytes() for path in folder.files()}
    for round in range(8):
        ids_before = ids(database)
        done = [folder.change() for _ in range(folder.random.randrange(1, 5))]
        embed_images(database, [folder.path], options, cache=held)
        other = tmp_path / f"fresh{round}.db"
        embed_images(other, [folder.path], options, cache=held)
        assert contents(database) == contents(other), done
        after = {path: path.read_bytes() for path in folder.files()}
        ids_after = ids(database)
        for path in before.keys() & after.keys():
            if before[path] == after[path]:
                stored = path.relative_to(tmp_path).as_posix()
                assert ids_after[stored] == ids_before[stored], done
        before = after


def test_picture_without_a_time(tmp_path, tiny_model):
    """Reproducible builds set every time to 0, which must not make files look new."""
    picture = make_picture(tmp_path / "p" / "a.png", 1)
    os.utime(picture, (0, 0))
    embed(tmp_path / "d.db", tmp_path / "p", "--pretrained", tiny_model)
    assert embed(tmp_path / "d.db", tmp_path / "p")["Unchanged"] == "1"
    Image.new("RGB", (9, 9)).save(picture)
    os.utime(picture, (0, 0))
    assert embed(tmp_path / "d.db", tmp_path / "p")["Embedded"] == "1"
