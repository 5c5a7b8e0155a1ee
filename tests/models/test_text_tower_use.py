"""Text towers in use: without torch, and damaged in every way."""

import json
import logging

import numpy as np
import pytest

from support.commands import run
from support.databases import change
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.towers import open_text_tower, text_line, torch_encoder, without_torch

pytest.importorskip("open_clip")

TOP = "select id from clip_search(?, 10)"


# Without torch.


def test_everything_with_texts_works_without_torch(demo_database, connect):
    """The results are torch's."""
    asked = ["dog on beach", "snow", "a red car", "night", "two people", "🐶"]
    code = (
        "import json, sqlite3; from datasette_clip_search.sql import add_functions\n"
        "connection = sqlite3.connect(sys.argv[1]); add_functions(connection)\n"
        "def ask(sql, *given): return connection.execute(sql, given).fetchall()\n"
        f"found = [[id for (id,) in ask({TOP!r}, text)] for text in {asked!r}]\n"
        "tags = [tag[1] for tag in ask('select * from clip_tags(1, ?)', '[\"dog\", \"car\"]')]\n"
        "mixed = len(ask(\"select * from clip_search(clip_mix('dog', 1, 1, 1), 5)\"))\n"
        "vector = len(ask(\"select clip_vector('dog')\")[0][0])\n"
        "assert not {'torch', 'open_clip'} & set(sys.modules)\n"
        "print(json.dumps([found, sorted(tags), mixed, vector]))"
    )
    found, tags, mixed, length = json.loads(without_torch(code, demo_database).stdout)
    assert (tags, mixed, length) == (["car", "dog"], 5, 4 * 128)
    connection = connect(demo_database)
    for text, ids in zip(asked, torch_encoder(DEMO_MODEL).encode_texts(asked), strict=True):
        expected = [id for (id,) in connection.execute(TOP, [ids.astype("<f4").tobytes()])]
        assert len(set(expected) & set(found[asked.index(text)])) >= 9
    assert found[0][:4] == [id for (id,) in connection.execute(TOP, ["dog on beach"])][:4]


def test_pictures_still_need_torch(demo_database):
    code = (
        "import sqlite3; from datasette_clip_search.sql import add_functions\n"
        "connection = sqlite3.connect(sys.argv[1]); add_functions(connection)\n"
        "data = open(sys.argv[2], 'rb').read()\n"
        "try: connection.execute('select * from clip_search(?)', [data]).fetchall()\n"
        "except sqlite3.OperationalError as error: print(error)"
    )
    picture = next(DEMO_PICTURES.glob("**/*.jpg"))
    text = without_torch(code, demo_database, picture).stdout
    assert "datasette-clip-search[embed]" in text


# Damaged, newer, or from other weights.

CHANGE = "update clip_towers set data = "
DAMAGES = {
    "a part changed": f"{CHANGE} zeroblob(length(data)) where part = 3",
    "a part missing": "delete from clip_towers where part = 2",
    "the last parts missing": "delete from clip_towers where part > 4",
    "a part too many": "insert into clip_towers select 1, 'text', 99, '', x'00'",
    "a part that is text": f"{CHANGE} 'dog' where part = 1",
    "an empty part": f"{CHANGE} x'' where part = 1",
    "no manifest": f"{CHANGE} '' where part = 0",
    "a manifest of nothing": f"{CHANGE} '{{}}' where part = 0",
    "a manifest that is a list": f"{CHANGE} '[]' where part = 0",
    "a manifest that is too deep": (
        f"{CHANGE} replace(hex(zeroblob(50000)), '00', '[') where part = 0"
    ),
    "a size below 0": f"{CHANGE} json_set(data, '$.sections.onnx', -1) where part = 0",
    "a huge size": f"{CHANGE} json_set(data, '$.sections.onnx', 1 << 40) where part = 0",
    "other weights": f"{CHANGE} json_set(data, '$.fingerprint', 'x') where part = 0",
    "another tokenizer": f"{CHANGE} json_set(data, '$.tokenizer.kind', 'x') where part = 0",
    "a newer format": f"{CHANGE} json_set(data, '$.format', 2, '$.needs', '7.0') where part = 0",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_towers(damage, demo, connect, caplog):
    """There is one warning, torch is used, and embedding again repairs the tower."""
    change(demo, DAMAGES[damage])
    with caplog.at_level(logging.WARNING):
        for text in ("dog on beach", "snow"):
            assert len(connect(demo).execute(TOP, [text]).fetchall()) == 10
    [record] = caplog.records
    assert "text tower" in record.getMessage()
    assert str(demo.parent) not in record.getMessage()
    if damage in ("a part changed", "no manifest"):
        assert "(made in" in text_line(run("embed-images", demo, DEMO_PICTURES))
        caplog.clear()
        assert open_text_tower(connect(demo)).key != torch_encoder(DEMO_MODEL).fingerprint
        assert not caplog.records


def test_damaged_towers_without_torch(demo):
    code = (
        "import sqlite3; from datasette_clip_search.sql import add_functions\n"
        "for damage in sys.argv[2:]:\n"
        "    connection = sqlite3.connect(sys.argv[1]); add_functions(connection)\n"
        "    connection.execute(damage)\n"
        "    try: connection.execute(\"select * from clip_search('dog')\").fetchall()\n"
        "    except sqlite3.OperationalError as error: print(error)\n"
        "    connection.close()"
    )
    damages = [DAMAGES["a part changed"], DAMAGES["a newer format"]]
    damaged, newer = without_torch(code, demo, *damages).stdout.splitlines()
    assert "Its text tower is damaged. To make it again, run: sqlite-utils embed-images" in damaged
    assert "pip install --upgrade 'datasette-clip-search>=7.0'" in newer


def test_towers_that_multiply_wrongly_are_not_used(demo, connect, caplog):
    """Faulty instructions of a processor would do that. Here the weights' scales are changed."""
    import onnx

    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.models.towers.stored import (
        pack_tower,
        read_manifest,
        read_tower,
        write_tower,
    )

    connection = connect(demo, isolation_level=None)
    model = default_model(connection)[1]
    kept = read_tower(connection, model, read_manifest(connection, model))
    graph = onnx.load_from_string(kept.sections["onnx"])
    for constant in graph.graph.initializer:
        if len(constant.dims) == 2:
            values = onnx.numpy_helper.to_array(constant)
            if values.dtype in (np.float16, np.float32):
                new = onnx.numpy_helper.from_array(np.roll(values, 1, axis=0), constant.name)
                constant.CopyFrom(new)
    sections = {**kept.sections, "onnx": graph.SerializeToString()}
    facts = {name: kept.facts[name] for name in kept.facts.keys() - {"sha256", "sections", "made"}}
    manifest, _ = pack_tower(facts, sections)
    write_tower(connection, model, manifest, sections)
    assert len(connection.execute(TOP, ["dog"]).fetchall()) == 10
    assert "fails its self-test on this processor" in caplog.text


def test_memory_stays_bounded_while_reading(demo, connect):
    """A manifest that claims a huge size does not make the reader take that much memory."""
    import tracemalloc

    change(demo, f"{CHANGE} json_set(data, '$.sections.onnx', 1900000000) where part = 0")
    tracemalloc.start()
    try:
        connect(demo).execute(TOP, ["dog"]).fetchall()
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
