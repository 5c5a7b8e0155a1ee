"""Damaged, encrypted and hostile archives are reported, with a reason for each file."""

import random
import tarfile
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_clip_search.common.errors import PictureError, PictureUnreadable
from datasette_clip_search.pictures.sources import members
from support.sources import INSIDE, KINDS, contents, names, pack, search


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


def test_a_member_larger_than_stated_is_not_unpacked(tmp_path):
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
        assert reason.startswith("It is named like an archive, but is not a tar or zip file")
    elif kind != "tar.bz2":
        # This archive is smaller than one block of bzip2.
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
    with pytest.raises(PictureUnreadable, match="The archive changed while it was being read"):
        source.read()
    path.unlink()
    with pytest.raises(PictureUnreadable, match="Its archive can't be read: No such file"):
        source.read()


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
