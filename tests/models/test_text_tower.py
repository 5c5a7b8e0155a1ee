"""Text towers: made, checked and stored."""

import json
import os
import re
from pathlib import Path

import pytest

from support.commands import run
from support.databases import change, rows
from support.paths import DEMO_PICTURES
from support.towers import open_text_tower, text_line, torch_encoder, without_torch

pytest.importorskip("open_clip")

TOP = "select id from clip_search(?, 10)"


def manifest(database):
    return json.loads(rows(database, "select data from clip_towers where part = 0")[0][0])


# Made and stored.


def test_runs_store_a_tower_that_passed(demo_database):
    [[count, largest, parts]] = rows(
        demo_database,
        "select count(*), max(length(data)), max(part) from clip_towers where tower = 'text'",
    )
    facts = manifest(demo_database)
    assert count == parts + 1 > 5
    assert largest <= 262_144
    assert facts["verified"]["texts"] >= 100
    assert facts["verified"]["pictures"] == 160
    assert facts["verified"]["agreement"] >= 0.95
    assert facts["verified"]["cosine"] >= {"8-bit": 0.995}.get(facts["precision"], 0.9999)
    size = "select sum(length(data)) from clip_towers where part > 0"
    assert rows(demo_database, size) == [(sum(facts["sections"].values()),)]


def test_stored_towers_are_left_alone(tiny_database, pictures):
    before = rows(tiny_database, "select rowid, data from clip_towers")
    assert "8-bit text tower" in text_line(run("embed-images", tiny_database, pictures))
    assert rows(tiny_database, "select rowid, data from clip_towers") == before


def test_nothing_to_do_imports_no_torch(tiny_database, pictures):
    code = (
        "import sys; from click.testing import CliRunner; from sqlite_utils.cli import cli\n"
        "result = CliRunner().invoke(cli, ['embed-images', *sys.argv[1:]])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(result.stdout)"
    )
    assert "8-bit text tower" in without_torch(code, tiny_database, pictures).stdout
    # It does not either where it can't make one.
    change(tiny_database, "delete from clip_towers")
    refused = without_torch(code, tiny_database, pictures).stdout
    assert "need torch; no text tower was made, because it needs torch and open_clip" in refused


def test_a_dropped_table_of_towers_comes_back_with_one(tiny_database, pictures, connect):
    """No picture has to be new. Until then, torch answers the searches."""
    change(tiny_database, "drop table clip_towers")
    before = connect(tiny_database).execute(TOP, ["dog"]).fetchall()
    result = run("embed-images", tiny_database, pictures)
    assert re.match(
        r"8-bit text tower, 1\.\d MB, cosine at least 0\.99\d\d  \(made", text_line(result)
    )
    assert re.search("Embedded: +0\n", result.stdout)
    assert len(before) == 6
    assert set(connect(tiny_database).execute(TOP, ["dog"])) == set(before)


def test_precisions_on_demand(tiny_database, pictures, tiny_model, connect):
    exact = torch_encoder(tiny_model).encode_texts(["a dog", "狗 🐶", "x " * 200])
    for precision, least in (("32-bit", 1 - 1e-6), ("16-bit", 0.9999), ("8-bit", 0.995)):
        result = run("embed-images", tiny_database, pictures, "--text-tower", precision)
        assert text_line(result).startswith(f"{precision} text tower")
        assert manifest(tiny_database)["precision"] == precision
        found = open_text_tower(connect(tiny_database)).encode_texts(["a dog", "狗 🐶", "x " * 200])
        assert (found * exact).sum(axis=1).min() >= least
        assert text_line(run("embed-images", tiny_database, pictures)).startswith(precision)
    result = run("embed-images", tiny_database, pictures, "--text-tower", "none")
    assert text_line(result) == "need torch (--text-tower none)"
    assert rows(tiny_database, "select * from clip_towers") == []


def test_new_pictures_come_with_another_precision(pictures, tiny_model, tmp_path):
    """The model embeds in bf16, and its tower is made from float32."""
    database = tmp_path / "photos.db"
    options = ["--pretrained", tiny_model, "--precision", "bf16", "--text-tower", "32-bit"]
    assert "cosine at least 0.9999" in text_line(run("embed-images", database, pictures, *options))


def test_models_that_come_again_get_no_other_tower(tiny_database, pictures, other_model, connect):
    change(tiny_database, "delete from clip_models")
    assert rows(tiny_database, "select count(*) > 5 from clip_towers") == [(1,)]
    run("embed-images", tiny_database, pictures, "--pretrained", other_model)
    found = open_text_tower(connect(tiny_database)).encode_texts(["dog"])
    assert (found @ torch_encoder(other_model).encode_texts(["dog"]).T).item() > 0.995


# Checked.


@pytest.mark.parametrize(
    ("amounts", "refused", "taken"),
    [
        ({8: 1e-3}, [], "8-bit"),
        ({8: 0.3}, ["8-bit"], "16-bit"),
        ({8: 0.3, 16: 0.1}, ["8-bit", "16-bit"], "32-bit"),
    ],
)
def test_spoilt_towers_are_refused(tiny_database, pictures, spoil, amounts, refused, taken):
    spoil(amounts)
    change(tiny_database, "delete from clip_towers")
    text = text_line(run("embed-images", tiny_database, pictures))
    assert text.startswith(f"{taken} text tower")
    assert re.findall(r"not (\d+-bit): ", text) == refused


def test_pictures_found_count(demo, spoil):
    """A tower is refused if it finds other pictures, even with vectors that are nearly the same."""
    spoil({8: 0.02})
    text = text_line(run("embed-images", demo, DEMO_PICTURES, "--text-tower", "8-bit"))
    figures = r".*, [\d.]+% of the ten best pictures are the same"
    assert re.search(rf"up to date\); no 8-bit tower was made: {figures}", text)
    assert manifest(demo)["precision"] != "8-bit"


def test_where_none_passes_queries_go_on_with_torch(
    tiny_database, pictures, monkeypatch, connect, spoil
):
    from datasette_clip_search.models.towers.making import make_text

    monkeypatch.setattr(make_text, "PRECISIONS", ("8-bit", "16-bit"))
    spoil({8: 0.3, 16: 0.1})
    change(tiny_database, "delete from clip_towers")
    text = text_line(run("embed-images", tiny_database, pictures))
    assert text.startswith("need torch; no text tower was made: No precision makes torch's vectors")
    assert len(connect(tiny_database).execute(TOP, ["dog"]).fetchall()) == 6
    # The reason is stored, so that the next run does not try again.
    with monkeypatch.context() as patched:
        patched.setattr(make_text, "make_text_tower", None)
        assert text_line(run("embed-images", tiny_database, pictures)) == text
    monkeypatch.undo()
    wanted = run("embed-images", tiny_database, pictures, "--text-tower", "32-bit")
    assert text_line(wanted).startswith("32-bit text tower")


def test_failures_lose_no_work(pictures, tiny_model, tmp_path, monkeypatch):
    from datasette_clip_search.models.towers.making import make_text

    def fail(*_):
        raise MemoryError("no room for /some/path")

    monkeypatch.setattr(make_text, "encode_in_batches", fail)
    database = tmp_path / "photos.db"
    result = run("embed-images", database, pictures, "--pretrained", tiny_model)
    assert "no text tower was made: MemoryError: no room" in text_line(result)
    assert re.search("Embedded: +6\n", result.stdout)
    assert Path(f"{database}.clip-1.faiss").exists()
    # People who can query the database do not see the exception's text.
    code = (
        "import sqlite3; from datasette_clip_search.sql import add_functions\n"
        "connection = sqlite3.connect(sys.argv[1]); add_functions(connection)\n"
        "try: connection.execute(\"select * from clip_search('dog')\").fetchall()\n"
        "except sqlite3.OperationalError as error: print(error)"
    )
    text = without_torch(code, database).stdout
    assert "No text tower could be made" in text
    assert "/some/path" not in text


def test_interrupts_lose_no_work(pictures, tiny_model, tmp_path, monkeypatch):
    import signal

    from datasette_clip_search.models.towers.making import make_text

    exact = make_text.encode_in_batches

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return exact(*arguments)

    monkeypatch.setattr(make_text, "encode_in_batches", interrupted)
    database = tmp_path / "photos.db"
    result = run("embed-images", database, pictures, "--pretrained", tiny_model)
    assert result.exit_code == 1
    assert "Interrupted. Finished pictures are stored" in result.stderr
    assert re.search("Embedded: +6\n", result.stdout)
    assert rows(database, "select * from clip_towers") == []
    assert Path(f"{database}.clip-1.faiss").exists()
    monkeypatch.undo()
    assert "8-bit text tower" in text_line(run("embed-images", database, pictures))
