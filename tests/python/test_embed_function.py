"""embed(): the run of embed-images, for programs and notebooks."""

import inspect
from pathlib import Path

import click
import pytest
from sqlite_utils.cli import cli as sqlite_utils

from datasette_clip_search import ClipSearchError, embed
from support.commands import run
from support.databases import rows
from support.embedding import vectors

pytest.importorskip("open_clip")

# What only a command does, and what Python spells in another way.
OF_THE_COMMAND = {"path", "watch", "poll", "strict", "silent", "no_thumbnails", "help"}


@pytest.fixture
def quick(tiny_model):
    """Arguments of a run that takes a moment."""
    return {"pretrained": tiny_model, "text_tower": "none"}


def test_does_what_the_command_does(tmp_path, pictures, tiny_model, quick):
    options = ["--pretrained", tiny_model, "--text-tower", "none", "--exclude", "c.webp"]
    assert run("embed-images", tmp_path / "command.db", pictures, *options).exit_code == 0
    report = embed(tmp_path / "python.db", [pictures], exclude="c.webp", **quick)
    made = vectors(tmp_path / "python.db")
    for path, vector in vectors(tmp_path / "command.db").items():
        assert (made.pop(path) == vector).all()
    assert not made
    assert (report.embedded, report.failed, report.excluded) == (5, [], 1)
    assert report.table == "images"
    assert report.index == tmp_path / "python.db.clip-1.faiss"


def test_takes_the_options_of_the_command():
    parameters = dict(inspect.signature(embed).parameters)
    command = sqlite_utils.commands["embed-images"]
    options = command.make_context("embed-images", ["photos.db", "folder"]).params
    own = {"database", "thumbnails", "progress"}
    assert {*options} - OF_THE_COMMAND == {*parameters} - own
    for name in {*parameters} - own - {"pictures"}:
        assert parameters[name].default == options[name]


def test_choices_are_those_of_the_command():
    from datasette_clip_search.embedding import api

    types = {
        "precision": api.Precision,
        "text_tower": api.TowerPrecision,
        "image_tower": api.TowerPrecision,
        "index": api.IndexKind,
    }
    for option in sqlite_utils.commands["embed-images"].params:
        if isinstance(option.type, click.Choice):
            assert tuple(option.type.choices) == types.pop(option.name).__args__
    assert not types


def test_prints_nothing(tmp_path, pictures, quick, capfd):
    embed(tmp_path / "photos.db", pictures, **quick)
    assert capfd.readouterr() == ("", "")


def test_reports_its_progress(tmp_path, pictures, quick):
    calls = []
    embed(tmp_path / "photos.db", pictures, progress=lambda *call: calls.append(call), **quick)
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages[0] == "Looking for pictures"
    assert stages[1].startswith("Loading ")
    embedding = [(done, of) for stage, done, of in calls if stage == "Embedding"]
    assert embedding[0] == (0, 6)
    assert embedding[-1] == (6, 6)
    assert embedding == sorted(embedding)


def test_pictures_are_one_path_or_many_and_from_home(tmp_path, pictures, quick, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert embed("~/photos.db", "~/pictures/a.jpg", **quick).embedded == 1
    more = (path for path in [pictures / "a.jpg", "~/pictures/*.png"])
    report = embed(tmp_path / "photos.db", more)
    assert (report.embedded, report.unchanged) == (1, 1)
    assert rows(tmp_path / "photos.db", "select path from images order by path") == [
        ("pictures/a.jpg",),
        ("pictures/b.png",),
    ]


def test_says_what_failed_and_why(tmp_path, pictures, quick):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    report = embed(tmp_path / "photos.db", pictures, **quick)
    [(path, reason)] = report.failed
    assert (report.embedded, path) == (6, "pictures/broken.jpg")
    assert reason
    assert embed(tmp_path / "photos.db", pictures).failed_before == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pictures": []}, "There are no pictures to embed. Give folders, files, archives, or sql"),
        ({"pictures": ["-"]}, "reads no list from standard input"),
        ({"pictures": "nowhere"}, "nowhere"),
        ({"precision": "fp8"}, "precision is 'fp8'. Expected one of auto, fp32, bf16, fp16, int8"),
        ({"text_tower": "4-bit"}, "text_tower is '4-bit'. Expected one of auto, 8-bit, 16-bit"),
        ({"image_tower": "4-bit"}, "image_tower is '4-bit'. Expected one of auto, 8-bit, 16-bit"),
        ({"index": "tree"}, "index is 'tree'. Expected one of auto, flat, ivf-sq8"),
        ({"batch_size": 0}, "batch_size is 0. Expected a number above 0"),
        ({"max_megapixels": -1}, "max_megapixels is -1. Expected a number above 0"),
        ({"max_megapixels": float("nan")}, "max_megapixels is nan. Expected a number above 0"),
        ({"memory": 0}, "memory is 0. Expected a number above 0"),
        ({"memory": "4GB"}, "memory is '4GB'. Expected a number above 0"),
        ({"memory": float("inf")}, "memory is inf. Expected a whole number"),
        ({"batch_size": "8"}, "batch_size is '8'. Expected a number above 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5. Expected a whole number"),
        ({"batch_size": True}, "batch_size is True. Expected a number above 0"),
        ({"max_megapixels": "x"}, "max_megapixels is 'x'. Expected a number above 0"),
        ({"max_megapixels": None}, "max_megapixels is None. Expected a number above 0"),
        ({"pictures": None}, "pictures is None. Expected paths"),
        ({"pictures": b"folder"}, "pictures is b'folder'. Expected paths"),
        ({"pictures": [5]}, "pictures is 5. Expected a path"),
        ({"pictures": [b"folder"]}, "pictures is b'folder'. Expected a path"),
        ({"pictures": "\ud800"}, "Expected a text without NUL characters and halves"),
        ({"exclude": 5}, "exclude is 5. Expected a glob, or a list of globs"),
        ({"exclude": None}, "exclude is None. Expected a glob, or a list of globs"),
        ({"exclude": ["*.gif", None]}, "exclude is None. Expected a glob, or a list of globs"),
        ({"pretrained": 5}, "pretrained is 5. Expected a path"),
        ({"pretrained": b"model"}, "pretrained is b'model'. Expected a path"),
        ({"device": None}, "device is None. Expected a text"),
        ({"model": 5}, "model is 5. Expected a text"),
        ({"sql": 5}, "sql is 5. Expected a text"),
        ({"table": 5}, "table is 5. Expected a text"),
        ({"table": "a\0b"}, "Expected a text without NUL characters and halves"),
        ({"progress": 5}, "progress is 5. Expected a function, such as print"),
        ({"with_image_search": True, "image_tower": "none"}, "image_tower='none' deletes"),
        ({"table": "clip_models"}, "The pictures' table can't be named 'clip_models'"),
        ({"model": "no-such-model"}, "no-such-model"),
    ],
)
def test_refuses_and_writes_nothing(tmp_path: Path, pictures, arguments, message):
    with pytest.raises(ClipSearchError) as caught:
        embed(tmp_path / "photos.db", **{"pictures": pictures, **arguments})
    assert message in str(caught.value)
    assert not (tmp_path / "photos.db").exists()


@pytest.mark.parametrize(
    ("database", "message"),
    [
        (None, "database is None. Expected a path"),
        (b"photos.db", "database is b'photos.db'. Expected a path"),
        ("", ". is a folder. Expected a SQLite database file"),
        ("a\0b", "Expected a text without NUL characters"),
        ("x" * 300, "can't be used: File name too long"),
        (":memory:", ":memory: is no file. Expected the path of a database file"),
    ],
)
def test_refuses_what_can_be_no_database(tmp_path, pictures, monkeypatch, database, message):
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    with pytest.raises(ClipSearchError) as caught:
        embed(database, pictures)
    assert message in str(caught.value)
    assert {*tmp_path.iterdir()} == before
