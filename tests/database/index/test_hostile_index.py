"""Index files with a valid checksum, made to harm: none is used, and none ends the process."""

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing

import faiss
import numpy as np
import pytest

from datasette_clip_search.database.index import IndexChoice, IndexUnusable, index_path, open_index
from datasette_clip_search.database.index import faiss_layout as layout
from datasette_clip_search.database.index.file import MAGIC
from datasette_clip_search.database.index.header import parsed
from datasette_clip_search.database.index.kinds import KINDS
from datasette_clip_search.database.index.maintenance import keep_index
from datasette_clip_search.database.model import default_model
from support.commands import run
from support.indexes import padded, put_together
from support.paths import PROGRAMS
from support.vector_database import clustered, make

COUNT, D = 1000, 8
METRIC = faiss.METRIC_INNER_PRODUCT


def build(path, kind):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _, model = default_model(connection)
        keep_index(connection, path, model, IndexChoice(kind))
    return index_path(path, 1)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    vectors = clustered(COUNT, D)
    vectors[10:20] = vectors[10]
    return make(tmp_path_factory.mktemp("hostile") / "p.db", vectors)


@pytest.fixture(scope="module")
def indexes(database, tmp_path_factory):
    """The parts of a good index file of each kind: FAISS's bytes, the ids, and the header."""
    parts = {}
    for kind in KINDS:
        copy = tmp_path_factory.mktemp(kind) / "p.db"
        shutil.copy(database, copy)
        parts[kind] = taken_apart(build(copy, kind).read_bytes())
    return parts


def taken_apart(whole):
    tail = len(whole) - 32 - 8 - len(MAGIC)
    length = int.from_bytes(whole[tail + 32 : tail + 40], "little")
    facts = json.loads(whole[tail - length : tail])
    ids = np.frombuffer(whole[tail - length - 8 * COUNT : tail - length], "<i8")
    return whole[: tail - length - 8 * COUNT], ids, facts


def fields_of(monkeypatch, body, facts, tmp_path):
    """Return name, offset and length of every field that is checked."""
    fields, take = [], layout._Walk.take

    def noted(walk, what, size):
        fields.append((what, walk._at, size))
        return take(walk, what, size)

    monkeypatch.setattr(layout._Walk, "take", noted)
    file = tmp_path / "good.faiss"
    file.write_bytes(put_together(body, np.arange(1, COUNT + 1), facts))
    assert open_index(file, "f", D)
    monkeypatch.undo()
    return fields


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_as_we_write_it(indexes, kind, tmp_path, monkeypatch):
    """Every byte outside the vectors, changed in several ways."""
    body, _, facts = indexes[kind]
    fields = fields_of(monkeypatch, body, facts, tmp_path)
    assert sum(size for _, _, size in fields) > len(body) - 8
    said = parsed(facts)

    def is_refused(mutant):
        with pytest.raises(IndexUnusable, match="did not write it"):
            layout.check_layout(np.frombuffer(bytes(mutant), np.uint8), said)

    for what, start, size in fields:
        floats = what in ("vectors", "centres", "training") and size > 8
        if not size or what == "codes":
            continue
        whole = body[start : start + size]
        if floats:
            for bad in (np.nan, np.inf, -np.inf, 3e38):
                changed = np.frombuffer(whole, "<f4").copy()
                changed[-1] = bad
                is_refused(body[:start] + changed.tobytes() + body[start + size :])
            continue
        for place in {*range(start, start + min(size, 24)), start + size - 1}:
            for flip in (0x01, 0x80):
                mutant = bytearray(body)
                mutant[place] ^= flip
                is_refused(mutant)
        for byte in (b"\0", b"\xff", b"\x7f"):
            if (mutant := body[:start] + byte * size + body[start + size :]) != body:
                is_refused(mutant)
    is_refused(body + bytes(8))
    is_refused(body[:-1] + b"\1" if not body[-1] else body + b"\1" + bytes(7))
    is_refused(body[:-8])


FACTS = {
    "dimension": [D + 1, 0, -1, 2**40, 2.0, "8", None, True],
    "count": [COUNT + 1, COUNT - 1, 0, -1, 2**40, float(COUNT), "x", None],
    "moment": [[0, "x"], [2**70, 0], [1.5, 0], [0], None, [True, 0]],
    "kind": ["none", "", None, 7, ["flat"]],
    "effort": [
        {"lists": 0, "depth": 2},
        {"lists": 1e300, "depth": 2},
        {"lists": 10**9, "depth": 2},
        {"lists": 1, "depth": 10**9},
        {"lists": 1, "depth": -2},
        {"lists": "1", "depth": 2},
        {},
        {"lists": 1, "depth": 2, "more": 1},
        None,
    ],
    "recall": [2, -1, "1", float("nan"), float("inf"), [], True],
    "choice": [
        {"kind": "x"},
        {"kind": "flat", "memory": -1},
        {"memory": "1"},
        None,
        [],
    ],
    "metric": ["l2", None, 0],
    "format": [0, 2, None, "1"],
    "fingerprint": ["g", None, 5],
    "unheard of": [1],
}


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_is_as_we_write_it(indexes, name, tmp_path):
    body, ids, facts = indexes["ivf-sq8"]
    file = tmp_path / "hostile.faiss"
    for value in FACTS[name]:
        if name == "effort" and isinstance(value, dict) and not value:
            continue
        file.write_bytes(put_together(body, ids, {**facts, name: value}))
        with pytest.raises(IndexUnusable):
            open_index(file, "f", D)
    file.write_bytes(put_together(body, ids, {key: facts[key] for key in facts if key != name}))
    if name in ("fingerprint", "dimension", "count", "moment", "kind"):
        with pytest.raises(IndexUnusable):
            open_index(file, "f", D)


@pytest.mark.parametrize(
    "text", [b"[" * 5000, b"[]", b"null", b"1" * 9000, b"\xff\xfe", b"{}", b" " * 20_000, b""]
)
def test_invalid_headers(indexes, text, tmp_path):
    body, ids, _ = indexes["flat"]
    file = tmp_path / "hostile.faiss"
    file.write_bytes(put_together(body, ids, text))
    with pytest.raises(IndexUnusable):
        open_index(file, "f", D)


@pytest.mark.parametrize("change", ["equal", "falling", "last"])
def test_ids_of_pictures_ascend(indexes, change, tmp_path):
    body, ids, facts = indexes["ivf-sq8"]
    ids = ids.copy()
    if change == "equal":
        ids[5] = ids[4]
    elif change == "falling":
        ids = ids[::-1]
    else:
        ids[-1] = -(2**63)
    file = tmp_path / "hostile.faiss"
    file.write_bytes(put_together(body, ids, facts))
    with pytest.raises(IndexUnusable, match="ids of pictures"):
        open_index(file, "f", D)


def others(vectors):
    """Indexes that FAISS reads, with as many vectors as ours, but not of our kinds."""
    wild = np.arange(COUNT, dtype=np.int64) + (1 << 40)
    base = faiss.IndexIDMap(faiss.IndexFlatIP(D))
    base.add_with_ids(vectors, wild)
    exact = faiss.IndexFlatIP(D)
    exact.add(vectors)
    yield "wild ids below", "flat", faiss.IndexRefine(base, exact), base
    few = faiss.IndexFlatIP(D)
    few.add(vectors[:1])
    below = faiss.IndexFlatIP(D)
    below.add(vectors[:1])
    short = faiss.IndexRefine(below, few)
    below.add(vectors[1:])
    short.ntotal = COUNT
    yield "too few exact vectors", "flat", short, (below, few)
    graph = faiss.IndexHNSWFlat(D, 8, METRIC)
    graph.add(vectors)
    yield "a graph", "flat", graph, None
    hashed = faiss.IndexLSH(D, 16)
    hashed.add(vectors)
    yield "hashes", "flat", hashed, None
    far = faiss.IndexFlatL2(D)
    far.add(vectors)
    yield "another metric", "flat", far, None
    for kind in ("ivf-sq8", "ivf-rabitq"):
        filled = faiss.index_factory(D, KINDS[kind].described(COUNT), METRIC)
        filled.train(vectors)
        filled.add_with_ids(vectors, wild)
        yield f"wild ids of {kind}", kind, filled, None
        twice = faiss.index_factory(D, KINDS[kind].described(COUNT), METRIC)
        twice.train(vectors)
        twice.add_with_ids(vectors, np.zeros(COUNT, np.int64))
        yield f"one id of {kind}", kind, twice, None
    flat = faiss.index_factory(D, f"IVF{32},Flat", METRIC)
    flat.train(vectors)
    flat.add(vectors)
    yield "other codes", "ivf-sq8", flat, None


def test_a_search_survives_them(indexes, database, tmp_path):
    """In a separate process, every answer is that of a database without an index."""
    vectors = clustered(COUNT, D)
    hostile = {
        name: put_together(padded(index), indexes[kind][1], {**indexes[kind][2], "kind": kind})
        for name, kind, index, _ in others(vectors)
    }
    # FAISS's reader calls itself for each level.
    box = b"IxMp" + struct.pack("<iqqq?i", D, COUNT, 1 << 20, 1 << 20, True, 0)
    hostile["boxes in boxes"] = put_together(box * 20_000, *indexes["flat"][1:])
    for kind, (body, ids, facts) in indexes.items():
        for name, at in (("class", 0), ("dimension", 4), ("count", 8), ("metric", 33)):
            mutant = bytearray(body)
            mutant[at] ^= 0x7F
            hostile[f"{name} of {kind}"] = put_together(mutant, ids, facts)
        hostile[f"ids of {kind}"] = put_together(body, ids[::-1], facts)
        hostile[f"kind of {kind}"] = put_together(
            body, ids, {**facts, "kind": "flat" if kind != "flat" else "ivf-sq8"}
        )
    paths = [tmp_path / "none.db"]
    shutil.copy(database, paths[0])
    for number, content in enumerate(hostile.values()):
        path = tmp_path / f"{number}.db"
        os.link(paths[0], path)
        index_path(path, 1).write_bytes(content)
        paths.append(path)
    # Reading this one would never end.
    paths.append(tmp_path / "pipe.db")
    os.link(paths[0], paths[-1])
    os.mkfifo(index_path(paths[-1], 1))
    script = [sys.executable, PROGRAMS / "searches_by_id.py", *paths]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (ended.returncode, len(lines)) == (0, len(paths)), ended.stderr[-2000:]
    right, *answers = lines
    assert right["told"] == []
    assert len(right["answers"]["nearest"]) == 5
    assert len(right["answers"]["duplicates"]) >= 10
    for name, answer in zip([*hostile, "a pipe"], answers, strict=True):
        assert answer["answers"] == right["answers"], name
        [told] = answer["told"]
        assert told.startswith("Not using the index"), name
        assert told.endswith("Searching exactly"), name


def test_a_file_without_end_is_not_read(indexes, database, tmp_path, connect, caplog):
    """It takes a stranger no space, and would take a minute to read."""
    path = tmp_path / "p.db"
    shutil.copy(database, path)
    body, ids, facts = indexes["flat"]
    file = index_path(path, 1)
    whole = put_together(body, ids, facts)
    with open(file, "wb") as opened:
        opened.seek(10**12 - len(whole))
        opened.write(whole)
    assert len(connect(path).execute("select * from clip_search(1, 5)").fetchall()) == 5
    assert "larger than an index of this database can be" in caplog.text
    result = run("clip-index", path, "--status")
    assert "larger than an index of this database can be" in result.output
    assert run("clip-index", path, "--silent").exit_code == 0
    assert file.stat().st_size < 10**6


@pytest.mark.parametrize("kind", KINDS)
def test_good_files_are_used(indexes, database, kind, tmp_path):
    """The helpers of these tests change nothing by themselves."""
    path = tmp_path / "p.db"
    os.link(database, path)
    index_path(path, 1).write_bytes(put_together(*indexes[kind]))
    base, facts = open_index(index_path(path, 1), "f", D)
    assert len(base) == COUNT
    assert facts.kind == kind


def test_few_lists_with_vectors_in_them(tmp_path):
    """FAISS writes the lists of very uneven collections in another format."""
    vectors = np.repeat(clustered(3, D), 400, axis=0)
    path = make(tmp_path / "p.db", vectors)
    file = build(path, "ivf-sq8")
    body, ids, facts = taken_apart(file.read_bytes())
    place = body.index(b"sprs") + 4
    assert open_index(file, "f", D)
    for offset, value in ((0, 2**40), (0, 1), (8, -1), (8, 2**40), (16, 2**40), (16, -1)):
        mutant = bytearray(body)
        mutant[place + offset : place + offset + 8] = struct.pack("<q", value)
        file.write_bytes(put_together(mutant, ids, facts))
        with pytest.raises(IndexUnusable, match="did not write it"):
            open_index(file, "f", D)
