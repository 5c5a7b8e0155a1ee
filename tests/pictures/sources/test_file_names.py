"""Odd file names come back as they are: in folders, in archives and in lists."""

import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_clip_search.common.errors import PictureError
from datasette_clip_search.pictures.sources import (
    find_pictures,
)
from support.sources import contents, names, pack, put, search


def test_a_name_that_is_too_long(tmp_path):
    found = search(tmp_path, "x" * 300)
    assert found.unreadable == [("x" * 300, "It can't be read: File name too long")]


def test_names_that_are_not_utf_8(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    found = search(tmp_path)
    (source,) = found.sources
    assert (source.stored, source.path, source.size) == ("caf\\xe9.jpg", None, 1)
    with pytest.raises(PictureError, match=r"Its name is not valid UTF-8\. Rename the file"):
        source.read()


def test_a_database_in_a_folder_that_is_not_utf_8(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    put(folder, "a.jpg")
    found = find_pictures([str(folder)], folder)
    assert contents(found) == {"a.jpg": b"a.jpg"}
    assert found.covers("b.jpg")
    assert found.lacks("b.jpg")


def test_a_name_like_that_of_a_row(tmp_path):
    put(tmp_path, "sqlite:photos/1.jpg", "sqlite:2.jpg")
    found = search(tmp_path)
    assert names(found) == ["./sqlite:2.jpg", "./sqlite:photos/1.jpg"]
    assert contents(found)["./sqlite:photos/1.jpg"] == b"sqlite:photos/1.jpg"
    assert names(search(tmp_path, "sqlite:2.jpg", "sqlite:photos")) == names(found)
    (tmp_path / "sqlite:2.jpg").unlink()
    assert found.lacks("./sqlite:2.jpg")
    assert not found.lacks("./sqlite:photos/1.jpg")


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda name: not name.startswith(".") and len(name.encode()) < 200)


@settings(max_examples=100, deadline=None)
@given(st.sets(NAMES.map(lambda name: f"{name}.jpg"), max_size=5), NAMES)
def test_names_round_trip(files, sub):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inside = {f"in {sub}/{file}": file.encode() for file in files}
        for path, data in inside.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data)
        assert contents(search(folder)) == inside
        archives = [pack(folder / f"a.{kind}", inside) for kind in ("tar", "tar.gz", "zip")]
        assert contents(search(folder, *archives)) == {
            f"{path.name}/{member}": data for path in archives for member, data in inside.items()
        }
        if inside:
            listed = io.BytesIO(b"".join(os.fsencode(folder / path) + b"\0" for path in inside))
            assert contents(find_pictures(["-"], folder, stdin=listed)) == inside
