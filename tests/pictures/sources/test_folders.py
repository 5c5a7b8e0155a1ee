"""Folders and files are found in order, each file once; what is skipped is counted."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from datasette_clip_search.common.errors import CommandError, PictureUnreadable
from datasette_clip_search.pictures.sources import find_pictures
from support.sources import contents, names, put, search


def test_folders_in_order(tmp_path):
    put(tmp_path, "b.jpg", "A.JPG", "sub/c.png", "sub/deep/d.webp", "sub.jpg/e.gif", "z.jpeg")
    found = search(tmp_path)
    expected = ["A.JPG", "b.jpg", "z.jpeg", "sub/c.png", "sub/deep/d.webp", "sub.jpg/e.gif"]
    assert names(found) == expected
    assert contents(found) == {name: name.encode() for name in expected}
    for source in found.sources:
        info = os.stat(tmp_path / source.stored)
        assert (source.size, source.mtime) == (info.st_size, info.st_mtime)
        assert source.path == str(tmp_path / source.stored)
        assert (source.key, source.in_order) == (None, False)


def test_stored_paths_are_from_the_databases_folder_where_they_lie_below_it(tmp_path):
    put(tmp_path, "here/a.jpg", "here.jpg", "elsewhere/b.jpg")
    found = find_pictures([str(tmp_path)], tmp_path / "here")
    assert names(found) == [
        f"{tmp_path}/here.jpg",
        f"{tmp_path}/elsewhere/b.jpg",
        "a.jpg",
    ]
    assert [source.path for source in found.sources] == [
        f"{tmp_path}/here.jpg",
        f"{tmp_path}/elsewhere/b.jpg",
        f"{tmp_path}/here/a.jpg",
    ]


def test_relative_arguments_are_from_the_working_directory(tmp_path, monkeypatch):
    put(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path / "photos")
    assert names(find_pictures(["."], Path(".."))) == ["photos/a.jpg"]
    assert names(find_pictures(["../photos/./a.jpg"], Path("."))) == ["a.jpg"]


def test_skipped_files_are_counted(tmp_path):
    put(tmp_path, "a.jpg", "._a.jpg", ".hidden/b.jpg", "Thumbs.db", "desktop.ini", ".DS_Store")
    put(tmp_path, "x.csv", "y.CSV", "README", "dot.", "__MACOSX/a.jpg", "@eaDir/a.jpg/small.jpg")
    found = search(tmp_path)
    assert names(found) == ["a.jpg"]
    assert found.hidden == 7
    assert found.others == {".csv": 2, "no extension": 2}


def test_a_file_argument_may_have_any_name(tmp_path):
    put(tmp_path, "notes.txt", ".hidden.jpg", "scan")
    found = search(tmp_path, "notes.txt", ".hidden.jpg", "scan")
    assert names(found) == ["notes.txt", ".hidden.jpg", "scan"]
    assert (found.hidden, found.others) == (0, {})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a", "a/x.jpg"], ["a/x.jpg"]),
        (["a/x.jpg", "a"], ["a/x.jpg"]),
        (["a", ".", "a"], ["a/x.jpg", "y.jpg"]),
        ([".", "a"], ["y.jpg", "a/x.jpg"]),
    ],
)
def test_each_file_once_over_all_arguments(tmp_path, arguments, expected):
    put(tmp_path, "a/x.jpg", "y.jpg", "a/note.txt")
    found = search(tmp_path, *arguments)
    assert names(found) == expected
    assert found.others[".txt"] == ("a" in arguments or "." in arguments)


def test_hard_links_once(tmp_path):
    put(tmp_path, "b.jpg")
    os.link(tmp_path / "b.jpg", tmp_path / "a.jpg")
    assert names(search(tmp_path)) == ["a.jpg"]
    assert names(search(tmp_path, "b.jpg", ".")) == ["b.jpg"]


def test_a_link_counts_once_with_its_file(tmp_path):
    put(tmp_path, "photos/b.jpg", "outside/c.jpg")
    (tmp_path / "photos" / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "photos" / "d.jpg").symlink_to("../outside/c.jpg")
    (tmp_path / "photos" / "e.jpg").symlink_to("../outside/c.jpg")
    assert names(search(tmp_path, "photos")) == ["photos/b.jpg", "photos/d.jpg"]
    assert names(search(tmp_path, "photos", "outside")) == ["photos/b.jpg", "outside/c.jpg"]
    assert names(search(tmp_path, "photos/a.jpg")) == ["photos/a.jpg"]
    assert names(search(tmp_path, "photos/a.jpg", "photos/b.jpg")) == ["photos/b.jpg"]


def test_links_to_folders_are_followed_only_where_they_are_arguments(tmp_path):
    put(tmp_path, "real/a.jpg", "photos/b.jpg")
    (tmp_path / "photos" / "round").symlink_to(tmp_path)
    (tmp_path / "photos" / "other").symlink_to(tmp_path / "real")
    found = search(tmp_path, "photos")
    assert (names(found), found.links) == (["photos/b.jpg"], 2)
    assert names(search(tmp_path, "photos/other")) == ["photos/other/a.jpg"]


def test_broken_links(tmp_path):
    put(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "disk").symlink_to("/media/nowhere")
    found = search(tmp_path)
    reason = "It is a link to a file that does not exist"
    assert found.unreadable == [("gone.jpg", reason), ("self.jpg", reason)]
    assert names(found) == ["a.jpg"]
    assert not found.covers("disk/old.jpg")
    with pytest.raises(CommandError, match=r"gone\.jpg is a link to nowhere\.jpg, which does not"):
        search(tmp_path, "gone.jpg")


def test_irregular_files_are_not_opened(tmp_path, monkeypatch):
    # The path of a socket has at most about 100 characters.
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        found = search(tmp_path)
    reason = "It is not a regular file"
    assert found.unreadable == [("link.jpg", reason), ("pipe.jpg", reason), ("s.png", reason)]
    assert found.others == {"no extension": 1}
    assert search(tmp_path, "pipe").unreadable == [("pipe", reason)]


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg")
    first, second = search(tmp_path).sources
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(PictureUnreadable, match="It is not a regular file"):
        first.read()
    with pytest.raises(PictureUnreadable, match="It can't be read: No such file"):
        second.read()


NOBODY = """
import os, sys
from pathlib import Path
from datasette_clip_search.pictures.decode import picture_extensions
from datasette_clip_search.pictures.sources import find_pictures, is_gone
picture_extensions()
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = Path(sys.argv[1])
found = find_pictures([str(folder), str(folder / "locked")], folder)
print([source.stored for source in found.sources])
print(found.unreadable)
print([found.covers(path) for path in ["a.jpg", "locked/x.jpg", "blind/x.jpg", "old.jpg"]])
print([is_gone(path, folder) for path in ["locked/x.jpg", "old.jpg", "blind/never.jpg"]])
print([found.lacks(path) for path in ["locked/x.jpg", "old.jpg", "blind/never.jpg"]])
try:
    find_pictures([str(folder / "a.jpg")], folder).sources[0].read()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_folders_and_files_without_permission():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(folder, "a.jpg", "locked/x.jpg", "blind/x.jpg")
        folder.chmod(0o755)
        (folder / "a.jpg").chmod(0)
        (folder / "locked").chmod(0)
        (folder / "blind").chmod(0o744 if os.geteuid() == 0 else 0o644)
        script = folder / "script.py"
        script.write_text(NOBODY)
        command = [sys.executable, str(script), name]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=60, cwd="/", check=False
            )
        finally:
            for path in ("locked", "blind"):
                (folder / path).chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "['a.jpg']",
        "[('blind/x.jpg', \"It can't be read: Permission denied\"), "
        "('locked', \"The folder can't be listed: Permission denied\")]",
        "[True, False, False, True]",
        "[False, True, False]",
        "[False, True, False]",
        "PictureUnreadable It can't be read: Permission denied",
    ]


@pytest.mark.parametrize("argument", ["nowhere", "a.jpg/b.jpg", "", "nul\0byte.jpg"])
def test_an_argument_that_names_nothing(tmp_path, monkeypatch, argument):
    put(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=r"^There is no file or folder \S"):
        find_pictures([argument], tmp_path)


def test_files_are_lean(tmp_path):
    put(tmp_path, "a.jpg")
    (source,) = search(tmp_path).sources
    assert not hasattr(source, "__dict__")
