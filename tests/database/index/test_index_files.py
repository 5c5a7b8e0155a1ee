"""Index files: when they are rebuilt or taken up, and the damage that they detect."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing

import faiss
import numpy as np
import pytest

from datasette_clip_search.common.errors import CommandError
from datasette_clip_search.database.index import (
    IndexChoice,
    IndexUnusable,
    index_path,
    open_index,
    read_header,
)
from datasette_clip_search.database.index.filling import Filling
from datasette_clip_search.database.index.kinds import KINDS
from support.commands import run
from support.indexes import COUNT, build_index, index_in_use
from support.paths import TESTS
from support.vector_database import clustered, found, make, put, truth

pytestmark = pytest.mark.slow

METRIC = faiss.METRIC_INNER_PRODUCT


def test_the_choice_is_kept(made, tmp_path):
    path = tmp_path / "p.db"
    shutil.copy(made, path)
    assert build_index(path, IndexChoice("ivf-sq8")).rebuilt
    assert not build_index(path).rebuilt
    with closing(sqlite3.connect(path)) as connection, connection:
        put(connection, [COUNT + 1], clustered(1, seed=9))
    kept = build_index(path)
    assert (kept.rebuilt, kept.header.kind, kept.header.count) == (True, "ivf-sq8", COUNT + 1)
    assert build_index(path, IndexChoice()).header.kind == "flat"


def test_every_mutated_byte_is_noticed(tmp_path, connect, caplog):
    """Flips, cuts and additions: none is used, and each is logged once."""
    path = make(tmp_path / "p.db", clustered(1200, 8))
    build_index(path, IndexChoice("ivf-sq8"))
    file = index_path(path, 1)
    whole = file.read_bytes()
    assert open_index(file, "f", 8)
    other = tmp_path / "mutant.faiss"
    places = {*range(0, len(whole), 37), *range(400), *range(len(whole) - 700, len(whole))}
    for place in sorted(places):
        for flip in (0x01, 0x80):
            mutant = bytearray(whole)
            mutant[place] ^= flip
            other.write_bytes(mutant)
            with pytest.raises(IndexUnusable):
                open_index(other, "f", 8)
    for size in range(0, len(whole), 211):
        other.write_bytes(whole[:size])
        with pytest.raises(IndexUnusable):
            open_index(other, "f", 8)
    for mutant in (b"\0" + whole, whole + b"\0", whole[1:], whole * 2, whole[::-1]):
        other.write_bytes(mutant)
        with pytest.raises(IndexUnusable):
            open_index(other, "f", 8)
    file.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    for _ in range(3):
        connection = connect(path)
        query = clustered(1, 8, seed=2)[0]
        assert found(connection, query, 10)[0] == truth(connection, query, 10)[0]
    told = [record.message for record in caplog.records if "Not using the index" in record.message]
    assert len(told) == 1
    assert "p.db.clip-1.faiss" in told[0]
    assert str(tmp_path) not in told[0]


@pytest.mark.parametrize("what", ["model", "database", "foreign", "folder", "unreadable"])
def test_files_that_are_not_of_these_vectors(tmp_path, connect, caplog, what):
    path = make(tmp_path / "p.db", clustered(1200, 8))
    build_index(path)
    file = index_path(path, 1)
    if what == "model":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("update clip_models set fingerprint = 'another'")
        reason = "another model"
    elif what == "database":
        # A backup that was changed since has as many changes, but different ones.
        other = make(tmp_path / "other.db", clustered(1200, 8, seed=4))
        build_index(other)
        shutil.copy(index_path(other, 1), file)
        reason = "other vectors"
    elif what == "foreign":
        file.write_bytes(b"IxM2" + bytes(2000) + (0).to_bytes(8, "little") + b"CLIPFAISS0")
        reason = "not written by this program"
    elif what == "folder":
        file.unlink()
        file.mkdir()
        reason = "can't be read"
    else:
        file.write_bytes(b"")
        reason = "too short"
    connection = connect(path)
    query = clustered(1, 8, seed=2)[0]
    assert found(connection, query, 10)[0] == truth(connection, query, 10)[0]
    assert reason in caplog.text
    if what != "folder":
        assert build_index(path).rebuilt
        assert found(connection, query, 10)[0] == truth(connection, query, 10)[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "flat"])
def test_lists_hold_what_faiss_puts_there(kind):
    vectors = clustered(COUNT)
    filled = faiss.index_factory(32, KINDS[kind].factory.format(lists=300), METRIC)
    filled.train(vectors)
    added = faiss.clone_index(filled)
    added.add(vectors)
    with tempfile.TemporaryFile() as file:
        filling = Filling(filled, file)
        for start in range(0, COUNT, 999):
            filling.add(vectors[start : start + 999])
        filling.finish(lambda done: None)
    assert np.array_equal(faiss.serialize_index(filled), faiss.serialize_index(added))


@pytest.mark.parametrize("kind", ["flat", "ivf-sq8"])
def test_a_full_disk_keeps_the_old_index(tmp_path, kind):
    path = make(tmp_path / "p.db", clustered(3000))
    build_index(path, IndexChoice(kind))
    before = index_path(path, 1).read_bytes()
    with closing(sqlite3.connect(path)) as connection, connection:
        put(connection, range(3001, 3100), clustered(99, seed=1))
    script = """
import resource, sys
from support.indexes import build_index
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
build_index(Path(sys.argv[1]))
"""
    for size in (0, 5000, len(before) // 2, len(before) - 100):
        command = [sys.executable, "-c", script, str(path), str(size)]
        ended = subprocess.run(command, cwd=TESTS, capture_output=True)
        assert b"can't be written" in ended.stderr
        assert index_path(path, 1).read_bytes() == before
        assert sorted(os.listdir(tmp_path)) == ["p.db", "p.db.clip-1.faiss"]


def test_a_new_file_is_taken_up(made, tmp_path, connect, vectors):
    path = tmp_path / "p.db"
    shutil.copy(made, path)
    connection = connect(path)
    found(connection, vectors[0], 3)
    assert not index_in_use(path, connection).is_mapped
    build_index(path, IndexChoice("ivf-sq8"))
    found(connection, vectors[0], 3)
    assert index_in_use(path, connection).kind.name == "ivf-sq8"
    build_index(path, IndexChoice("ivf-sq4"))
    found(connection, vectors[0], 3)
    assert index_in_use(path, connection).kind.name == "ivf-sq4"
    index_path(path, 1).unlink()
    expected = truth(connection, vectors[0], 3)[0]
    assert found(connection, vectors[0], 3)[0] == expected


def test_embedding_keeps_to_the_choice(tiny_database, pictures):
    result = run("embed-images", tiny_database, pictures, "--index", "ivf-sq4", "--memory", "1GiB")
    assert result.exit_code == 0, result.output
    choice = IndexChoice("ivf-sq4", 1024**3)
    assert read_header(index_path(tiny_database, 1)).choice == choice
    (pictures / "a.jpg").unlink()
    run("embed-images", tiny_database, pictures, "--prune")
    facts = read_header(index_path(tiny_database, 1))
    assert (facts.choice, facts.count) == (choice, 5)


def test_an_index_that_cant_be_written_says_so(made, tmp_path, monkeypatch):
    path = tmp_path / "p.db"
    shutil.copy(made, path)
    index_path(path, 1).mkdir()
    with pytest.raises(CommandError, match="can't be written"):
        build_index(path)
