"""The pictures in tar and zip archives are found and read, and stay inside their archive."""

import io
import os
import random
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from datasette_clip_search.pictures.sources import (
    find_pictures,
)
from support.sources import INSIDE, KINDS, contents, names, pack, put, search


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
        ("a.tar/in/away.jpg", "It is a link to something other than a picture in the archive"),
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


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="Only Linux lists open files")
def test_no_archive_is_kept_open(tmp_path):
    paths = [pack(tmp_path / f"{i}.{kind}", INSIDE) for i in range(5) for kind in KINDS]
    sources = search(tmp_path, *paths).sources
    before = len(os.listdir("/proc/self/fd"))
    for source in sources:
        source.read()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
