"""Globs match as in a shell, skip hidden files, and always end."""

import pytest

from datasette_clip_search.common.errors import CommandError
from datasette_clip_search.pictures.sources import find_pictures
from support.sources import names, put, search


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b[1].jpg"]),
        ("**/*.jpg", ["a.jpg", "b[1].jpg", "x/c.jpg", "x/y/d.jpg"]),
        ("x/**/*.jpg", ["x/c.jpg", "x/y/d.jpg"]),
        ("**/y/*", ["x/y/d.jpg"]),
        ("?.jpg", ["a.jpg"]),
        ("x/**", ["x/c.jpg", "x/y/d.jpg"]),
        ("*", ["a.jpg", "b[1].jpg", "x/c.jpg", "x/y/d.jpg"]),
        ("*.txt", ["note.txt"]),
        ("b[1].jpg", ["b[1].jpg"]),
        ("b[[]1].jpg", ["b[1].jpg"]),
        ("./x/[cd].jpg", ["x/c.jpg"]),
        ("*/", ["x/c.jpg", "x/y/d.jpg"]),
        (".*.jpg", [".hidden.jpg"]),
    ],
)
def test_globs(tmp_path, monkeypatch, pattern, expected):
    put(tmp_path, "a.jpg", "b[1].jpg", "x/c.jpg", "x/y/d.jpg", "note.txt", ".hidden.jpg")
    put(tmp_path, ".git/e.jpg")
    (tmp_path / "x" / "round").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert names(find_pictures([pattern], tmp_path)) == expected
    if not pattern.startswith("."):
        assert names(find_pictures([f"{tmp_path}/{pattern}"], tmp_path)) == expected


def test_a_glob_in_circles_ends(tmp_path):
    put(tmp_path, "a/b.jpg")
    for name in ("one", "two", "three"):
        (tmp_path / "a" / name).symlink_to(tmp_path)
    assert names(search(tmp_path, "**/*.jpg")) == ["a/b.jpg"]


def test_other_files_that_a_glob_matches(tmp_path):
    put(tmp_path, "a.jpg", "b.xmp", "scan")
    found = search(tmp_path, "*")
    assert (names(found), found.others) == (["a.jpg", "scan"], {".xmp": 1})
    assert not found.covers("old.jpg")


def test_a_glob_that_matches_nothing(tmp_path):
    put(tmp_path, "a.jpg")
    message = r"Nothing matches .*/\*\.png, and no file or folder has that name"
    with pytest.raises(CommandError, match=message):
        search(tmp_path, "*.png")
