"""--exclude matches names, and paths from the folder that is searched."""

import zipfile

import pytest

from datasette_clip_search.pictures.sources import find_pictures
from support.sources import names, put, search

EXCLUDED = ["a.jpg", "private/b.jpg", "x/private/c.jpg", "x/2.jpg", "x/y/d.png"]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ([], EXCLUDED),
        (["private"], ["a.jpg", "x/2.jpg", "x/y/d.png"]),
        (["private/"], ["a.jpg", "x/2.jpg", "x/y/d.png"]),
        (["private/*"], ["a.jpg", "x/2.jpg", "x/y/d.png", "x/private/c.jpg"]),
        (["./private/*"], ["a.jpg", "x/2.jpg", "x/y/d.png", "x/private/c.jpg"]),
        (["**/private/*"], ["a.jpg", "x/2.jpg", "x/y/d.png"]),
        (["x/*"], ["a.jpg", "private/b.jpg"]),
        (["x/y", "a.*"], ["private/b.jpg", "x/2.jpg", "x/private/c.jpg"]),
        (["*.jpg"], ["x/y/d.png"]),
        (["x*.jpg"], EXCLUDED),
        (["x/*.jpg"], ["a.jpg", "private/b.jpg", "x/y/d.png"]),
        (["[ax]"], ["a.jpg", "private/b.jpg"]),
        (["photos/x"], ["a.jpg", "private/b.jpg"]),
        (["", "/", "nowhere"], EXCLUDED),
    ],
)
def test_exclude(tmp_path, monkeypatch, patterns, left):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    put(folder, *EXCLUDED)
    found = find_pictures(["photos"], folder, exclude=patterns)
    assert sorted(names(found)) == sorted(left)
    assert bool(found.excluded) == (len(left) < len(EXCLUDED))
    for name in EXCLUDED:
        assert found.covers(name) == (name in left)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in EXCLUDED:
            archive.writestr(name, name)
    if patterns != ["photos/x"]:
        inside = find_pictures(["photos.zip"], tmp_path, exclude=patterns)
        assert sorted(names(inside)) == sorted(f"photos.zip/{name}" for name in left)
        assert inside.excluded == len(EXCLUDED) - len(left)
        for name in EXCLUDED:
            assert inside.covers(f"photos.zip/{name}") == (name in left)


def test_exclude_counts_files_and_folders(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg", "private/c.jpg", "private/d.jpg")
    assert search(tmp_path, exclude=["private", "a*"]).excluded == 2


def test_exclude_arguments_that_the_shell_expanded(tmp_path, monkeypatch):
    put(tmp_path, "a/x.jpg", "private/y.jpg", "z.png")
    monkeypatch.chdir(tmp_path)
    for arguments in (["a", "private", "z.png"], ["*"], ["**/*"]):
        assert names(find_pictures(arguments, tmp_path, exclude=["private", "*.png"])) == [
            "a/x.jpg"
        ]
