"""The examples of docs/python.md run, one after the other, in a folder like its reader's."""

import re
import shutil

import pytest

import datasette_clip_search
from datasette_clip_search import Collection
from support.paths import DEMO_PICTURES, ROOT

pytest.importorskip("open_clip")

PAGE = (ROOT / "docs" / "python.md").read_text("utf-8")


@pytest.fixture
def folder(tmp_path, demo_database, monkeypatch):
    """A home with the demo's pictures, a database of them, and one more picture."""
    (tmp_path / "Pictures").symlink_to(DEMO_PICTURES, target_is_directory=True)
    shutil.copy(demo_database, tmp_path / "photos.db")
    shutil.copy(DEMO_PICTURES / "phone" / "PXL_20230601_124824315.jpg", tmp_path / "new.jpg")
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


NAMES = ["embed", "Collection", "Hit", "search", "mix", "duplicates", "tags", "vectors"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_documented(name):
    assert hasattr(datasette_clip_search, name) or hasattr(Collection, name)
    assert re.search(rf"`{name}`|\b{name}\(", PAGE)
