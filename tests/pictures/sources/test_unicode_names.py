"""Names match in any Unicode form, whichever was typed and whichever is on disk."""

import io
import os
import sqlite3
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from datasette_clip_search.common.errors import CommandError
from datasette_clip_search.pictures.sources import FoundPictures, find_pictures, find_rows
from datasette_clip_search.pictures.sources.spelling import as_on_disk
from support.commands import run
from support.databases import rows
from support.pictures import make_picture

FORMS = [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC"), ("NFD", "NFD")]
either = pytest.mark.parametrize(("typed", "stored"), FORMS)


def form(name: str, text: str) -> str:
    return unicodedata.normalize(name, text)


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(found: FoundPictures) -> set[str]:
    return {source.stored for source in found.sources}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "probe-é")
    if os.path.exists(tmp_path / form("NFD", "probe-é")):
        pytest.skip("This file system takes either form for the other")
    return tmp_path


PATTERNS = [
    "Privé",
    "Privé/",
    "Priv?",
    "P*vé",
    "Priv[éè]",
    "Privé/*",
    "**/Privé/*",
    "photos/Été/Privé",
    "./photos/Été/Priv*",
    "{here}/photos/Été/Privé",
    ".//photos/Été//Privé",
    "photos/Été2/../Été/Privé",
    "{here}/**/Privé",
    "{here}/*/Été/Priv[é]",
    "Été",
    "sécret.jpg",
]


@either
@pytest.mark.parametrize("pattern", PATTERNS)
def test_exclude(here, typed, stored, pattern):
    held = [form(stored, name) for name in ("Été/Privé/sécret.jpg", "Été2/a.jpg")]
    put(here / "photos", *held)
    excluded = [form(typed, pattern.format(here=here))]
    expected = {f"photos/{held[1]}"}
    if pattern == "Privé/*":
        # A pattern with a slash is a path from the searched folder.
        found = find_pictures([form(stored, "photos/Été")], here, excluded)
        assert names(found) == set()
        return
    found = find_pictures(["photos"], here, excluded)
    assert names(found) == expected
    assert not found.covers(f"photos/{held[0]}")
    assert found.covers(f"photos/{held[1]}")


@either
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_exclude_inside_archives(here, typed, stored, kind):
    member, other = form(stored, "Été/Privé/a.jpg"), form(stored, "Été/b.jpg")
    if kind == "zip":
        with zipfile.ZipFile("x.zip", "w") as archive:
            archive.writestr(member, b"x")
            archive.writestr(other, b"x")
    else:
        with tarfile.open("x.tar", "w") as archive:
            for name in (member, other):
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    for pattern in ("Privé", "Été/Privé"):
        found = find_pictures([f"x.{kind}"], here, [form(typed, pattern)])
        assert names(found) == {f"x.{kind}/{other}"}


@either
def test_exclude_by_a_path_that_goes_through_a_link(here, typed, stored):
    put(here, *(form(stored, name) for name in ("disk/Été/Privé/a.jpg", "disk/Été/b.jpg")))
    (here / "photos").symlink_to(form(stored, "disk/Été"))
    for argument in ("photos", form(typed, "disk/Été")):
        for pattern in ("photos/Privé", "disk/Été/Privé", f"{here}/disk/Été/Privé"):
            found = find_pictures([argument], here, [form(typed, pattern)])
            assert [Path(name).name for name in names(found)] == ["b.jpg"]


@pytest.mark.parametrize(
    "pattern",
    ["é [1]", "é [1]/", "photos/é [1]", "{here}/photos/é [1]", "é [[]1]"],
)
def test_exclude_what_has_brackets_in_its_name(here, pattern):
    put(here, "photos/é [1]/a.jpg", "photos/é 2/b.jpg")
    assert names(find_pictures(["photos"], here, [pattern.format(here=here)])) == {
        "photos/é 2/b.jpg"
    }


def test_excluding_a_link_excludes_nothing_else(here):
    put(here, "photos/real/a.jpg")
    (here / "photos" / "link").symlink_to("real")
    assert names(find_pictures(["photos"], here, ["photos/link"])) == {"photos/real/a.jpg"}


def test_exclude_takes_both_of_two_spellings(here):
    put(here, *(f"photos/{form(each, 'Privé')}/{each}.jpg" for each in ("NFC", "NFD")))
    assert names(find_pictures(["photos"], here, ["Privé"])) == set()


def test_exclude_distinguishes_other_names(here):
    put(here, "photos/prive/a.jpg", "photos/PRIVÉ/b.jpg", "photos/privè/c.jpg", "photos/privé.jpg")
    (here / os.fsdecode(b"photos/priv\xe9")).mkdir()
    assert len(names(find_pictures(["photos"], here, ["privé", "Privé"]))) == 4


@either
@pytest.mark.parametrize(
    "argument",
    [
        "Été/Privé",
        "Été/Privé/",
        "Été/Privé/é.jpg",
        "./Été/../Été/Privé/é.jpg",
        "{here}/Été/Privé",
        "Été/*/é.jpg",
        "Ét?/Privé/*.jpg",
        "**/é.jpg",
        "Été/Privé/[é].jpg",
        "{here}/É*/Privé/",
    ],
)
def test_paths_and_globs(here, typed, stored, argument):
    name = form(stored, "Été/Privé/é.jpg")
    put(here, name)
    found = find_pictures([form(typed, argument.format(here=here))], here)
    assert names(found) == {name}
    # What is excluded stays excluded.
    for pattern in ("é.jpg", "Été/Privé/é.jpg", "**/é.jpg"):
        excluded = [form(typed, pattern)]
        assert not names(find_pictures([form(typed, argument.format(here=here))], here, excluded))


@either
def test_lists_and_rows(here, typed, stored):
    put(here, form(stored, "Été/é.jpg"))
    listed = io.BytesIO(form(typed, "Été/é.jpg").encode() + b"\n")
    assert names(find_pictures(["-"], here, stdin=listed)) == {form(stored, "Été/é.jpg")}
    connection = sqlite3.connect(":memory:")
    connection.execute("create table p (id integer primary key, path text)")
    connection.execute("insert into p (path) values (?)", [form(typed, "Été/é.jpg")])
    assert names(find_rows(connection, "select id, path from p", here)) == {
        form(stored, "Été/é.jpg")
    }


@either
@pytest.mark.parametrize("pattern", ["Privé", "Été/Privé", "{here}/photos/Été/Privé", "é.jpg"])
@pytest.mark.parametrize("database", ["photos", "elsewhere"])
def test_exclude_of_paths_in_rows(here, typed, stored, pattern, database):
    """A path in a row is relative to the database's folder, or absolute."""
    put(here, form(stored, "photos/Été/Privé/é.jpg"), "photos/b.jpg", "elsewhere/c.jpg")
    connection = sqlite3.connect(":memory:")
    connection.execute("create table p (id integer primary key, path text)")
    paths = (f"{here}/photos/Été/Privé/é.jpg", f"{here}/photos/b.jpg")
    connection.executemany("insert into p (path) values (?)", [(form(typed, p),) for p in paths])
    excluded = [form(typed, pattern.format(here=here))]
    if pattern == "Été/Privé" and database == "elsewhere":
        excluded = [form(typed, "photos/Été/Privé")]
    found = find_rows(connection, "select id, path from p", here / database, excluded)
    assert [Path(name).name for name in names(found)] == ["b.jpg"]
    assert found.excluded == 1


def test_the_spelling_given_comes_first(here):
    for each in ("NFC", "NFD"):
        put(here, form(each, "é.jpg"))
        assert names(find_pictures([form(each, "é.jpg")], here)) == {form(each, "é.jpg")}


@pytest.mark.parametrize("name", ["nichts/é.jpg", "é", "E", os.fsdecode(b"\xe9"), "é\0", ""])
def test_missing_names_are_refused(here, name):
    assert as_on_disk(name) == name
    with pytest.raises(CommandError):
        find_pictures([name], here)


@either
def test_the_command(here, tiny_model, typed, stored):
    make_picture(here / "photos" / form(stored, "Privé") / "secret.png", 1)
    make_picture(here / "photos" / "b.png", 2)
    options = [
        "--pretrained",
        tiny_model,
        "--text-tower",
        "none",
        "--exclude",
        form(typed, "Privé"),
    ]
    result = run("embed-images", "d.db", "photos", *options)
    assert result.exit_code == 0, result.output
    assert rows(here / "d.db", "select path from images") == [("photos/b.png",)]
