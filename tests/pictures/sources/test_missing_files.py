"""A stored path is missing only if it was searched for and is certainly gone."""

from pathlib import Path

import pytest

from datasette_clip_search.pictures.sources import FoundPictures, find_pictures, is_gone
from support.sources import names, pack, put, search


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("photos/gone.jpg", True),
        ("photos/no/such/folder/gone.jpg", True),
        ("photos/a.jpg", False),
        ("photos/a.jpg/inside.jpg", False),
        ("photos/a.jpg/deep/inside.jpg", False),
        ("photos/broken.jpg", False),
        ("photos/disk/gone.jpg", False),
        ("photos/folder link/gone.jpg", True),
        ("photos", False),
        ("sqlite:photos/1", False),
        ("./sqlite:photos/1", True),
        ("x" * 300 + ".jpg", False),
        ("nul\0byte.jpg", False),
    ],
)
def test_is_gone(tmp_path, stored, expected):
    put(tmp_path, "photos/a.jpg", "other/b.jpg")
    (tmp_path / "photos/broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "photos/disk").symlink_to("/media/nowhere")
    (tmp_path / "photos/folder link").symlink_to(tmp_path / "other")
    assert is_gone(stored, tmp_path) is expected
    if "\0" not in stored and not stored.startswith(("sqlite:", "./")):
        assert is_gone(str(tmp_path / stored), Path("/elsewhere")) is expected


def test_searched_paths_are_covered(tmp_path):
    put(tmp_path, "photos/a.jpg", "photos2/b.jpg", "single.jpg")
    path = pack(tmp_path / "x.zip", {"a.jpg": b"", ".hidden.jpg": b"", "note.txt": b""})
    found = search(tmp_path, "photos", path, "single.jpg")
    for stored, covered, lacks in [
        ("photos/old.jpg", True, True),
        ("photos/deep/old.jpg", True, True),
        ("photos/.hidden/old.jpg", False, False),
        (f"{tmp_path}/photos/old.jpg", True, True),
        ("photos2/old.jpg", False, False),
        ("old.jpg", False, False),
        ("single.jpg", False, False),
        ("x.zip/old.jpg", True, True),
        ("x.zip/deep/old.jpg", True, True),
        ("x.zip/.hidden.jpg", False, False),
        ("x.zip/note.txt", False, False),
        ("sqlite:photos/1", False, False),
    ]:
        assert (stored, found.covers(stored), found.lacks(stored)) == (stored, covered, lacks)


def test_an_archive_in_a_folder_is_not_searched_with_it(tmp_path):
    pack(tmp_path / "photos.zip", {"a.jpg": b""})
    assert not search(tmp_path).lacks("photos.zip/a.jpg")
    both = search(tmp_path, ".", "photos.zip", exclude=["private"])
    assert both.lacks("photos.zip/old.jpg")
    assert not both.covers("photos.zip/private/a.jpg")


def test_everything_is_covered_by_the_root(tmp_path):
    database = tmp_path / "databases"
    put(tmp_path, "photos/a.jpg")
    found = find_pictures([str(tmp_path)], database)
    assert found.covers(f"{tmp_path}/photos/old.jpg")
    assert found.covers("beside.jpg")
    assert not found.covers(f"{tmp_path.parent}/old.jpg")


def test_finds_are_joined(tmp_path):
    put(tmp_path, "a/x.jpg", "b/y.jpg", "b/z.txt", "b/.h.jpg")
    found = search(tmp_path, "a")
    found.extend(search(tmp_path, ".", exclude=["nothing"]))
    assert names(found) == ["a/x.jpg", "b/y.jpg"]
    assert (found.others, found.hidden) == ({".txt": 1}, 1)
    assert found.covers("b/old.jpg")
    empty = FoundPictures()
    empty.extend(found)
    assert empty.lacks("b/old.jpg")
