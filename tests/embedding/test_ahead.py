"""Decoding begins before the model is loaded, with the preprocessing expected of it."""

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from support.commands import run
from support.databases import rows
from support.paths import DEMO_MODEL
from support.pictures import make_picture

pytest.importorskip("open_clip")

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.embedding import model_loading as loading
from datasette_clip_search.embedding.decode_ahead import Ahead
from datasette_clip_search.embedding.model_loading import Loader
from datasette_clip_search.embedding.plan import Contents
from datasette_clip_search.models.checkpoint import CONFIG_FILE, Checkpoint, resolve
from datasette_clip_search.models.expected_preprocess import expected_preprocess
from datasette_clip_search.models.torch_model import TorchModel
from datasette_clip_search.pictures.preprocess import Preprocess
from datasette_clip_search.pictures.processes.pool import DecoderPool, Settings
from datasette_clip_search.pictures.sources import find_pictures

VECTORS = "select path, embedding from images join clip_embeddings on image_id = id order by path"
WRONG = Preprocess(48, 40, (0.0,) * 3, (1.0,) * 3, resize_mode="squash")


@pytest.mark.parametrize("changes", [{}, {"resize_mode": "squash"}, {"size": 50, "mean": [0] * 3}])
def test_preprocessing_is_read_from_a_folder(tmp_path, changes):
    folder = tmp_path / "model"
    shutil.copytree(DEMO_MODEL, folder)
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["preprocess_cfg"] |= changes
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    checkpoint = resolve("demo", str(folder))
    assert expected_preprocess(checkpoint).shows_the_same(TorchModel(checkpoint).preprocess)


@pytest.mark.parametrize(
    ("name", "size"), [("ViT-B-32", 224), ("ViT-L-14-336", 336), ("hf-hub:some/model", 224)]
)
def test_preprocessing_is_known_by_model_name(name, size):
    preprocess = expected_preprocess(Checkpoint(name, "tag"))
    assert (preprocess.height, preprocess.width, preprocess.resize_mode) == (size, size, "shortest")


@pytest.mark.parametrize("broken", ["", "[]", '{"model_cfg": 3}', '{"model_cfg": {}}'])
def test_a_folder_without_a_configuration(tmp_path, broken):
    (tmp_path / CONFIG_FILE).write_text(broken)
    checkpoint = Checkpoint("broken", str(tmp_path), folder=tmp_path)
    assert expected_preprocess(checkpoint).height == 224


@pytest.fixture
def archive(tmp_path, pictures) -> Path:
    """Pictures that can be read only once and in order, and one that can't be read."""
    (pictures / "broken.jpg").write_bytes(b"nonsense")
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as tar:
        tar.add(pictures, "in")
    return tmp_path / "archive.tar.gz"


def test_wrongly_expected_preprocessing_changes_nothing(
    tmp_path, pictures, archive, tiny_model, monkeypatch
):
    what = [pictures, archive, "--pretrained", tiny_model]
    assert run("embed-images", tmp_path / "right.db", *what).exit_code == 0
    seen = []
    monkeypatch.setattr(loading, "expected_preprocess", lambda _: seen.append(1) or WRONG)
    result = run("embed-images", tmp_path / "wrong.db", *what)
    assert result.exit_code == 0, result.output
    assert seen
    expected = rows(tmp_path / "right.db", VECTORS)
    assert len(expected) == 12
    assert rows(tmp_path / "wrong.db", VECTORS) == expected
    assert rows(tmp_path / "wrong.db", "select count(*) from clip_failures") == [(2,)]


def test_stored_model_whose_preprocessing_changed(tmp_path, tiny_database, pictures, tiny_model):
    """A few new pictures are decoded before the model is loaded."""
    make_picture(pictures / "new.jpg", 99)
    run("embed-images", tmp_path / "right.db", pictures, "--pretrained", tiny_model)
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        sql = "update clip_models set preprocess = ?"
        connection.execute(sql, [json.dumps(WRONG.identity)])
    result = run("embed-images", tiny_database, pictures)
    assert "Embedded:     1\n" in result.stdout, result.output
    assert rows(tiny_database, VECTORS) == rows(tmp_path / "right.db", VECTORS)


@pytest.mark.parametrize("is_new", [True, False])
def test_decoding_begins_before_the_model_is_loaded(
    tmp_path, pictures, tiny_model, is_new, monkeypatch
):
    database = tmp_path / "p.db"
    if not is_new:
        run("embed-images", database, pictures / "deep", "--pretrained", tiny_model)
    decoded = []
    load = Loader.load

    def spy(self, *arguments):
        # This waits for pictures, before there is a model.
        assert self._loaded is None
        decoded.append(arguments[-1].sample(2))
        return load(self, *arguments)

    monkeypatch.setattr(Loader, "load", spy)
    result = run("embed-images", database, pictures, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    assert [sample.shape for sample in decoded] == [(2, 32, 32, 3)]


@pytest.fixture
def ahead(pictures, archive):
    def make(*where: Path, is_stopped=lambda: False) -> Ahead:
        found = find_pictures([str(place) for place in where], pictures.parent, (), None)
        work = [(source, None) for source in found.sources]
        contents = Contents(pictures.parent, [])
        settings = Settings(replace(WRONG, height=100, width=100), 150, thumbnails=False)
        return Ahead(decoders, settings, contents, work, is_stopped)

    with DecoderPool(2) as decoders:
        yield make


def test_waiting_pictures_are_limited_by_memory(ahead, pictures, configured):
    configured(waiting_bytes=3 * (30_000 + CONFIG.thumbnail_bytes))
    some = ahead(pictures)
    some.fill()
    some.fill()
    assert len(some._waiting) == 3
    some.least = 5
    some.fill()
    assert len(some._waiting) == 5
    assert len(list(some)) == 7


def test_contents_already_read_count_as_memory(ahead, archive, configured):
    # Only contents count.
    configured(waiting_bytes=100, thumbnail_bytes=-30_000)
    some = ahead(archive)
    some.fill()
    assert len(some._waiting) == 1
    assert len(list(some)) == 7
    assert some._held_bytes == 0


def test_nothing_is_yielded_after_a_stop(ahead, pictures):
    stopped = []
    some = ahead(pictures, is_stopped=lambda: bool(stopped))
    for number, _ in enumerate(some):
        if number == 2:
            stopped.append(True)
    assert number == 2
