"""Errors and reports of embed-images."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import run
from support.databases import rows
from support.pictures import make_picture

pytest.importorskip("open_clip")


def error(*arguments: object) -> str:
    """Run embed-images, which must fail, and return its error message."""
    result = run("embed-images", *map(str, arguments))
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.output
    return result.stderr.split("Error: ", 1)[1].strip()


def test_missing_path(tmp_path, tiny_model):
    said = error(tmp_path / "p.db", tmp_path / "nowhere", "--pretrained", tiny_model)
    assert said == f"There is no file or folder {tmp_path / 'nowhere'}"
    assert not (tmp_path / "p.db").exists()


def test_empty_folder(tmp_path, tiny_model):
    folder = tmp_path / "empty"
    folder.mkdir()
    said = error(tmp_path / "p.db", folder, "--pretrained", tiny_model)
    assert said == f"There are no pictures in {folder}"
    (folder / "notes.txt").touch()
    said = error(tmp_path / "p.db", folder, "--pretrained", tiny_model)
    assert said == f"There are no pictures in {folder} (1 other files: 1 .txt)"
    make_picture(folder / "a.png")
    said = error(tmp_path / "p.db", folder, "--pretrained", tiny_model, "--exclude", "*.png")
    assert said == f"There are no pictures in {folder} (1 other files: 1 .txt; 1 excluded)"
    assert not (tmp_path / "p.db").exists()


def test_a_single_file_that_is_not_a_picture(tmp_path, tiny_model):
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    result = run("embed-images", tmp_path / "p.db", notes, "--pretrained", tiny_model)
    assert "Loading" not in result.stderr
    said = error(tmp_path / "p.db", notes, "--pretrained", tiny_model)
    assert said.splitlines() == [
        "The file could not be embedded:",
        "  notes.txt: It is not a picture in a format that can be read",
    ]
    assert not (tmp_path / "p.db").exists()


def test_database_that_is_not_sqlite(tmp_path, pictures, tiny_model):
    database = tmp_path / "p.db"
    database.write_text("This is not a database, but it is long enough to look like one" * 20)
    before = database.read_bytes()
    said = error(database, pictures, "--pretrained", tiny_model)
    assert said == f"{database} is not a SQLite database: file is not a database"
    assert database.read_bytes() == before


def test_database_that_is_a_folder(tmp_path, pictures, tiny_model):
    said = error(tmp_path, pictures, "--pretrained", tiny_model)
    assert said == f"{tmp_path} is a folder. Expected a SQLite database file"


def test_sqlite_that_is_too_old(tmp_path, pictures, tiny_model, configured):
    configured(sqlite_at_least=(99, 1, 0))
    said = error(tmp_path / "p.db", pictures, "--pretrained", tiny_model)
    assert said == (
        f"Writing takes SQLite 99.1.0 or newer, and this Python has {sqlite3.sqlite_version}. Use "
        "another Python, such as one from python.org; searching works with this one"
    )
    assert not (tmp_path / "p.db").exists()


def test_database_in_a_folder_that_is_missing(tmp_path, pictures, tiny_model):
    said = error(tmp_path / "no" / "p.db", pictures, "--pretrained", tiny_model)
    assert said == f"There is no folder {tmp_path / 'no'} to make p.db in"


def test_read_only_database(tiny_database, pictures, tiny_model):
    """If the tests run as root, who can write everything, the command runs as another user."""
    make_picture(pictures / "new.jpg", 9)
    tiny_database.chmod(0o444)
    before = tiny_database.read_bytes()
    for path in {*tiny_database.parents, tiny_model, *tiny_model.parents, *tiny_model.iterdir()}:
        if os.getuid() == 0:
            path.chmod(path.stat().st_mode | 0o055)
    code = (
        "import os, sys\n"
        "from sqlite_utils.cli import cli\n"
        "import datasette_clip_search.embedding, datasette_clip_search.cli.embed_output\n"
        "os.getuid() or os.setuid(65534)\n"
        f"cli(['embed-images', {str(tiny_database)!r}, {str(pictures)!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    told = "attempt to write a readonly database"
    assert result.stderr.strip() == f"Error: {tiny_database} can't be written: {told}"
    assert tiny_database.read_bytes() == before


def test_locked_database(tiny_database, pictures, configured):
    configured(first_write_wait_seconds=0.05)
    make_picture(pictures / "new.jpg", 9)
    other = sqlite3.connect(tiny_database, isolation_level=None)
    other.execute("begin immediate")
    said = error(tiny_database, pictures)
    other.close()
    assert said.startswith(f"{tiny_database} is in use by another program: database is locked")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "ViT-B-33", "--pretrained", "openai"], "OpenCLIP has no model ViT-B-33. Did"),
        (["--model", "ViT-B-32", "--pretrained", "best"], "no weights tagged best for ViT-B-32"),
        (["--model", "ViT-L-14"], "use: --model ViT-L-14 --pretrained TAG. Its tags: openai, "),
        (["--model", "ViT-L-41"], "OpenCLIP has no model ViT-L-41. Did you mean"),
        (["--pretrained", "openai"], "Say which model the weights openai belong to: --model NAME"),
        (["--pretrained", "./nowhere"], "There is no checkpoint file or folder ./nowhere"),
        (["--pretrained", "EMPTY"], "holds no open_clip_config.json"),
        (
            ["--pretrained", "WEIGHTS"],
            "architecture the weights weights.safetensors belong to",
        ),
        (["--pretrained", "NONSENSE"], "is not an OpenCLIP model configuration"),
        (["--pretrained", "NO_WEIGHTS"], "should hold one file of weights"),
        (["--model", "ViT-B-32", "--pretrained", "WEIGHTS"], "The weights of ViT-B-32 do not load"),
        (["--pretrained", "TINY", "--device", "tpu9"], "The device tpu9 can't be used here"),
        (["--pretrained", "TINY", "--device", "cuda:77"], "The device cuda:77 can't be used here"),
    ],
)
def test_missing_models(tmp_path, pictures, tiny_model, options, message):
    places = {"EMPTY": tmp_path / "empty", "TINY": tiny_model, "WEIGHTS": tmp_path / "w/w"}
    places["EMPTY"].mkdir()
    places["WEIGHTS"] = tmp_path / "w" / "weights.safetensors"
    places["WEIGHTS"].parent.mkdir()
    places["WEIGHTS"].write_bytes(b"12345678")
    for name, config in {"NONSENSE": "[]", "NO_WEIGHTS": '{"model_cfg": {}}'}.items():
        places[name] = tmp_path / name
        places[name].mkdir()
        (places[name] / "open_clip_config.json").write_text(config)
    options = [places.get(option, option) for option in options]
    assert message in error(tmp_path / "p.db", pictures, *options)
    assert not (tmp_path / "p.db").exists()


def test_weights_that_cannot_be_fetched(tmp_path, pictures, monkeypatch):
    """The download is attempted for real, from a host that does not exist."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://nowhere.invalid")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    said = error(tmp_path / "p.db", pictures)
    reason, advice = said.splitlines()
    # The message differs if the resolver itself can't be reached.
    assert re.fullmatch(
        r"Can't fetch the weights of ViT-B-32 \(datacomp_xl_s13b_b90k\): the host nowhere\.invalid "
        r"can't be reached \((Name or service not known|Temporary failure in name resolution)\)",
        reason,
    )
    assert advice == (
        "Without a network, give a local checkpoint: --pretrained FOLDER (with "
        "open_clip_config.json and open_clip_model.safetensors), or --model NAME --pretrained "
        "WEIGHTS_FILE"
    )
    assert not (tmp_path / "p.db").exists()


def test_tables_of_the_same_names(tmp_path, pictures, tiny_model):
    database = tmp_path / "p.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table clip_models (mine)")
    connection.close()
    said = error(database, pictures, "--pretrained", tiny_model)
    assert said == (
        "The database has tables of its own named clip_models, which embed-images did not make"
    )


@pytest.mark.parametrize("table", ["clip_models", "CLIP_thumbnails", "sqlite_x", "", " "])
def test_tables_that_pictures_cannot_have(tmp_path, pictures, tiny_model, table):
    said = error(tmp_path / "p.db", pictures, "--pretrained", tiny_model, "--table", table)
    assert f"The pictures' table can't be named {table!r}" in said
    assert not (tmp_path / "p.db").exists()


def test_suggested_commands_can_be_pasted(tmp_path, pictures, tiny_model):
    (pictures / "broken.jpg").write_bytes(b"nonsense")
    database = tmp_path / "my own.db"
    said = run("embed-images", database, pictures, "--pretrained", tiny_model).stdout
    command = said.split("(see: ")[1].split(")")[0]
    shell = ["sh", "-c", f"PATH={Path(sys.executable).parent}:$PATH {command}"]
    result = subprocess.run(shell, capture_output=True, text=True)
    assert "broken.jpg" in result.stdout, result.stderr


def test_seconds_and_rate(tmp_path, pictures, tiny_model):
    """The rate counts only embedding, without loading the model."""
    said = run("embed-images", tmp_path / "p.db", pictures, "--pretrained", tiny_model).stdout
    pattern = r"Seconds: +([\d.]+)  \(([\d.]+) for embedding, ([\d.]+) pictures/s\)\n"
    seconds, embedding, rate = map(float, re.search(pattern, said).groups())
    assert embedding <= seconds
    # Both are rounded to one decimal.
    assert 6 / (embedding + 0.051) - 0.051 <= rate
    assert embedding < 0.06 or rate <= 6 / (embedding - 0.051) + 0.051
    again = run("embed-images", tmp_path / "p.db", pictures).stdout
    assert re.search(r"Seconds: +[\d.]+\n", again)


def test_write_ahead_log_is_emptied(tmp_path, pictures, tiny_model):
    database = tmp_path / "p.db"
    with sqlite3.connect(database) as connection:
        connection.execute("pragma journal_mode = wal")
    connection.close()
    reader = sqlite3.connect(database)
    reader.execute("select * from sqlite_master").fetchall()
    run("embed-images", database, pictures, "--pretrained", tiny_model)
    copied = tmp_path / "copied.db"
    copied.write_bytes(database.read_bytes())
    reader.close()
    assert rows(copied, "select count(*) from clip_embeddings") == [(6,)]


def test_light_imports():
    """sqlite-utils imports the commands for each of its commands, and Datasette the plugin."""
    code = (
        "import sys, sqlite_utils, datasette.app\n"
        "before = set(sys.modules)\n"
        "import sqlite_utils.cli, datasette_clip_search.web\n"
        "from sqlite_utils import Database; Database(memory=True)\n"
        "heavy = {'torch', 'open_clip', 'faiss', 'onnxruntime', 'PIL', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
