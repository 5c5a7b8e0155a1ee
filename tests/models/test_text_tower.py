"""Text towers: made, checked, stored, damaged, and used without torch."""

import json
import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.databases import change, rows
from support.models import TINY_CONFIG
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.towers import torch_encoder, without_torch

pytest.importorskip("open_clip")

FLICKR = Path(os.environ.get("CLIP_SEARCH_TESTDATA", "/nowhere")) / "models" / "flickr-lit"
TOP = "select id from clip_search(?, 10)"


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def manifest(database):
    return json.loads(rows(database, "select data from clip_towers where part = 0")[0][0])


def reported(result):
    """Return the line of a run's output about text queries."""
    assert result.exit_code == 0, result.output
    return re.search("Text queries: (.*)\n", result.stdout)[1]


def open_tower(connection):
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.models.queries.text_encoder import text_encoder_of

    return text_encoder_of(connection, default_model(connection)[1])


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """Let every test load its tower, as a new process would."""
    from datasette_clip_search.common.cache import LRUCache
    from datasette_clip_search.models.queries import text_encoder
    from datasette_clip_search.models.queries.tower_cache import TowerCache
    from datasette_clip_search.search import query

    monkeypatch.setattr(query, "_texts", LRUCache(8))
    towers = TowerCache("text", text_encoder.TextTower)
    monkeypatch.setattr(text_encoder, "_towers", towers)


@pytest.fixture
def demo(demo_database, tmp_path):
    return shutil.copy(demo_database, tmp_path / "demo.db")


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
    assert "8-bit text tower" in reported(run("embed-images", tiny_database, pictures))
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
        r"8-bit text tower, 1\.\d MB, cosine at least 0\.99\d\d  \(made", reported(result)
    )
    assert re.search("Embedded: +0\n", result.stdout)
    assert len(before) == 6
    assert set(connect(tiny_database).execute(TOP, ["dog"])) == set(before)


def test_precisions_on_demand(tiny_database, pictures, tiny_model, connect):
    exact = torch_encoder(tiny_model).encode_texts(["a dog", "狗 🐶", "x " * 200])
    for precision, least in (("32-bit", 1 - 1e-6), ("16-bit", 0.9999), ("8-bit", 0.995)):
        result = run("embed-images", tiny_database, pictures, "--text-tower", precision)
        assert reported(result).startswith(f"{precision} text tower")
        assert manifest(tiny_database)["precision"] == precision
        found = open_tower(connect(tiny_database)).encode_texts(["a dog", "狗 🐶", "x " * 200])
        assert (found * exact).sum(axis=1).min() >= least
        assert reported(run("embed-images", tiny_database, pictures)).startswith(precision)
    result = run("embed-images", tiny_database, pictures, "--text-tower", "none")
    assert reported(result) == "need torch (--text-tower none)"
    assert rows(tiny_database, "select * from clip_towers") == []


def test_new_pictures_come_with_another_precision(pictures, tiny_model, tmp_path):
    """The model embeds in bf16, and its tower is made from float32."""
    database = tmp_path / "photos.db"
    options = ["--pretrained", tiny_model, "--precision", "bf16", "--text-tower", "32-bit"]
    assert "cosine at least 0.9999" in reported(run("embed-images", database, pictures, *options))


def test_models_that_come_again_get_no_other_tower(tiny_database, pictures, other_model, connect):
    change(tiny_database, "delete from clip_models")
    assert rows(tiny_database, "select count(*) > 5 from clip_towers") == [(1,)]
    run("embed-images", tiny_database, pictures, "--pretrained", other_model)
    found = open_tower(connect(tiny_database)).encode_texts(["dog"])
    assert (found @ torch_encoder(other_model).encode_texts(["dog"]).T).item() > 0.995


# Checked.


@pytest.fixture
def spoil(monkeypatch):
    """Add noise to the weights of these bits, as a part of the largest weight."""
    from datasette_clip_search.models.towers.making import graph_builder

    def spoil(amounts):
        integers, halves = graph_builder._integers, graph_builder._halves
        noise = np.random.default_rng(0)

        def spoilt_integers(values):
            made, scales = integers(values)
            error = noise.normal(size=made.shape) * 127 * amounts.get(8, 0)
            return np.clip(made + error, -127, 127).astype(np.int8), scales

        def spoilt_halves(values):
            made = halves(values)
            error = noise.normal(size=made.shape) * np.abs(made).max() * amounts.get(16, 0)
            return (made + error).astype(np.float16)

        monkeypatch.setattr(graph_builder, "_integers", spoilt_integers)
        monkeypatch.setattr(graph_builder, "_halves", spoilt_halves)

    return spoil


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
    text = reported(run("embed-images", tiny_database, pictures))
    assert text.startswith(f"{taken} text tower")
    assert re.findall(r"not (\d+-bit): ", text) == refused


def test_pictures_found_count(demo, spoil):
    """A tower is refused if it finds other pictures, even with vectors that are nearly the same."""
    spoil({8: 0.02})
    text = reported(run("embed-images", demo, DEMO_PICTURES, "--text-tower", "8-bit"))
    assert re.search(r"up to date\); no 8-bit tower was made: .*, finds [\d.]+% of the same", text)
    assert manifest(demo)["precision"] != "8-bit"


def test_where_none_passes_queries_go_on_with_torch(
    tiny_database, pictures, monkeypatch, connect, spoil
):
    from datasette_clip_search.models.towers.making import make_text

    monkeypatch.setattr(make_text, "PRECISIONS", ("8-bit", "16-bit"))
    spoil({8: 0.3, 16: 0.1})
    change(tiny_database, "delete from clip_towers")
    text = reported(run("embed-images", tiny_database, pictures))
    assert text.startswith("need torch; no text tower was made: No precision makes torch's vectors")
    assert len(connect(tiny_database).execute(TOP, ["dog"]).fetchall()) == 6
    # The reason is stored, so that the next run does not try again.
    with monkeypatch.context() as patched:
        patched.setattr(make_text, "make_text_tower", None)
        assert reported(run("embed-images", tiny_database, pictures)) == text
    monkeypatch.undo()
    wanted = run("embed-images", tiny_database, pictures, "--text-tower", "32-bit")
    assert reported(wanted).startswith("32-bit text tower")


def test_failures_lose_no_work(pictures, tiny_model, tmp_path, monkeypatch):
    from datasette_clip_search.models.towers.making import make_text

    def fail(*_):
        raise MemoryError("no room for /some/path")

    monkeypatch.setattr(make_text, "encode_in_batches", fail)
    database = tmp_path / "photos.db"
    result = run("embed-images", database, pictures, "--pretrained", tiny_model)
    assert "no text tower was made: MemoryError: no room" in reported(result)
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
    assert "8-bit text tower" in reported(run("embed-images", database, pictures))


# Every kind of text tower.

TEXT = {"context_length": 24, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 2}
COCA = {"context_length": 24, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 1}


@pytest.mark.parametrize(
    ("text", "others", "cut"),
    [
        ({}, {"quick_gelu": True}, True),
        ({"ls_init_value": 0.1, "act_kwargs": {"approximate": "tanh"}}, {}, True),
        ({"pool_type": "eos", "eos_id": 49407, "proj_bias": True}, {}, True),
        # As in SigLIP, each token sees all others, and padding counts.
        (
            {
                "no_causal_mask": True,
                "pool_type": "last",
                "tokenizer_kwargs": {"clean": "canonicalize"},
            },
            {"custom_text": True},
            False,
        ),
        ({"pool_type": "last"}, {}, False),
        # Blocks of another kind, which torch has to export.
        ({"qk_norm": True}, {}, False),
        (
            {"embed_cls": True, "output_tokens": True},
            {"custom_text": True, "multimodal_cfg": COCA},
            False,
        ),
    ],
    ids=["quick", "tanh", "eos", "siglip", "last", "custom", "coca"],
)
def test_kinds_of_towers(tmp_path, text, others, cut):
    import open_clip
    import torch
    from safetensors.torch import save_file

    from datasette_clip_search.models.towers.making.make_text import make_text_tower
    from datasette_clip_search.models.towers.text import TextTower

    settings = {**TINY_CONFIG, "embed_dim": 32, "text_cfg": {**TEXT, **text}, **others}
    if "multimodal_cfg" in others:
        pooled = {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True}
        settings["vision_cfg"] = {**TINY_CONFIG["vision_cfg"], **pooled}
    config = {"model_cfg": settings, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    with torch.no_grad():
        # Parameters that begin as 0 or 1 could be left out unnoticed.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += torch.randn_like(parameter) / 10
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = torch_encoder(tmp_path)
    made = make_text_tower(encoder, np.empty((0, 32), np.float32), "32-bit")
    assert made.stored.facts["cut"] is cut
    tower = TextTower(made.stored)
    texts = ["a", "no dog! on_the beach", "long " * 50, "&lt;end_of_text&gt; café"]
    expected = encoder.encode_texts(texts)
    assert np.allclose(tower.encode_texts(texts), expected, atol=1e-5)
    singly = np.concatenate([tower.encode_texts([text]) for text in texts])
    assert np.allclose(singly, expected, atol=1e-5)
    assert tower.logit_scale == pytest.approx(encoder.logit_scale)


def test_text_towers_of_hugging_face(tmp_path, pictures, connect):
    """Their tokenizer is stored whole, and padding is told apart from the text."""
    transformers = pytest.importorskip("transformers")
    import open_clip
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    folder, database = tmp_path / "model", tmp_path / "photos.db"
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel()
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=names, initial_alphabet=alphabet)
    inner.train_from_iterator(["a dog on the beach", "two people"], trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", sep_token="</s>",
    ).save_pretrained(folder)  # fmt: skip
    sizes = {"hidden_size": 48, "intermediate_size": 96, "max_position_embeddings": 66}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.RobertaConfig(vocab_size=800, pad_token_id=1, **sizes, **layers)
    config.save_pretrained(folder)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    text = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_pooler_type": "mean_pooler",
        "context_length": 24,
    }
    settings = {**TINY_CONFIG, "custom_text": True, "text_cfg": text}
    whole = {"model_cfg": settings, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    line = reported(run("embed-images", database, pictures, "--pretrained", folder))
    assert "needs the package tokenizers" in line
    texts = ["a dog", "two people on a beach", "long " * 50, "</s> dog"]
    tower = open_tower(connect(database))
    assert tower.key != torch_encoder(folder).key
    cosines = (tower.encode_texts(texts) * torch_encoder(folder).encode_texts(texts)).sum(axis=1)
    assert cosines.min() > 0.995


def test_vectors_do_not_depend_on_others(demo_database, demo, connect):
    """That holds for a text of one token, and for one that is cut off."""
    run("embed-images", demo, DEMO_PICTURES, "--text-tower", "8-bit")
    texts = ["", "a", "a dog on the beach", "dog " * 100]
    for database in (demo_database, demo):
        tower = open_tower(connect(database))
        together = tower.encode_texts(texts)
        singly = np.concatenate([tower.encode_texts([text]) for text in texts])
        assert np.allclose(together, singly, atol=1e-6)


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
        assert "(made in" in reported(run("embed-images", demo, DEMO_PICTURES))
        caplog.clear()
        assert open_tower(connect(demo)).key != torch_encoder(DEMO_MODEL).fingerprint
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


@pytest.mark.skipif(not FLICKR.is_dir(), reason="CLIP_SEARCH_TESTDATA names no folder with models/")
def test_a_model_that_understands_photographs():
    """It has two layers, a narrower perceptron, and 77 tokens."""
    from datasette_clip_search.models.towers.making.make_text import make_text_tower
    from datasette_clip_search.models.towers.text import TextTower

    encoder = torch_encoder(FLICKR)
    made = make_text_tower(encoder, np.empty((0, 256), np.float32))
    assert made.precision == "8-bit"
    assert made.cosine > 0.999
    texts = ["a dog runs through snow", "two men play football", "a"]
    cosines = (TextTower(made.stored).encode_texts(texts) * encoder.encode_texts(texts)).sum(axis=1)
    assert cosines.min() > 0.999
