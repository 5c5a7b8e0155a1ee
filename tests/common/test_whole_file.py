"""A file that is replaced whole: after every accident it is the old one or the new one."""

import os

import pytest

from datasette_clip_search.common.whole_file import replace_file


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_file_has_the_usual_permissions(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    with replace_file(tmp_path / "new") as file:
        file.write(b"new")
        assert (tmp_path / "new").exists() is False
    assert contents(tmp_path) == {"usual": b"", "new": b"new"}
    assert (tmp_path / "new").stat().st_mode == usual.stat().st_mode


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replace_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {"file": b"new"}
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_errors_leave_the_older_file(tmp_path, monkeypatch, error, step):
    def fail(*arguments):
        raise error

    def write():
        with replace_file(path) as file:
            file.write(b"new")
            if step == "write":
                fail()

    path = tmp_path / "file"
    path.write_bytes(b"old")
    if step != "write":
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(error):
        write()
    assert contents(tmp_path) == {"file": b"old"}


def test_the_bytes_are_on_disk_before_they_are_seen(tmp_path, monkeypatch):
    steps = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: steps.append("fsync") or sync(handle))
    monkeypatch.setattr(os, "replace", lambda *paths: steps.append("replace") or replace(*paths))
    with replace_file(tmp_path / "file") as file:
        file.write(b"new")
    assert steps == ["fsync", "replace", "fsync"]
