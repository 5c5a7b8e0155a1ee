"""Contact sheets: what clip-search --html writes, and --open opens."""

import base64
import io
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlparse

import pytest
from conftest import make_picture, rows, run
from PIL import Image

pytest.importorskip("open_clip")

EVIL = "<b onclick='x'>&\"js:#?%41 é.jpg"


class Sheet(HTMLParser):
    """The links, pictures, tags and text of a contact sheet."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[bytes] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        values = dict(attrs)
        assert not any(name.startswith("on") for name in values)
        if "href" in values:
            self.links.append(values["href"])
        if "src" in values:
            prefix = "data:image/jpeg;base64,"
            assert values["src"].startswith(prefix)
            self.pictures.append(base64.b64decode(values["src"].removeprefix(prefix)))

    def handle_data(self, data):
        self.text += data


def sheet(database: Path, file: Path, *arguments: object) -> Sheet:
    result = run("clip-search", database, *map(str, arguments), "--html", file)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return Sheet(file.read_text("utf-8"))


def linked(link: str, file: Path) -> Path:
    return Path(unquote(urlparse(urljoin(file.as_uri(), link)).path))


def test_sheet_holds_the_thumbnails_and_links_to_the_files(tiny_database):
    file = tiny_database.parent / "sheet.html"
    made = sheet(tiny_database, file, "dog", "--like", 1, "--minus", "snow", "-k", 3)
    sql = """select id, path, data from images join clip_thumbnails on image_id = id"""
    stored = {path: data for _, path, data in rows(tiny_database, sql)}
    # Without the one that was searched with, which stands in the heading.
    assert len(made.links) == 3
    assert made.pictures[0] == stored["pictures/a.jpg"]
    assert made.pictures[1:] == [stored[link] for link in made.links]
    assert "dog, like 1, minus snow" in made.text
    assert "The 3 nearest of 6 pictures of photos.db, by tiny" in made.text
    # A stylesheet in it, nothing from elsewhere.
    assert made.tags.isdisjoint({"script", "link", "iframe"})
    assert "url(" not in file.read_text("utf-8")


@pytest.mark.parametrize("place", ["album/sheet.html", "sheet.html", "elsewhere/sheet.html"])
def test_links_lead_to_the_files(tmp_path, tiny_model, place):
    """Relative ones where sheet and pictures can be moved together."""
    make_picture(tmp_path / "album" / EVIL)
    make_picture(tmp_path / "album" / "file:" / "a.jpg", 1)
    database = tmp_path / "album" / "photos.db"
    assert run("embed-images", database, tmp_path / "album", "--pretrained", tiny_model)
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    made = sheet(database, file, "<script>alert(1)</script>")
    assert {linked(link, file) for link in made.links} == {
        tmp_path / "album" / EVIL,
        tmp_path / "album" / "file:" / "a.jpg",
    }
    is_absolute = [link.startswith("file:///") for link in made.links]
    assert is_absolute == [place.startswith("elsewhere")] * 2
    assert "script" not in made.tags
    assert "<script>alert(1)</script>" in made.text
    assert EVIL in made.text


def test_without_thumbnails_they_are_made_of_the_files(tmp_path, pictures, tiny_model):
    database = tmp_path / "photos.db"
    options = ["--pretrained", tiny_model, "--no-thumbnails"]
    assert run("embed-images", database, pictures, *options).exit_code == 0
    (pictures / "a.jpg").unlink()
    made = sheet(database, tmp_path / "sheet.html", "dog")
    assert len(made.pictures) == len(made.links) == 5
    assert all(Image.open(io.BytesIO(data)).size == (64, 48) for data in made.pictures)
    assert made.text.count("a.jpg") == 2


def test_pictures_that_are_no_files(tmp_path, tiny_model):
    """Rows of tables have a thumbnail, but nothing that a link could lead to."""
    import sqlite3

    database = tmp_path / "photos.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table photos (id integer primary key, data blob)")
        data = make_picture(tmp_path / "a.png").read_bytes()
        connection.execute("insert into photos values (1, ?)", [data])
    connection.close()
    sql = "select id, data from photos"
    options = ["--sql", sql, "--pretrained", tiny_model]
    assert run("embed-images", database, *options).exit_code == 0
    made = sheet(database, tmp_path / "sheet.html", "dog")
    assert (len(made.pictures), made.links) == (1, [])
    result = run("clip-search", database, "dog", "--paths")
    assert result.stdout == ""
    assert "1 of 1 left out" in result.stderr


def test_other_outputs_beside_a_sheet(tiny_database, tmp_path):
    """Rows only where they are asked for; the sheet itself on standard output for -."""
    file = tmp_path / "sheet.html"
    result = run("clip-search", tiny_database, "dog", "--html", file, "--nl")
    assert len(result.stdout.splitlines()) == 6
    result = run("clip-search", tiny_database, "dog", "--html", "-")
    assert len(Sheet(result.stdout).pictures) == 6
    # What is on standard output lies nowhere, so its links are whole.
    assert all(link.startswith("file:///") for link in Sheet(result.stdout).links)
    empty = sheet(tiny_database, file, "dog", "--where", "0")
    assert "None of 0 pictures of photos.db where 0, by tiny" in empty.text
    result = run("clip-search", tiny_database, "dog", "--html", tmp_path / "no" / "sheet.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {tmp_path / 'no' / 'sheet.html'}: No such file or directory\n"


def test_open(tiny_database, tmp_path):
    """A browser gets the address of a sheet; where there is none, its place is told."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    command = ["-m", "sqlite_utils", "clip-search", tiny_database, "--like", "1", "--open"]
    environ = {**os.environ, "BROWSER": str(browser), "TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    address = (tmp_path / "opened").read_text().strip()
    assert len(Sheet(linked(address, tmp_path).read_text("utf-8")).pictures) == 6
    environ |= {"BROWSER": "/nowhere/browser", "PATH": "/nowhere", "DISPLAY": ""}
    result = subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True)
    assert result.returncode == 1
    said, place = result.stderr.strip().rsplit(" ", 1)
    assert said == "Error: No browser could be started. The contact sheet is"
    assert Path(place).is_file()
