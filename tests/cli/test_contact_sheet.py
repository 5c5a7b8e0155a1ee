"""Contact sheets: clip-search --html and --open."""

import base64
import io
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlparse

import pytest
from PIL import Image

from support.commands import run
from support.databases import rows
from support.pictures import make_picture

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
    # Without the picture of the query, which is in the heading.
    assert len(made.links) == 3
    assert made.pictures[0] == stored["pictures/a.jpg"]
    assert made.pictures[1:] == [stored[link] for link in made.links]
    assert "dog, like 1, minus snow" in made.text
    assert "The 3 nearest of 6 pictures in photos.db, by tiny" in made.text
    # The style sheet is part of it, and nothing is loaded.
    assert made.tags.isdisjoint({"script", "link", "iframe"})
    assert "url(" not in file.read_text("utf-8")


@pytest.mark.parametrize("place", ["album/sheet.html", "sheet.html", "link/sheet.html"])
def test_links_lead_to_the_files(tmp_path, tiny_model, place):
    make_picture(tmp_path / "album" / EVIL)
    make_picture(tmp_path / "album" / "file:" / "a.jpg", 1)
    database = tmp_path / "album" / "photos.db"
    assert run("embed-images", database, tmp_path / "album", "--pretrained", tiny_model)
    file = tmp_path / place
    (tmp_path / "link").symlink_to("album")
    made = sheet(database, file, "<script>alert(1)</script>")
    assert not any(urlparse(link).scheme for link in made.links)
    assert sorted(linked(link, file).resolve() for link in made.links) == sorted(
        [tmp_path / "album" / EVIL, tmp_path / "album" / "file:" / "a.jpg"]
    )
    assert "script" not in made.tags
    assert "<script>alert(1)</script>" in made.text
    assert EVIL in made.text


@pytest.mark.parametrize("place", ["elsewhere/sheet.html", "database/sheet.html", "-"])
def test_sheets_can_be_sent(tmp_path, pictures, tiny_model, place):
    """A sheet shows only the names of pictures outside the database's folder."""
    for folder in ("database", "elsewhere"):
        (tmp_path / folder).mkdir()
    database = tmp_path / "database" / "photos.db"
    make_picture(database.parent / "near" / "g.jpg", 7)
    options = ["--pretrained", tiny_model]
    assert run("embed-images", database, pictures, database.parent, *options).exit_code == 0
    file = place if place == "-" else tmp_path / place
    question = ["--like", pictures / "a.jpg", "--image", pictures / "b.png"]
    result = run("clip-search", database, *question, "--html", file)
    text = result.stdout or file.read_text("utf-8")
    assert str(tmp_path) not in text
    assert "file:" not in text
    made = Sheet(text)
    assert "like b.png, like a.jpg" in made.text
    assert made.links == (["near/g.jpg"] if place.startswith("database") else [])
    for name in ("c.webp", "f.jpg", "g.jpg"):
        assert f">{name}</p>" in text
    assert [line for line in ("near", "deep", "pictures") if f"<bdi>{line}</bdi>" in text] == [
        "near"
    ]


def test_without_thumbnails_they_are_made_of_the_files(tmp_path, pictures, tiny_model):
    database = tmp_path / "photos.db"
    options = ["--pretrained", tiny_model, "--no-thumbnails"]
    assert run("embed-images", database, pictures, *options).exit_code == 0
    (pictures / "a.jpg").unlink()
    made = sheet(database, tmp_path / "sheet.html", "dog")
    assert len(made.pictures) == len(made.links) == 5
    assert all(Image.open(io.BytesIO(data)).size == (64, 48) for data in made.pictures)
    assert made.text.count("a.jpg") == 2


def test_pictures_that_are_not_files(tmp_path, tiny_model):
    """Pictures from table rows have a thumbnail, but no link."""
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
    """Rows are printed only on request; - writes the sheet to standard output."""
    file = tmp_path / "sheet.html"
    result = run("clip-search", tiny_database, "dog", "--html", file, "--nl")
    assert len(result.stdout.splitlines()) == 6
    result = run("clip-search", tiny_database, "dog", "--html", "-")
    assert len(Sheet(result.stdout).pictures) == 6
    # A sheet on standard output has no folder yet.
    assert Sheet(result.stdout).links == []
    empty = sheet(tiny_database, file, "dog", "--where", "0")
    assert "None of 0 pictures in photos.db where 0, by tiny" in empty.text
    result = run("clip-search", tiny_database, "dog", "--html", tmp_path / "no" / "sheet.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {tmp_path / 'no' / 'sheet.html'}: No such file or directory\n"


@pytest.mark.parametrize("name", ["photos.db", "notes.txt", "pictures/a.jpg"])
def test_other_files_are_not_overwritten_by_sheets(tiny_database, tmp_path, name):
    (tmp_path / "notes.txt").write_text("Not to be lost: <!DOCTYPE html>")
    before = (tmp_path / name).read_bytes()
    # Refused before the search starts and before a model loads.
    result = run("clip-search", tiny_database, "--like", "nowhere", "--html", tmp_path / name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {tmp_path / name} exists and is not an HTML document, so it is not "
        "overwritten. Give --html another name\n"
    )
    assert (tmp_path / name).read_bytes() == before


def test_sheets_are_overwritten(tiny_database, tmp_path):
    """Including one written by hand, an empty file, and the target of a link."""
    (tmp_path / "by-hand.html").write_text(" \n<!doctype HTML><title>Old</title>")
    (tmp_path / "empty.html").touch()
    (tmp_path / "empty.html").chmod(0o640)
    (tmp_path / "link.html").symlink_to("linked.html")
    for name in ("by-hand.html", "empty.html", "link.html"):
        assert len(sheet(tiny_database, tmp_path / name, "--like", 1, "-k", 3).pictures) == 4
        assert len(sheet(tiny_database, tmp_path / name, "--like", 1, "-k", 2).pictures) == 3
    assert (tmp_path / "empty.html").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "linked.html").is_file()


def test_pipes_can_be_written_to(tiny_database, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        result = run("clip-search", tiny_database, "--like", "1", "--html", tmp_path / "pipe")
        read = reader.communicate(timeout=60)[0]
    assert result.exit_code == 0, result.output
    assert len(Sheet(read.decode()).pictures) == 6


def test_an_old_sheet_survives_a_failed_write(tiny_database, tmp_path):
    resource = pytest.importorskip("resource")
    file = tmp_path / "sheet.html"
    sheet(tiny_database, file, "--like", 1)
    before, there = file.read_bytes(), set(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        result = run("clip-search", tiny_database, "--like", "2", "--html", file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (result.exit_code, result.stderr) == (1, f"Error: {file}: File too large\n")
    assert file.read_bytes() == before
    assert set(tmp_path.iterdir()) == there


def test_open(tiny_database, tmp_path):
    """A browser gets the address of the sheet; without one, the error names the file."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    command = ["-m", "sqlite_utils", "clip-search", tiny_database, "--like", "1", "--open"]
    environ = {**os.environ, "BROWSER": str(browser), "TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    address = (tmp_path / "opened").read_text().strip()
    opened = Sheet(linked(address, tmp_path).read_text("utf-8"))
    assert len(opened.pictures) == 6
    # It is outside the folders of the pictures, so its links are absolute.
    pictures = {file.as_uri() for file in (tmp_path / "pictures").rglob("*.*")}
    assert set(opened.links) < pictures
    assert len(opened.links) == 5
    environ |= {"BROWSER": "/nowhere/browser", "PATH": "/nowhere", "DISPLAY": ""}
    result = subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True)
    assert result.returncode == 1
    said, place = result.stderr.strip().rsplit(" ", 1)
    assert said == "Error: No browser could be started. The contact sheet is in"
    assert Path(place).is_file()
