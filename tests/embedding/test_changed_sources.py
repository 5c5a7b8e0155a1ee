"""Tables, archives, lists and globs that change between runs."""

import os
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.contents import contents, ids
from support.databases import rows
from support.embedding import embed, fresh
from support.pictures import make_picture

pytest.importorskip("open_clip")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A database with a person's own table of blobs and paths."""
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
        # Vector and thumbnail equal those of the file outside.
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
