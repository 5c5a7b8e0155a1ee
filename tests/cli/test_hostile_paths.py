"""Paths in a stranger's database: no file outside the allowed folders is read, linked or named."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from support.commands import run
from support.databases import rows
from support.pictures import make_picture

pytest.importorskip("open_clip")

CONTROL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\u2066\r"
CODES = set("\x1b\x07\x9b\u202e\u2066\r")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, tiny_model):
    """A database without thumbnails, and its two pictures next to it."""
    folder = tmp_path_factory.mktemp("embedded") / "download"
    for seed, name in enumerate(["a.png", "b.png"]):
        make_picture(folder / name, seed)
    options = ["--pretrained", tiny_model, "--no-thumbnails", "--text-tower", "32-bit"]
    assert run("embed-images", folder / "s.db", folder, *options).exit_code == 0
    return folder


@pytest.fixture
def database(embedded, tmp_path):
    shutil.copytree(embedded, tmp_path / "download")
    make_picture(tmp_path / "private.png", 77)
    return tmp_path / "download" / "s.db"


def change(database, path, **more):
    with closing(sqlite3.connect(database)) as connection, connection:
        columns = ", ".join(f"{name} = ?" for name in ("path", *more))
        # A stranger can drop the trigger that deletes vectors of other contents.
        connection.execute("drop trigger clip_image_changed")
        connection.execute("update clip_embeddings set made_from = null")
        connection.execute(
            f"update images set {columns} where path = 'a.png'", [path, *more.values()]
        )


def hash_of(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def outputs(database, *options):
    """Return the contact sheet and the output of --paths."""
    sheet = database.parent / "sheet.html"
    result = run("clip-search", database, "dog", "--html", sheet, *options)
    assert result.exit_code == 0, result.output
    result = run("clip-search", database, "dog", "-0", *options)
    assert result.exit_code == 0, result.output
    return sheet.read_text("utf-8"), result


@pytest.mark.parametrize(
    "path",
    [
        "../private.png",
        "./../private.png",
        "a/../../private.png",
        "{folder}/private.png",
        "//{folder}/private.png",
        "link.png",
        "linked/private.png",
        "/etc/passwd",
        "/dev/zero",
        "pipe.png",
        "folder",
        ".",
        "..",
        "",
        "~/.bashrc",
        "file://{folder}/private.png",
        "http://tracker.example/pixel.png",
        "//tracker.example/pixel.png",
        "\\\\server\\share\\pixel.png",
        "C:\\Windows\\win.ini",
        "javascript:alert(1)",
        "sqlite:images/1",
        "a.zip/a.png",
        "a\0.png",
    ],
)
def test_no_file_elsewhere(database, path):
    folder = database.parent
    (folder / "link.png").symlink_to("../private.png")
    (folder / "linked").symlink_to("..")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.png")
    # Even if the stranger knows its contents.
    change(
        database,
        path.format(folder=folder.parent),
        content_hash=hash_of(folder.parent / "private.png"),
    )
    text, named = outputs(database)
    assert text.count("src=") == 1
    assert text.count("href=") == 1
    assert 'href="b.png"' in text
    assert named.stdout == f"{folder}/b.png\0"
    assert "1 of 2 left out" in named.stderr


def test_only_embedded_contents_are_shown(database):
    """A file next to the database is shown only if it has the embedded contents."""
    folder = database.parent
    make_picture(folder / "secret.png", 78)
    change(database, "secret.png")
    text, named = outputs(database)
    assert text.count("src=") == 1
    # It may be linked and named, because it is in a folder that the user allowed.
    assert text.count("href=") == 2
    assert named.stdout.count("\0") == 2


def test_folders_that_the_user_names(database, monkeypatch):
    folder = database.parent
    change(
        database,
        f"{folder.parent}/private.png",
        content_hash=hash_of(folder.parent / "private.png"),
    )
    _, named = outputs(database)
    assert f"--originals {folder.parent}\n" in named.stderr
    text, named = outputs(database, "--originals", folder.parent)
    assert text.count("src=") == 2
    # It is outside the folder of the sheet.
    assert text.count("href=") == 1
    assert sorted(named.stdout.split("\0")[:-1]) == [
        f"{folder}/b.png",
        f"{folder.parent}/private.png",
    ]
    monkeypatch.setenv("CLIP_SEARCH_ORIGINALS", f"{folder}{os.pathsep}{folder.parent}")
    assert outputs(database)[1].stdout == named.stdout


@pytest.mark.parametrize("value", [5, 2.5, None, b"\xff\xfe", b"a.png"])
def test_paths_that_are_no_texts(database, value):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("pragma writable_schema = on")
        connection.execute(
            "update sqlite_master set sql = replace(sql, 'path text not null unique', 'path') "
            "where name = 'images'"
        )
        connection.execute("delete from sqlite_master where name like 'sqlite_autoindex_images%'")
    change(database, value)
    text, named = outputs(database)
    assert text.count("src=") == 1
    assert named.stdout.count("\0") == 1
    assert run("clip-search", database, "dog", "--table").exit_code == 0


def test_huge_thumbnails(database):
    """A database of a megabyte can not make a page of a gigabyte."""
    with closing(sqlite3.connect(database)) as connection, connection:
        sql = """insert into clip_thumbnails (image_id, format, data)
            select id, 'png', zeroblob(2000000) from images"""
        connection.execute(sql)
    text, _ = outputs(database)
    assert len(text) < 1_000_000


def test_printed_text_has_no_control_codes(database, monkeypatch):
    change(database, f"{CONTROL}\n{CONTROL}")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for options in (["--table"], ["--fmt", "github"], ["--show"], ["--paths"], [], ["--nl"]):
        result = run("clip-search", database, "dog", *options)
        assert result.exit_code == 0, result.output
        # The escape codes for the colours of the pictures are ours.
        left = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
        assert not CODES & set(left), options
    # Output for programs is exactly the stored value.
    found = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "clip-search", database, "dog", "--csv"],
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert CONTROL in found
    found = json.loads(run("clip-search", database, "dog").stdout)
    assert f"{CONTROL}\n{CONTROL}" in [row["path"] for row in found]


@pytest.mark.parametrize("column", ["name", "pretrained", "fingerprint"])
def test_models_names_hold_no_control_codes(database, column):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"update clip_models set {column} = ?", [CONTROL])
    target = database.parent / "public.db"
    for command in (
        ["clip-search", database, "dog"],
        ["clip-search", database, "dog", "--model", "7"],
        ["clip-search", database, "--like", "nowhere"],
        ["clip-search", database, "--like", "1", "--where", CONTROL],
        ["clip-index", database, "--status"],
        ["clip-index", database, "--status", "--json"],
        ["clip-publish", database, target],
        ["embed-images", database, database.parent],
        [database, "select * from clip_search('dog', 3, 'x')"],
    ):
        result = run(*command)
        assert not CODES & set(result.output), command


def test_file_names_are_printed_without_control_codes(tmp_path, tiny_model):
    """Names of broken files, of missing files, and of the database itself."""
    folder = tmp_path / f"pictures{CONTROL}"
    for seed in range(3):
        make_picture(folder / f"{seed}{CONTROL}.png", seed)
    (folder / f"broken{CONTROL}\n.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    database = folder / f"p{CONTROL}.db"
    options = ["--pretrained", tiny_model, "--text-tower", "none"]
    told = run("embed-images", database, folder, *options)
    assert told.exit_code == 0
    (folder / f"0{CONTROL}.png").unlink()
    every = [told, run("embed-images", database, folder, *options)]
    every.append(run("embed-images", database, tmp_path / f"nowhere{CONTROL}"))
    every.append(run("clip-index", database))
    every.append(run("clip-index", f"{database}{CONTROL}"))
    every.append(run("clip-search", database, "--image", tmp_path / CONTROL))
    every.append(run("clip-publish", database, tmp_path / f"to{CONTROL}.db"))
    alone = tmp_path / "alone.db"
    every.append(run("embed-images", alone, folder / f"broken{CONTROL}\n.png", *options))
    for result in every:
        # The progress bar returns to the start of its line and hides the cursor.
        left = result.output.replace("\x1b[?25l", "").replace("\x1b[?25h", "")
        assert not (CODES - {"\r"}) & set(left.replace("\r\x1b[K", "")), left
    assert "\\x1b]0;owned" in told.output
    assert rows(database, "select count(*) from images") == [(3,)]
