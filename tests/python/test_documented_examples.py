"""The examples of docs/python.md run, one after the other, in a folder like its reader's."""

import re
import shutil
import tarfile

import pytest

from support.paths import DEMO_PICTURES, ROOT

pytest.importorskip("open_clip")

PICTURE = DEMO_PICTURES / "phone" / "PXL_20230601_124824315.jpg"
PAGE = (ROOT / "docs" / "python.md").read_text("utf-8")


@pytest.fixture
def folder(tmp_path, demo_database, monkeypatch):
    """A home with the demo's pictures, an archive, and a database."""
    for name in ("Pictures", "pictures"):
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to(DEMO_PICTURES, target_is_directory=True)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "0.tar", "w") as archive:
        archive.add(PICTURE, PICTURE.name)
    shutil.copy(demo_database, tmp_path / "photos.db")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_examples_run(folder):
    names: dict[str, object] = {}
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len(examples) > 5
    for example in examples:
        exec(example, names)
    names["photos"].close()
    assert len(names["ids"]) == len(names["vectors"]) >= 160
