"""The int8 tower of a database: later runs embed with it, without torch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.databases import change, rows
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.towers import EMBED, without_torch

for library in ("open_clip", "onnxscript", "onnxruntime"):
    pytest.importorskip(library)

INT8 = ["--model", "demo", "--pretrained", DEMO_MODEL, "--precision", "int8"]
MANIFEST = "select data from clip_towers where tower = 'int8' and part = 0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the demo's pictures of a phone and their int8 database; to be copied."""
    folder = tmp_path_factory.mktemp("int8") / "made"
    shutil.copytree(DEMO_PICTURES / "phone", folder / "pictures")
    result = run("embed-images", folder / "photos.db", folder / "pictures", *INT8)
    assert result.exit_code == 0, result.output
    assert "int8 finds 9" in result.stdout
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


def vector(database, name):
    sql = """select embedding, precision from images join clip_embeddings on image_id = id
        where path like ?"""
    [(embedding, precision)] = rows(database, sql, f"%{name}")
    assert precision == "int8"
    return np.frombuffer(embedding, "<f4")


def add_a_copy(folder):
    """Add a picture with other bytes and the same pixels as a given one; return that one's name."""
    original = sorted((folder / "pictures").rglob("*.jpg"))[7]
    (folder / "pictures" / "copy.jpg").write_bytes(original.read_bytes() + b"\0")
    return original.name


def test_a_later_run_needs_no_torch(folder):
    name = add_a_copy(folder)
    [(before,)] = rows(folder / "photos.db", MANIFEST)
    output = without_torch(EMBED, folder / "photos.db", folder / "pictures", *INT8).stdout
    assert "Embedded:     1\n" in output
    assert np.array_equal(
        vector(folder / "photos.db", "copy.jpg"), vector(folder / "photos.db", name)
    )
    assert rows(folder / "photos.db", MANIFEST) == [(before,)]


@pytest.mark.parametrize(
    "sql",
    [
        "update clip_towers set data = zeroblob(length(data)) where tower = 'int8' and part = 3",
        "delete from clip_towers where tower = 'int8'",
        "update clip_towers set data = json_set(data, '$.version', 0) where tower = 'int8' "
        "and part = 0",
        "update clip_towers set data = json_set(data, '$.calibration', 'other') "
        "where tower = 'int8' and part = 0",
    ],
    ids=["damaged", "missing", "older", "otherwise calibrated"],
)
def test_towers_that_do_not_fit_are_made_again(folder, sql):
    database = folder / "photos.db"
    [(before,)] = rows(database, MANIFEST)
    change(database, sql)
    name = add_a_copy(folder)
    result = run("embed-images", database, folder / "pictures", *INT8)
    assert "Embedded:     1\n" in result.stdout, result.output
    assert np.array_equal(vector(database, "copy.jpg"), vector(database, name))
    [(after,)] = rows(database, MANIFEST)
    same = {"sha256", "calibration", "version", "fingerprint"}
    first, second = (json.loads(manifest) for manifest in (before, after))
    assert {key: first[key] for key in same} == {key: second[key] for key in same}
    assert first["made"] < second["made"]


def test_it_is_not_published(folder, tmp_path):
    for options in ([], ["--with-image-search"]):
        target = tmp_path / f"{len(options)}.db"
        result = run("clip-publish", folder / "photos.db", target, *options)
        assert result.exit_code == 0, result.output
        assert rows(target, "select distinct tower from clip_towers") == [("text",)]
