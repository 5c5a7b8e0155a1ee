"""Equal inode numbers do not prove that two files or folders are the same."""

import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from datasette_clip_search.pictures.sources import find_pictures, find_rows, same
from datasette_clip_search.pictures.sources.mounts import mount_of, mounts, place_on_device
from support.commands import run
from support.pictures import make_picture


@pytest.fixture
def one_number(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give all files and folders with the same name ending one inode number, size and time."""

    def fake(*endings: str) -> None:
        real_stat, real_scandir = os.stat, os.scandir

        def changed(info: os.stat_result, name: str) -> os.stat_result:
            if not name.rstrip("/").endswith(endings):
                return info
            return os.stat_result((info.st_mode, 4242, info.st_dev, 1, 0, 0, 99, 0, 1e9, 1e9))

        def stat(path, *arguments, **named):
            return changed(real_stat(path, *arguments, **named), os.fspath(path))

        class Entry:
            def __init__(self, entry):
                self.entry, self.name, self.path = entry, entry.name, entry.path

            def __getattr__(self, name):
                return getattr(self.entry, name)

            def stat(self):
                return changed(self.entry.stat(), self.path)

        class Entries(list):
            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

        def scandir(path="."):
            with real_scandir(path) as entries:
                return Entries(Entry(entry) for entry in entries)

        monkeypatch.setattr(os, "stat", stat)
        monkeypatch.setattr(os, "scandir", scandir)

    return fake


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(folder: Path, *arguments: str) -> list[str]:
    found = find_pictures([str(folder / argument) for argument in arguments or ["."]], folder)
    return [source.stored for source in found.sources]


def test_folders_with_one_number(tmp_path, one_number):
    put(tmp_path, "trip1/a.jpg", "trip1/deep/b.jpg", "trip2/a.jpg", "trip2/deep/c.jpg")
    one_number("trip1", "trip2", "deep")
    expected = ["trip1/a.jpg", "trip1/deep/b.jpg", "trip2/a.jpg", "trip2/deep/c.jpg"]
    assert names(tmp_path) == expected
    # Still, each file is found once.
    assert names(tmp_path, "trip2", ".", "trip1") == [*expected[2:], *expected[:2]]
    (tmp_path / "link").symlink_to(tmp_path / "trip1")
    assert names(tmp_path, "link", "trip1") == ["link/a.jpg", "link/deep/b.jpg"]


def test_files_with_one_number(tmp_path, one_number):
    put(tmp_path, "a.jpg", "b.jpg", "sub/a.jpg", "A.jpg")
    one_number(".jpg")
    expected = ["A.jpg", "a.jpg", "b.jpg", "sub/a.jpg"]
    assert names(tmp_path) == expected
    assert names(tmp_path, "a.jpg", ".", "sub") == ["a.jpg", "A.jpg", "b.jpg", "sub/a.jpg"]
    (tmp_path / "link.jpg").symlink_to("b.jpg")
    assert names(tmp_path) == expected
    (tmp_path / "other.jpg").symlink_to(make_outside(tmp_path))
    assert names(tmp_path) == [*expected[:3], "other.jpg", expected[3]]


def make_outside(folder: Path) -> Path:
    put(folder.parent / f"{folder.name}-outside", "c.jpg")
    return folder.parent / f"{folder.name}-outside" / "c.jpg"


def test_archives_with_one_number(tmp_path, one_number):
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.jpg", name)
    one_number(".zip")
    assert names(tmp_path, "a.zip", "b.zip", "a.zip") == ["a.zip/x.jpg", "b.zip/x.jpg"]


def test_rows_with_one_number(tmp_path, one_number):
    put(tmp_path, "a.jpg", "b.jpg")
    connection = sqlite3.connect(":memory:")
    connection.executescript("""create table p (id integer primary key, path text);
        insert into p (path) values ('a.jpg'), ('b.jpg'), ('./a.jpg')""")
    one_number(".jpg")
    found = find_rows(connection, "select id, path from p", tmp_path)
    assert [source.stored for source in found.sources] == ["a.jpg", "b.jpg"]


def test_hard_links_are_one_file_still(tmp_path):
    put(tmp_path, "a.jpg", "sub/c.jpg")
    os.link(tmp_path / "a.jpg", tmp_path / "b.jpg")
    os.link(tmp_path / "a.jpg", tmp_path / "sub" / "d.jpg")
    assert names(tmp_path) == ["a.jpg", "sub/c.jpg"]


def test_spellings_of_a_system_that_ignores_case(tmp_path, monkeypatch):
    """macOS opens a file by any spelling, and does not say which one is on disk."""
    put(tmp_path, "Photos/a.jpg")
    assert same.is_same(str(tmp_path / "Photos" / "a.jpg"), str(tmp_path / "photos" / "A.jpg"))
    put(tmp_path, "photos/A.jpg")
    assert not same.is_same(str(tmp_path / "Photos" / "a.jpg"), str(tmp_path / "photos" / "A.jpg"))


def test_a_run_over_folders_with_one_number(tmp_path, tiny_model, one_number):
    for trip in (1, 2):
        for number in range(2):
            make_picture(tmp_path / f"trip{trip}" / f"{number}.png", 10 * trip + number)
    one_number("trip1", "trip2")
    result = run("embed-images", tmp_path / "d.db", tmp_path, "--pretrained", tiny_model)
    assert "Embedded:     4" in result.output


BIND = """
mount --bind {folder}/a {folder}/b && exec {python} -c '
from datasette_clip_search.pictures.sources import find_pictures
print([source.stored for source in find_pictures(["{folder}"], "{folder}").sources])'
"""


def test_a_folder_that_is_mounted_twice_is_one(tmp_path):
    put(tmp_path, "a/x.jpg", "a/y.jpg")
    (tmp_path / "b").mkdir()
    script = BIND.format(folder=tmp_path, python=sys.executable)
    command = ["unshare", "-Urm", "sh", "-c", script]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("There is no unshare here")
    if "mount" in result.stderr or "unshare" in result.stderr:
        pytest.skip("Nothing can be mounted here")
    assert result.stdout == "['a/x.jpg', 'a/y.jpg']\n", result.stderr


@pytest.mark.skipif(not mounts(), reason="Only Linux tells")
def test_mounts():
    assert mount_of("/proc/self", mounts()).kind == "proc"
    device, place = place_on_device("/proc/self", mounts())
    assert (device.count(":"), place) == (1, "/self")
