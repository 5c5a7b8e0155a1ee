"""clip-publish never replaces a foreign file, and writes its own completely or not at all."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.commands import run
from support.databases import rows
from support.processes import largest_file
from support.publishing import digest, publish

REFUSED = {
    "the database itself": lambda folder: folder / "photos.db",
    "a link to it": lambda folder: link(folder, os.symlink),
    "another name of it": lambda folder: link(folder, os.link),
    "its write-ahead log": lambda folder: folder / "photos.db-wal",
    "a picture": lambda folder: folder / "pictures" / "00.png",
    "another database": lambda folder: other_database(folder),
    "a folder": lambda folder: folder / "pictures",
    "no folder": lambda folder: folder / "nowhere" / "p.db",
}


def link(folder: Path, make) -> Path:  # type: ignore[no-untyped-def]
    make(folder / "photos.db", folder / "link.db")
    return folder / "link.db"


def other_database(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "mine.db")) as connection:
        connection.execute("create table mine (text)")
    return folder / "mine.db"


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("option", [[], ["--replace"]])
def test_never_overwritten(tiny_database, name, option):
    if option and name in ("a picture", "another database"):
        pytest.skip("--replace is for these")
    target = REFUSED[name](tiny_database.parent)
    before = digest(tiny_database)
    held = target.read_bytes() if target.is_file() else None
    result = run("clip-publish", tiny_database, target, *option)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert digest(tiny_database) == before
    assert (target.read_bytes() if target.is_file() else None) == held
    assert not list(tiny_database.parent.glob(".*"))


def test_overwrites_its_own_files_and_others_with_replace(tiny_database, tmp_path):
    target = publish(tiny_database, tmp_path / "p.db")
    target.chmod(0o640)
    publish(tiny_database, target, "--where", "id < 3")
    assert rows(target, "select count(*) from images") == [(2,)]
    assert target.stat().st_mode & 0o777 == 0o640
    mine = other_database(tmp_path)
    (tmp_path / "link.db").symlink_to(mine)
    publish(tiny_database, tmp_path / "link.db", "--replace")
    assert (tmp_path / "link.db").is_symlink()
    assert rows(mine, "select count(*) from images") == [(6,)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name the file to write"),
        (["p.db", "--to-folder", "x"], "Give either the file "),
        (["p.db", "-p", "a", "b"], "-p sets the value of a :name in --where"),
        (["p.db", "--where", "nonsense"], "no such column: nonsense"),
        (["p.db", "--where", "id < 0"], "No picture matches --where"),
        (["p.db", "--model", "x"], "There is no model 'x'"),
        (["p.db", "--model", "1", "--all-models"], "Give one of them"),
        (
            ["p.db", "--no-thumbnails", "--thumbnail-size", "9"],
            "--no-thumbnails and --thumbnail-size exclude each other",
        ),
    ],
)
def test_nonsense_options_are_refused(tiny_database, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = run("clip-publish", tiny_database, *arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("size", [0, 40_000, 100_000, 190_000])
@pytest.mark.parametrize("exists", [True, False])
def test_full_disk(tiny_database, tmp_path, size, exists):
    target = tmp_path / "out" / "p.db"
    target.parent.mkdir()
    if exists:
        publish(tiny_database, target, "--where", "id = 1")
    before = digest(target) if exists else None
    with largest_file(size):
        result = run("clip-publish", tiny_database, target, "--with-image-search")
    assert result.exit_code == 1, result.output
    assert "can't be written" in result.stderr
    assert "Traceback" not in result.output
    assert (digest(target) if target.exists() else None) == before
    assert len(list(target.parent.iterdir())) == exists
    publish(tiny_database, target)
    assert rows(target, "select count(*) from images") == [(6,)]


KILLED = """
import os, signal, sys
from datasette_clip_search.publish import published_file as module
from sqlite_utils.cli import cli
module.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cli(["clip-publish", *sys.argv[1:]])
"""


@pytest.mark.parametrize("step", ["part_sizes", "replace_whole", "shrink_thumbnails"])
def test_killed(tiny_database, tmp_path, step):
    target = publish(tiny_database, tmp_path / "p.db", "--where", "id = 1")
    before = digest(target)
    code = KILLED.format(step=step)
    command = [sys.executable, "-c", code, tiny_database, target, "--thumbnail-size", "9"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert digest(target) == before
    [left] = tmp_path.glob(".p.db.publishing-*")
    publish(tiny_database, target)
    assert left.exists()
    for file in [*left.iterdir(), left]:
        os.utime(file, (0, 0))
    publish(tiny_database, target)
    assert not left.exists()
