"""Pictures are found in folders, archives, globs, lists and rows: each once, and readable."""

import io
import os
import random
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_clip_search.common.errors import CommandError, PictureError, PictureUnreadable
from datasette_clip_search.pictures.sources import (
    FoundPictures,
    find_pictures,
    find_rows,
    is_gone,
    members,
    rows,
)


def put(folder: Path, *names: str) -> None:
    """Makes files whose content is their name."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


def names(found: FoundPictures) -> list[str]:
    return [source.stored for source in found.sources]


def contents(found: FoundPictures) -> dict[str, bytes]:
    return {source.stored: source.read() for source in found.sources}


def search(folder: Path, *arguments: str | Path, **options: object) -> FoundPictures:
    """Searches below a folder that is the database's and the working directory's parent."""
    return find_pictures(
        [str(folder / argument) for argument in arguments or ["."]], folder, **options
    )


# Folders


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


def test_what_is_passed_over_is_counted(tmp_path):
    put(tmp_path, "a.jpg", "._a.jpg", ".hidden/b.jpg", "Thumbs.db", "desktop.ini", ".DS_Store")
    put(tmp_path, "x.csv", "y.CSV", "README", "dot.", "__MACOSX/a.jpg", "@eaDir/a.jpg/small.jpg")
    found = search(tmp_path)
    assert names(found) == ["a.jpg"]
    assert found.hidden == 7
    assert found.others == {".csv": 2, "no extension": 2}


def test_a_file_is_taken_whatever_its_name(tmp_path):
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


def test_what_is_no_regular_file_is_not_opened(tmp_path, monkeypatch):
    # The path of a socket may only have 100 characters.
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


def test_files_are_lean(tmp_path):
    put(tmp_path, "a.jpg")
    (source,) = search(tmp_path).sources
    assert not hasattr(source, "__dict__")


# --exclude


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


# Globs


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


def test_what_a_glob_matches_beside_pictures(tmp_path):
    put(tmp_path, "a.jpg", "b.xmp", "scan")
    found = search(tmp_path, "*")
    assert (names(found), found.others) == (["a.jpg", "scan"], {".xmp": 1})
    assert not found.covers("old.jpg")


def test_a_glob_that_matches_nothing(tmp_path):
    put(tmp_path, "a.jpg")
    with pytest.raises(CommandError, match=r"Nothing matches .*/\*\.png, and there is no file"):
        search(tmp_path, "*.png")


# Lists on standard input


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
    with pytest.raises(CommandError, match="- stands for a list of paths on standard input"):
        find_pictures(["-"], tmp_path, stdin=stdin)


# Archives


KINDS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]
INSIDE = {"a.jpg": b"first", "sub/b.PNG": b"", "sub/c.webp": bytes(range(256)) * 100}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Packs files, by the name of the archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        mode = "w:" if path.suffix == ".tar" else f"w:{path.suffix[1:]}"
        with tarfile.open(path, mode) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_archives(tmp_path, kind):
    extra = {
        "000.txt": b"x",
        "000.json": b"{}",
        "README": b"",
        ".a.jpg": b"",
        "__MACOSX/a.jpg": b"",
    }
    path = pack(tmp_path / f"shard.{kind}", INSIDE | extra)
    found = search(tmp_path, path)
    assert contents(found) == {f"shard.{kind}/{name}": data for name, data in INSIDE.items()}
    assert found.others == {".txt": 1, ".json": 1, "no extension": 1}
    assert (found.hidden, found.unreadable) == (2, [])
    for source in found.sources:
        assert source.size == len(source.read())
        assert source.mtime == path.stat().st_mtime
        assert source.in_order == kind.startswith("tar.")
        assert (source.path, source.key) == (None, None)
        assert not hasattr(source, "__dict__")


@pytest.mark.parametrize("kind", KINDS)
def test_archives_are_known_by_content_and_only_where_they_are_named(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pack(tmp_path / f"shard.{kind}", INSIDE).rename(tmp_path / "shard.bin")
    expected = [f"shard.bin/{name}" for name in INSIDE]
    assert names(find_pictures(["shard.bin"], tmp_path)) == expected
    assert names(find_pictures(["shard.*"], tmp_path)) == expected
    assert names(find_pictures(["-"], tmp_path, stdin=io.BytesIO(b"shard.bin\n"))) == expected
    assert names(find_pictures(["shard.bin", "shard.bin"], tmp_path)) == expected
    folder = find_pictures(["."], tmp_path)
    assert (names(folder), folder.others) == ([], {".bin": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_read_in_any_order_and_by_many_threads(tmp_path, kind):
    rng = random.Random(0)
    files = {f"{i:03}.jpg": rng.randbytes(rng.randrange(5000)) for i in range(60)}
    sources = search(tmp_path, pack(tmp_path / f"a.{kind}", files)).sources
    sources += search(tmp_path, pack(tmp_path / f"b.{kind}", files)).sources
    sources = rng.sample(sources, len(sources))
    with ThreadPoolExecutor(4) as pool:
        for source, data in zip(
            sources, pool.map(lambda source: source.read(), sources), strict=True
        ):
            assert data == files[source.stored.rpartition("/")[2]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_two_members_wins(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in [("x.jpg", "0"), ("y.jpg", "1"), ("./x.jpg", "2")]:
                archive.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as archive:
            for count, name in enumerate(["x.jpg", "y.jpg", "./x.jpg"]):
                info = tarfile.TarInfo(name)
                info.size = 1
                archive.addfile(info, io.BytesIO(b"%d" % count))
    found = contents(search(tmp_path, path))
    assert sorted(found) == [f"a.{kind}/x.jpg", f"a.{kind}/y.jpg"]
    assert found[f"a.{kind}/x.jpg"] == b"2"


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../etc/x.jpg", "etc/x.jpg"),
        ("/etc/x.jpg", "etc/x.jpg"),
        ("//etc//x.jpg", "etc/x.jpg"),
        ("a/../../../x.jpg", "x.jpg"),
        ("./a/./x.jpg", "a/x.jpg"),
        ("ünï ☃/🎉.jpg", "ünï ☃/🎉.jpg"),
        ("a'b\"c%20.jpg", "a'b\"c%20.jpg"),
    ],
)
def test_a_members_name_never_leaves_its_archive(tmp_path, kind, name, stored):
    path = pack(tmp_path / f"a.{kind}", {name: b"data"})
    assert contents(search(tmp_path, path)) == {f"a.{kind}/{stored}": b"data"}


def test_links_and_pipes_in_a_tar(tmp_path):
    put(tmp_path, "in/a.jpg")
    os.link(tmp_path / "in/a.jpg", tmp_path / "in/hard.jpg")
    (tmp_path / "in/soft.jpg").symlink_to("a.jpg")
    (tmp_path / "in/away.jpg").symlink_to("../../b.jpg")
    os.mkfifo(tmp_path / "in/pipe.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a.jpg", "hard.jpg", "soft.jpg", "away.jpg", "pipe.jpg"):
            archive.add(tmp_path / "in" / name, f"in/{name}")
    found = search(tmp_path, "a.tar")
    assert contents(found) == {"a.tar/in/a.jpg": b"in/a.jpg"}
    assert found.unreadable == [
        ("a.tar/in/away.jpg", "It is a link, and what it leads to is not a picture in the archive"),
        ("a.tar/in/pipe.jpg", "It is not a regular file"),
    ]
    assert not found.covers("a.tar/in/pipe.jpg")


def test_a_name_in_a_tar_that_is_not_utf_8(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(os.fsdecode(b"caf\xe9.jpg")))
    assert contents(search(tmp_path, path)) == {"a.tar/caf\\xe9.jpg": b""}


def test_a_zip_in_a_tar_is_a_tar(tmp_path):
    inner = pack(tmp_path / "inner.zip", {"inner.jpg": b"x"}).read_bytes()
    pack(tmp_path / "outer.tar", {"a.jpg": b"a", "inner.zip": inner})
    found = search(tmp_path, "outer.tar")
    assert (names(found), found.others) == (["outer.tar/a.jpg"], {".zip": 1})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (zipfile.ZIP_STORED, None),
        (zipfile.ZIP_BZIP2, None),
        (zipfile.ZIP_LZMA, r"compressed by method 14, and only 8 \(deflate\) and 12 \(bzip2\)"),
    ],
)
def test_compressions_in_a_zip(tmp_path, method, message):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.jpg", b"picture" * 100)
    (source,) = search(tmp_path, "a.zip").sources
    if message is None:
        assert source.read() == b"picture" * 100
    else:
        with pytest.raises(PictureError, match=message):
            source.read()


def patch(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_an_encrypted_member(tmp_path):
    path = pack(tmp_path / "a.zip", {"a.jpg": b"x"})
    with zipfile.ZipFile(path) as archive:
        offset = archive.start_dir
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[offset + 8] |= 1
    path.write_bytes(data)
    (source,) = search(tmp_path, path).sources
    with pytest.raises(PictureError, match=r"^It is encrypted"):
        source.read()


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_over_the_limit(tmp_path, kind, monkeypatch):
    path = pack(tmp_path / f"a.{kind}", {"big.jpg": b"x" * 2001, "small.jpg": b"x" * 2000})
    monkeypatch.setattr(members, "MAX_MEMBER_BYTES", 2000)
    big, small = search(tmp_path, path).sources
    assert len(small.read()) == 2000
    with pytest.raises(PictureError, match="limit for files in archives"):
        big.read()


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(100_000_000))
    patch(path, (100_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (source,) = search(tmp_path, path).sources
    assert source.size == 10
    tracemalloc.start()
    with pytest.raises(PictureError, match="Its archive is damaged"):
        source.read()
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_tar_header_that_claims_gigabytes_is_refused(tmp_path):
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 2_000_000
    good = pack(tmp_path / "good.tar", {"a.jpg": b"x"}).read_bytes()[:1024]
    (tmp_path / "a.tar").write_bytes(good + info.tobuf() + bytes(2_100_000))
    found = search(tmp_path, "a.tar")
    assert contents(found) == {"a.tar/a.jpg": b"x"}
    message = "The archive can't be listed in full: a header is too long"
    assert found.unreadable == [("a.tar", message)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_cut_short(tmp_path, kind):
    rng = random.Random(0)
    files = {f"{i}.jpg": rng.randbytes(20_000) for i in range(10)}
    path = pack(tmp_path / f"a.{kind}", files)
    path.write_bytes(path.read_bytes()[:110_000])
    found = search(tmp_path, path)
    ((stored, reason),) = found.unreadable
    assert stored == f"a.{kind}"
    assert not found.covers(f"a.{kind}/9.jpg")
    if kind == "zip":
        assert reason.startswith("It is named like an archive, but is not a tar or zip")
    elif kind != "tar.bz2":
        # The blocks of bzip2 are larger than this archive.
        assert reason.startswith("The archive can't be listed in full: ")
        assert names(found)[:3] == [f"a.{kind}/{i}.jpg" for i in range(3)]
        assert found.sources[0].read() == files["0.jpg"]


def test_a_tar_with_a_damaged_header(tmp_path):
    path = pack(tmp_path / "a.tar", {f"{i}.jpg": b"x" for i in range(4)})
    patch(path, b"2.jpg", b"?.jpg")
    found = search(tmp_path, path)
    assert names(found) == ["a.tar/0.jpg", "a.tar/1.jpg"]
    message = "The archive can't be listed in full: a header is damaged"
    assert found.unreadable == [("a.tar", message)]


def test_a_zip_with_a_damaged_member(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"one picture")
        archive.writestr("b.jpg", b"two pictures")
    patch(path, b"one picture", b"one pixture")
    bad, good = search(tmp_path, path).sources
    assert good.read() == b"two pictures"
    with pytest.raises(PictureError, match="Its archive is damaged: the checksum"):
        bad.read()


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_changes_or_vanishes_while_it_is_read(tmp_path, kind):
    path = pack(tmp_path / f"a.{kind}", INSIDE)
    source = search(tmp_path, path).sources[0]
    pack(path, {"other.jpg": b"other"})
    with pytest.raises(PictureUnreadable, match="The archive was changed while it was read"):
        source.read()
    path.unlink()
    with pytest.raises(PictureUnreadable, match="Its archive can't be read: No such file"):
        source.read()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="Only Linux lists open files")
def test_no_archive_is_kept_open(tmp_path):
    paths = [pack(tmp_path / f"{i}.{kind}", INSIDE) for i in range(5) for kind in KINDS]
    sources = search(tmp_path, *paths).sources
    before = len(os.listdir("/proc/self/fd"))
    for source in sources:
        source.read()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.integers(), st.data())
def test_damage_is_listed_or_explained(kind, seed, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = pack(folder / f"a.{kind}", {f"{i}.jpg": b"%d" % i * 999 for i in range(5)})
        damaged = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 10))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
        for source in search(folder, path).sources:
            assert source.stored.startswith(f"a.{kind}/")
            try:
                assert len(source.read()) == source.size
            except PictureError as error:
                assert str(error)


# File names


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda name: not name.startswith(".") and len(name.encode()) < 200)


@settings(max_examples=100, deadline=None)
@given(st.sets(NAMES.map(lambda name: f"{name}.jpg"), max_size=5), NAMES)
def test_names_come_back_as_they_are(files, sub):
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


# What is missing


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


def test_what_was_searched_is_covered(tmp_path):
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


# Rows


@pytest.fixture
def photos(connect, tmp_path):
    connection = connect(tmp_path / "photos.db", isolation_level=None)
    connection.execute("create table photos (id integer primary key, name text, data)")
    for key, data in [(1, b"one"), (2, b""), (5, bytes(100_000)), (7, None), (8, 12), (9, 1.5)]:
        connection.execute("insert into photos values (?, ?, ?)", (key, f"n{key}", data))
    return connection


def test_blobs(photos, tmp_path):
    found = find_rows(photos, "select id, data from photos", tmp_path)
    assert contents(found) == {
        "sqlite:photos/1": b"one",
        "sqlite:photos/2": b"",
        "sqlite:photos/5": bytes(100_000),
    }
    assert [(source.key, source.size) for source in found.sources] == [(1, 3), (2, 0), (5, 100000)]
    for source in found.sources:
        assert (source.mtime, source.path, source.in_order) == (0.0, None, True)
        assert not hasattr(source, "__dict__")
    number = "The value is a number. Expected a picture's bytes or path"
    assert found.unreadable == [
        ("sqlite:photos/7", "The value is null"),
        ("sqlite:photos/8", number),
        ("sqlite:photos/9", number),
    ]
    assert found.covers("sqlite:photos/6")
    assert found.lacks("sqlite:photos/6")
    assert not found.lacks("sqlite:photos2/6")
    assert not found.covers("photos/6")


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("select id, data from photos;", "photos"),
        ("select id, data from photos -- all; of them", "photos"),
        ("/* ; */ select id, data from photos; -- ;", "photos"),
        ("select id, data from photos /* never closed", "photos"),
        ("SELECT data, id FROM (select id as data, data as id from photos)", "photos"),
        ("select id as data, data as key from photos order by key desc", "photos"),
        ("with source as (select id, data from photos) select * from source", "photos"),
        ("select id, data from (select * from photos) where name != ';--' and id < 6", "photos"),
        ("select p.id, p.data from photos p join tags t on t.photo = p.id", "photos+tags"),
        ("select id, data from recent", "photos"),
        ('select id, data from "source"', "source"),
        ('select id, data from "a/b+c%"', "a%2Fb%2Bc%25"),
        ("select name, data from photos", "photos"),
        ("values (1, x'00'), (2, x'01')", "query"),
        ("select id, data from other.photos", "other.photos"),
        (
            "with recursive c(i) as (values (1) union all select i + 1 from c where i < 5) "
            "select i, data from c join photos on id = i",
            "photos",
        ),
    ],
)
def test_selects(photos, tmp_path, sql, name):
    photos.executescript(
        """
        create table tags (photo, tag);
        insert into tags values (1, 'x');
        create view recent as select * from photos where id > 1;
        create table source as select * from photos;
        create table "a/b+c%" as select * from photos;
        attach ':memory:' as other;
        create table other.photos as select * from photos;
        """
    )
    found = find_rows(photos, sql, tmp_path)
    assert found.sources
    expected = {1: b"one", 2: b"", 5: bytes(100_000), "n1": b"one", "n2": b"", "n5": bytes(100_000)}
    if name == "query":
        expected = {1: b"\0", 2: b"\1"}
    for source in found.sources:
        assert source.stored == f"sqlite:{name}/{source.key}"
        assert source.read() == expected[source.key]
    assert found.covers(f"sqlite:{name}/99")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "The SQL is empty"),
        (" ; -- nothing", "The SQL is empty"),
        ("select id from photos", r"gives 1 column \(id\)\. Expected two, a key and a picture"),
        ("select * from photos", r"gives 3 columns \(id, name, data\)\. Expected two"),
        ("select id, data from nowhere", "can't be run: no such table: nowhere"),
        ("select id, data form photos", "The SQL can't be run: "),
        ("select id, data from photos where id = ?", "The SQL can't be run: "),
        ("select id, data from photos where id = :id", "The SQL can't be run: "),
        ("select id, data from photos; delete from photos", "more than one statement"),
        ("delete from photos returning id, data", "begins with delete"),
        ("insert into photos (id) values (50) returning id, data", "begins with insert"),
        ("pragma user_version = 7", "begins with pragma"),
        ("explain select id, data from photos", "begins with explain"),
        ("with x as (select 1) delete from photos returning id, data", "not authorized"),
        ("select 1, 2) , y as (select 3, 4", "The SQL can't be run: "),
        ("select id, data from photos where name = 'open", "The SQL can't be run: "),
        ("select id, data from photos where json_extract(name, '$')", "The SQL can't be run: "),
        ("select 1, data from photos", r"The key 1 is twice in the column 1"),
        ("select id, data from photos union all select '5', x'00'", r"The key 5 is twice"),
        ("select null as k, data from photos", r"A key in the column k is null"),
        ("select 1.5, data from photos", "is a real number"),
        ("select x'00', data from photos", "is a blob"),
        ("select cast(x'ff' as text), data from photos", "is not valid UTF-8"),
    ],
)
def test_sql_that_is_no_such_select(photos, tmp_path, sql, message):
    before = list(photos.iterdump())
    with pytest.raises(CommandError, match=message) as caught:
        find_rows(photos, sql, tmp_path)
    assert 'for instance --sql "select id, data from photos"' in str(caught.value)
    assert list(photos.iterdump()) == before
    photos.execute("insert into photos (id) values (51)")
    assert photos.text_factory is str


def test_keys_that_are_equal_only_without_case(photos, tmp_path):
    photos.execute("create table t (k text collate nocase, data)")
    photos.execute("insert into t values ('a', x'01'), ('A', x'02'), ('a/../b', x'03')")
    found = find_rows(photos, "select k, data from t", tmp_path)
    assert contents(found) == {
        "sqlite:t/a": b"\1",
        "sqlite:t/A": b"\2",
        "sqlite:t/a/../b": b"\3",
    }


def test_rows_are_written_while_they_are_read(photos, tmp_path):
    found = find_rows(photos, "select id, data from photos", tmp_path)
    first, second, third = found.sources
    photos.execute("begin immediate")
    assert first.read() == b"one"
    photos.execute("update photos set data = x'99' where id = 2")
    photos.execute("delete from photos where id = 5")
    photos.execute("commit")
    assert second.read() == b"\x99"
    with pytest.raises(PictureUnreadable, match="deleted or changed meanwhile"):
        third.read()
    photos.execute("drop table photos")
    with pytest.raises(PictureUnreadable, match="can't be read: no such table: photos"):
        first.read()


def bytes_read() -> int:
    """Returns how many bytes this process has read so far, from wherever."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="Only Linux counts what is read")
@pytest.mark.parametrize("order", ["", " order by id desc", " order by name"])
def test_listing_loads_no_blob_and_reading_looks_up_its_row(photos, connect, tmp_path, order):
    small = [(key, b"x") for key in range(100, 5000)]
    with photos:
        photos.execute("begin")
        photos.execute("insert into photos values (20, 'big', zeroblob(50000000))")
        photos.executemany("insert into photos (id, data) values (?, ?)", small)
    fresh = connect(tmp_path / "photos.db")
    before = bytes_read()
    found = find_rows(fresh, f"select id, data from photos where id > 1{order}", tmp_path)
    assert bytes_read() - before < 2_000_000
    sources = {source.key: source for source in found.sources}
    assert sources[20].size == 50_000_000
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    fresh.set_progress_handler(count, 100)
    assert sources[4999].read() == b"x"
    assert steps < 5
    assert sources[20].read() == bytes(50_000_000)
    assert bytes_read() - before > 50_000_000


@pytest.mark.parametrize(
    "sql",
    [
        "select id, data from t limit 3000",
        "select name, data from t",
        "select id, data from t group by id",
        "select id, data from t order by name limit 3000",
    ],
)
def test_rows_without_an_index_are_fetched_many_at_once(connect, tmp_path, sql):
    connection = connect(tmp_path / "t.db")
    connection.execute("create table t (id, name, data)")
    many = [(key, f"n{key}", b"%d" % key) for key in range(3000)]
    connection.executemany("insert into t values (?, ?, ?)", many)
    connection.commit()
    found = find_rows(connection, sql, tmp_path)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    for source in found.sources:
        assert source.read() == str(source.key).removeprefix("n").encode()
    assert len(found.sources) == 3000
    assert len(statements) == 6
    assert found.sources[0].read() == b"0"


def test_rows_fetched_at_once_are_few_megabytes(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MAX_BYTES_AT_ONCE", 100_000)
    found = find_rows(photos, "select id, data from photos limit 10", tmp_path)
    statements: list[str] = []
    photos.set_trace_callback(statements.append)
    assert [len(source.read()) for source in found.sources] == [3, 0, 100_000]
    assert len(statements) == 2


def test_paths_in_rows(photos, tmp_path):
    put(tmp_path, "in/a.jpg", "in/b", "folder/c.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).touch()
    photos.execute("create table files (id integer primary key, path)")
    for path in ["in/a.jpg", f"{tmp_path}/in/b", "in/../in/a.jpg", "gone.jpg", "folder"]:
        photos.execute("insert into files (path) values (?)", (path,))
    for path in ["https://example.com/a.jpg", "data:image/png;base64,", "pipe.jpg", "", "a\0b"]:
        photos.execute("insert into files (path) values (?)", (path,))
    photos.execute("insert into files (path) values (cast(x'636166e92e6a7067' as text))")
    found = find_rows(photos, "select id, path from files", tmp_path)
    assert contents(found) == {"in/a.jpg": b"in/a.jpg", "in/b": b"in/b"}
    first, second = found.sources
    assert (first.key, second.key, first.in_order) == (1, 2, False)
    assert (first.path, first.size) == (f"{tmp_path}/in/a.jpg", 8)
    assert first.mtime == (tmp_path / "in/a.jpg").stat().st_mtime
    address = "It is an address; only files and blobs are read"
    assert found.unreadable == [
        ("gone.jpg", "There is no such file"),
        ("folder", "It is a folder"),
        ("sqlite:files/6", address),
        ("sqlite:files/7", address),
        ("pipe.jpg", "It is not a regular file"),
        ("sqlite:files/9", "The value is not the path of a file"),
        ("sqlite:files/10", "The value is not the path of a file"),
        ("caf\\xe9.jpg", "Its name is not valid UTF-8. Rename the file"),
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(-(2**63), 2**63 - 1)
)
def test_any_key(text, number):
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (k, data)")
    connection.executemany("insert into t values (?, ?)", [(f"t{text}", b"a"), (number, b"b")])
    found = find_rows(connection, "select k, data from t", Path("/"))
    assert contents(found) == {f"sqlite:t/t{text}": b"a", f"sqlite:t/{number}": b"b"}
    connection.close()


@settings(max_examples=200, deadline=None)
@given(st.text("select idatfromphs()';-*/\"[`, 1\n?", max_size=40))
def test_any_sql_is_a_select_or_explained(sql):
    connection = sqlite3.connect(":memory:")
    connection.execute("create table photos (id integer primary key, data)")
    for text in (sql, f"select id, data from photos {sql}"):
        try:
            assert find_rows(connection, text, Path("/")).sources == []
        except CommandError as error:
            assert "--sql" in str(error)
    connection.close()
