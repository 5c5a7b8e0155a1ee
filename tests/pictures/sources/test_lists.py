"""`-` reads a list of paths from standard input."""

import io

import pytest

from datasette_clip_search.common.errors import CommandError
from datasette_clip_search.pictures.sources import (
    find_pictures,
)
from support.sources import names, put


@pytest.mark.parametrize(
    "listed",
    [b"b.jpg\nx\n", b"b.jpg\r\nx", b"b.jpg\0x\0", b"\n\nb.jpg\nx\n", b"\xef\xbb\xbfb.jpg\nx"],
)
def test_a_list_of_paths(tmp_path, monkeypatch, listed):
    put(tmp_path, "a.jpg", "b.jpg", "x/c.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(find_pictures(["-"], tmp_path, stdin=io.BytesIO(listed))) == ["b.jpg", "x/c.jpg"]


def test_a_list_with_odd_names(tmp_path, monkeypatch):
    put(tmp_path, "new\nline.jpg", "*.jpg", "other.jpg", "-")
    monkeypatch.chdir(tmp_path)
    listed = b"new\nline.jpg\0*.jpg\0gone.jpg\0[x].jpg\0-\0caf\xe9.jpg\0"
    found = find_pictures(["-"], tmp_path, stdin=io.BytesIO(listed))
    assert names(found) == ["new\nline.jpg", "*.jpg", "-"]
    reason = "There is no such file or folder"
    assert found.unreadable == [
        ("[x].jpg", reason),
        ("caf\\xe9.jpg", reason),
        ("gone.jpg", reason),
    ]


@pytest.mark.parametrize("stdin", [None, io.BytesIO(b""), io.BytesIO(b"\n\r\n")])
def test_an_empty_list(tmp_path, stdin):
    with pytest.raises(
        CommandError, match="- reads a list of paths from standard input, which is empty"
    ):
        find_pictures(["-"], tmp_path, stdin=stdin)
