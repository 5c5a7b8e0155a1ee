"""Answers are those of the database as it is now, whatever changed since an index was built."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

from datasette_clip_search.database import changes
from datasette_clip_search.database.index import IndexChoice, index_path, read_header
from datasette_clip_search.database.index.kinds import KINDS
from datasette_clip_search.database.index.snapshot_cache import snapshot_for
from datasette_clip_search.database.model import default_model
from support.commands import run
from support.indexes import build_index, everything
from support.paths import TESTS
from support.vector_database import clustered, found, make, put, truth
from support.waiting import PATIENCE


@pytest.fixture
def path(tmp_path):
    return make(tmp_path / "p.db", clustered(1500))


def check(connection, seed=0, k=12):
    for query in clustered(3, seed=seed + 500):
        expected, scores = truth(connection, query, k)
        ids, ours = found(connection, query, k)
        assert len(ids) == len(expected)
        assert ours == pytest.approx(scores, abs=1e-6)
        assert set(ids[:5]) == set(expected[:5])


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_is_in_the_next_answer(path, connect, configured, monkeypatch, kind):
    configured(depths=(64, 100))
    monkeypatch.setattr("datasette_clip_search.database.index.build._least_effort", everything)
    build_index(path, IndexChoice(kind))
    connection, other = connect(path), connect(path)
    writer = connect(path, isolation_level=None)
    random = np.random.default_rng(1)
    seqs = []
    for step in range(12):
        writer.execute("begin immediate")
        ids = [id for (id,) in writer.execute("select id from images")]
        some = random.choice(ids, 8, replace=False).tolist()
        if step % 4 == 0:
            put(writer, range(max(ids) + 1, max(ids) + 9), clustered(8, seed=step))
        elif step % 4 == 1:
            put(writer, some, clustered(8, seed=step))
        elif step % 4 == 2:
            for id in some:
                writer.execute("delete from images where id = ?", [id])
        else:
            for id in some:
                writer.execute("delete from clip_embeddings where image_id = ?", [id])
            writer.execute(
                "update clip_embeddings set image_id = ? where image_id = (select min(image_id) "
                "from clip_embeddings)",
                [some[0]],
            )
        # A connection sees its own uncommitted change, and another connection does not.
        check(writer, step)
        check(other, step)
        writer.execute("rollback" if step == 5 else "commit")
        for each in (connection, other, writer):
            check(each, step)
        if step == 8:
            build_index(path)
        base = snapshot_for(connection, default_model(connection)[1]).index
        assert (base.kind.name, base.is_mapped) == (kind, True)
        seqs.append(read_header(index_path(path, 1)).moment.seq)
    # The index file was the same throughout, except for the one rebuild.
    assert len(set(seqs)) == 2


def test_older_and_newer_states_side_by_side(path, connect):
    build_index(path)
    writer = connect(path, isolation_level=None)
    writer.execute("pragma journal_mode = wal")
    readers = []
    for step in range(4):
        reader = connect(path, isolation_level=None)
        reader.execute("begin")
        reader.execute("select count(*) from images").fetchone()
        readers.append(reader)
        put(writer, range(2000 + 10 * step, 2010 + 10 * step), clustered(10, seed=step))
        writer.execute("delete from images where id = ?", [1 + step])
        for reader in readers:
            check(reader, step)
    build_index(path, force=True)
    for reader in [*readers, writer, *reversed(readers)]:
        check(reader)


def test_forgotten_history_is_read_again(path, connect, configured):
    configured(changes_kept=0)
    build_index(path)
    connection = connect(path)
    check(connection)
    with closing(sqlite3.connect(path)) as writer, writer:
        put(writer, range(3000, 3020), clustered(20, seed=3))
    build_index(path, force=True)
    with closing(sqlite3.connect(path)) as writer, writer:
        assert writer.execute("select count(*) from clip_changes").fetchone() == (1,)
        put(writer, range(3020, 3040), clustered(20, seed=4))
    check(connection)
    index_path(path, 1).unlink()
    check(connect(path))


def test_a_restored_backup_is_not_mistaken(path, connect, tmp_path):
    """Equally many changes, but different ones: only the revision tells them apart."""
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    for database, seed in ((path, 1), (backup, 2)):
        with closing(sqlite3.connect(database)) as writer, writer:
            put(writer, range(1, 21), clustered(20, seed=seed))
    build_index(path)
    check(connect(path))
    shutil.copy(backup, path)
    check(connect(path))


def test_databases_without_a_history(path, connect):
    """Every change makes the next search read all vectors, until a command restores the history."""
    with closing(sqlite3.connect(path)) as older, older:
        triggers = "select name from sqlite_master where type = 'trigger' and sql like '%changes%'"
        for (name,) in older.execute(triggers).fetchall():
            older.execute(f"drop trigger {name}")
        older.execute("drop table clip_changes")
        older.execute(
            "create trigger clip_embedding_inserted after insert on clip_embeddings begin "
            "update clip_models set revision = random() where id = new.model_id; end"
        )
    connection = connect(path)
    check(connection)
    with closing(sqlite3.connect(path)) as writer, writer:
        put(writer, [5000, 5001], clustered(2, seed=3))
    check(connection)
    assert run("clip-index", path).exit_code == 0
    check(connection)
    with closing(sqlite3.connect(path)) as writer, writer:
        put(writer, [5002, 5003], clustered(2, seed=4))
    check(connection)


def test_small_changes_do_not_rebuild_a_large_index(path, connect, configured):
    configured(index_lag_from=1000)
    assert build_index(path).rebuilt
    for step, rebuilt in ((0, False), (1, False), (2, True)):
        with closing(sqlite3.connect(path)) as writer, writer:
            new = range(4000 + 12 * step, 4012 + 12 * step)
            put(writer, new, clustered(12, seed=step))
        assert build_index(path).rebuilt == rebuilt
        check(connect(path), step)


def test_an_outgrown_snapshot_is_read_again(path, connect, configured):
    configured(index_lag_from=100)
    connection = connect(path)
    check(connection)
    model = default_model(connection)[1]
    first = snapshot_for(connection, model).index
    with closing(sqlite3.connect(path)) as writer, writer:
        put(writer, range(2000, 2050), clustered(50, seed=1))
    check(connection)
    assert snapshot_for(connection, default_model(connection)[1]).index is first
    with closing(sqlite3.connect(path)) as writer, writer:
        put(writer, range(2050, 2200), clustered(150, seed=2))
    check(connection)
    with closing(sqlite3.connect(path)) as writer, writer:
        put(writer, [9999], clustered(1, seed=2))
    check(connection)
    assert snapshot_for(connection, default_model(connection)[1]).index is not first


def test_every_vector_is_in_the_history(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        _, model = default_model(connection)
        start = changes.moment_of(connection, model)
        assert changes.changes_since(connection, model, start) == (start, pytest.approx([]))
        put(connection, [7, 4000], clustered(2))
        connection.execute("delete from clip_embeddings where image_id = 9")
        connection.execute("update clip_embeddings set image_id = 9 where image_id = 11")
        moment, touched = changes.changes_since(connection, model, start)
        assert touched.tolist() == [7, 9, 11, 4000]
        assert moment == changes.moment_of(connection, default_model(connection)[1])
        assert moment.revision == default_model(connection)[1].revision
        assert changes.changes_since(connection, model, start._replace(revision=1)) is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "ivf-sq8"])
@pytest.mark.parametrize("wal", [False, True])
def test_eight_readers_search_during_rebuilds(path, monkeypatch, kind, wal):
    """Every answer is compared with brute force over the same state of the database."""
    monkeypatch.setattr("datasette_clip_search.database.index.build._least_effort", everything)
    build_index(path, IndexChoice(kind))
    if wal:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma journal_mode = wal")
    stop = path.with_name("stop")

    def start(*arguments) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "programs.changing_database", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=TESTS, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    readers = [start("read", path, seed, stop) for seed in range(8)]
    writer = start("write", path, 12, kind)
    try:
        _, errors = writer.communicate(timeout=PATIENCE)
        stop.touch()
        assert writer.returncode == 0, errors
        ended = [reader.communicate(timeout=PATIENCE) for reader in readers]
    finally:
        for process in (*readers, writer):
            process.kill()
    for (output, errors), reader in zip(ended, readers, strict=True):
        assert reader.returncode == 0, output + errors
        assert "Not using" not in errors
        assert int(output) >= 20
