"""The kinds of index: what they find, their recall, and the commands about them."""

import json
import re
import shutil
import sqlite3
from contextlib import closing

import faiss
import numpy as np
import pytest

from datasette_clip_search.cli.options import KINDS as OPTIONS
from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.database.index import (
    IndexChoice,
    index_path,
    read_header,
)
from datasette_clip_search.database.index.kinds import KINDS, choose, lists_for
from datasette_clip_search.database.index.maintenance import measure, status_of
from datasette_clip_search.database.index.recall import Sample
from datasette_clip_search.database.model import default_model
from support.commands import run
from support.indexes import COUNT, build_index, index_in_use
from support.vector_database import clustered, found, make, put, truth

METRIC = faiss.METRIC_INNER_PRODUCT


def queries(vectors, count=20):
    random = np.random.default_rng(5)
    return vectors[random.permutation(len(vectors))[:count]]


def test_every_kind_is_used_and_ranks_by_exact_vectors(indexed, connect, vectors):
    path, kind = indexed
    connection = connect(path)
    right = wanted = 0
    for query in queries(vectors):
        for k in (1, 10, 100):
            ids, scores = found(connection, query, k)
            expected, best = truth(connection, query, k)
            assert len(ids) == len(set(ids)) == k
            # Each result has the cosine of its stored vector, and the best is first.
            stored = vectors[np.array(ids) - 1] @ query
            assert scores == pytest.approx(stored, abs=1e-6)
            assert (np.diff(scores) <= 1e-6).all()
            right += len(set(ids) & set(expected))
            wanted += k
            if kind == "flat":
                assert scores == pytest.approx(best, abs=1e-6)
    assert right / wanted > 0.95
    base = index_in_use(path, connection)
    assert base.kind.name == kind
    assert base.is_mapped


def test_every_kind_finds_as_many_as_there_are(indexed, connect):
    path, _ = indexed
    connection = connect(path)
    query = clustered(1, seed=3)[0]
    ids, scores = found(connection, query, COUNT + 5)
    assert sorted(ids) == list(range(1, COUNT + 1))
    assert (np.diff(scores) <= 1e-6).all()
    ids, _ = found(connection, -query, 50)
    assert len(ids) == 50


@pytest.mark.parametrize("share", [0.002, 0.1, 0.6])
def test_every_kind_searches_within(indexed, connect, share, configured):
    path, _ = indexed
    # Covers both ways: reading all of their vectors, and probing the lists.
    configured(fetched_within=300)
    connection = connect(path)
    modulus = round(1 / share)
    where = f"where id in (select id from images where id % {modulus} = 0)"
    within = set(range(modulus, COUNT + 1, modulus))
    right = 0
    for query in queries(clustered(COUNT), 10):
        ids, _ = found(connection, query, 10, where)
        assert len(ids) == 10
        assert set(ids) <= within
        right += len(set(ids) & set(truth(connection, query, 10, within)[0]))
    assert right >= 95


def test_copies_are_as_good_as_each_other():
    """Among pictures that are alike, chance decides which are the ten nearest."""
    vectors = np.repeat(clustered(60), 25, axis=0)
    ids = np.arange(len(vectors))
    sample = Sample(ids, vectors)
    for start in range(0, len(ids), 400):
        sample.show(ids[start : start + 400], vectors[start : start + 400])
    shuffled = np.random.default_rng(1).permutation(ids)
    found = []
    for query, itself in zip(sample.queries, sample.itself, strict=True):
        order = shuffled[np.argsort(-(vectors[shuffled] @ query), kind="stable")]
        found.append(order[order != itself][:10])
    assert sample.recall(found) == 1
    missed = [each[:7] for each in found]
    assert sample.recall(missed) == pytest.approx(0.7)
    assert sample.recall([ids[:0]] * len(found)) == 0


def test_recall_is_measured_and_reached(indexed):
    path, kind = indexed
    facts = read_header(index_path(path, 1))
    assert facts.kind == kind
    with closing(sqlite3.connect(path)) as connection:
        _, model = default_model(connection)
        recall = measure(connection, model)
        status = status_of(connection, path, model)
    assert status.recall == recall
    assert (status.behind, status.problem) == (0, "")
    assert status.bytes == index_path(path, 1).stat().st_size
    assert status.memory == pytest.approx(status.bytes, rel=0.05, abs=20_000)
    if kind == "flat":
        assert facts.recall is None
        assert recall == 1
    else:
        assert recall == pytest.approx(facts.recall, abs=0.03)
        # So few numbers of a bit or two may not be enough, and the command says so.
        if kind not in ("ivf-rabitq", "ivf-rabitq2"):
            assert facts.recall >= CONFIG.recall_wanted


def test_more_effort_where_less_finds_too_little(made, tmp_path, configured):
    efforts = {}
    for wanted in (0.5, 0.999):
        copy = tmp_path / f"{wanted}.db"
        shutil.copy(made, copy)
        configured(recall_wanted=wanted)
        efforts[wanted] = build_index(copy, IndexChoice("ivf-sq4")).header
        assert efforts[wanted].recall >= wanted
    assert efforts[0.5].effort.lists < efforts[0.999].effort.lists


def test_progress_reports_every_stage(made, tmp_path):
    copy = tmp_path / "p.db"
    shutil.copy(made, copy)
    told = {}
    build_index(
        copy,
        IndexChoice("ivf-sq8"),
        on_progress=lambda what, *done: told.setdefault(what, []).append(done),
    )
    assert list(told) == ["Training", "Indexing", "Filling", "Measuring"]
    for what in ("Training", "Indexing", "Filling"):
        done, of = zip(*told[what], strict=True)
        assert list(done) == sorted(set(done)), what
        assert set(of) == {done[-1]}, what
    assert len(told["Training"]) > 2


def test_kinds_are_those_of_the_options():
    assert tuple(KINDS) == OPTIONS[1:]


def test_choice_by_size_and_memory():
    assert choose(1000, 512).name == "flat"
    assert choose(100_000, 512).name == "flat"
    assert choose(1_000_000, 512).name == "ivf-sq8"
    assert choose(1_000_000, 512, 10**9).name == "ivf-sq8"
    assert choose(1_000_000, 512, 4 * 10**8).name == "ivf-sq4"
    assert choose(1_000_000, 512, 2 * 10**8).name == "ivf-rabitq2"
    assert choose(1_000_000, 512, 10**8).name == "ivf-rabitq"
    # If nothing fits, it is the smallest, and the recall shows how good that is.
    assert choose(1_000_000, 512, 1000).name == "ivf-rabitq"
    assert choose(10_000, 512, 10**7).name == "ivf-sq8"
    assert [lists_for(count) for count in (0, 1, 1000, 10**6, 10**7)] == [1, 1, 32, 1024, 4096]


def test_a_few_pictures_are_always_searched_exactly(tmp_path):
    kept = build_index(make(tmp_path / "p.db", clustered(300)), IndexChoice("ivf-sq8"))
    assert kept.header.kind == "flat"
    # The choice is kept for when there are more.
    assert kept.header.choice == IndexChoice("ivf-sq8")


def test_more_vectors_than_memory_has_room_for(tmp_path, connect, configured, caplog):
    """Without an index, every search reads them again, and finds the same."""
    path = make(tmp_path / "p.db", clustered(1001))
    configured(max_unindexed_numbers=1000 * 32)
    connection, query = connect(path), clustered(1, seed=2)[0]
    for k in (10, 2000):
        assert found(connection, query, k)[0] == truth(connection, query, k)[0]
    assert [record.getMessage() for record in caplog.records] == [
        "made (up) has no index that can be used, and its 1,001 vectors are more than memory has "
        "room for: every search reads them all. Run: sqlite-utils clip-index"
    ]
    sql = "select id from clip_search(?, 3) where id in (7, 8, 9, 10) order by id"
    within = [id for (id,) in connection.execute(sql, [query.tobytes()])]
    assert len(within) == 3
    with closing(sqlite3.connect(path)) as other, other:
        put(other, [2000], query[np.newaxis])
        other.execute("delete from images where id = ?", truth(connection, query, 2)[0][1:])
    assert found(connection, query, 10)[0] == truth(connection, query, 10)[0]
    assert found(connection, query, 1)[0] == [2000]
    build_index(path)
    assert found(connection, query, 10)[0] == truth(connection, query, 10)[0]


def test_a_reader_keeps_what_was_replaced_under_it(indexed, connect, vectors):
    path, kind = indexed
    connection = connect(path)
    base = index_in_use(path, connection)
    query = vectors[17]
    search = base.exact if kind == "flat" else base.candidates
    before = search(query, 10, None)[0].tolist()
    build_index(path, force=True)
    index_path(path, 1).rename(path.with_name("elsewhere"))
    assert search(query, 10, None)[0].tolist() == before
    path.with_name("elsewhere").rename(index_path(path, 1))


def test_connections_share_one_index(indexed, connect):
    path, _ = indexed
    assert index_in_use(path, connect(path)) is index_in_use(path, connect(path))


def test_duplicates_are_the_same_with_every_kind(indexed, connect, made):
    path, _ = indexed
    sql = "select group_number, id, keep from clip_duplicates(0.96)"
    assert connect(path).execute(sql).fetchall() == connect(made).execute(sql).fetchall()


def test_scores_above_the_crowd_are_the_same_with_every_kind(indexed, connect, made, vectors):
    path, _ = indexed
    sql = "select id, z_score from clip_search(?, 5)"
    query = [vectors[3].astype("<f4").tobytes()]
    ours, theirs = (dict(connect(each).execute(sql, query)) for each in (path, made))
    for id in set(ours) & set(theirs):
        assert ours[id] == pytest.approx(theirs[id], rel=1e-4)


def test_command(made, tmp_path):
    path = tmp_path / "p.db"
    shutil.copy(made, path)
    result = run("clip-index", path, "--status")
    assert "there is none" in result.output
    assert not index_path(path, 1).exists()
    result = run("clip-index", path, "--index", "ivf-sq8")
    assert "ivf-sq8" in result.output
    assert f"{COUNT}, up to date" in result.output
    told = json.loads(run("clip-index", path, "--status", "--json").stdout)
    assert (told["kind"], told["pictures"], told["changed_since"]) == ("ivf-sq8", COUNT, 0)
    assert told["recall_at_10"] >= 0.96
    with closing(sqlite3.connect(path)) as connection, connection:
        put(connection, [5, COUNT + 1], clustered(2, seed=9))
    changed = "searches compare the 2 that have changed one by one"
    assert changed in run("clip-index", path, "--status").output
    told = json.loads(run("clip-index", path, "--memory", "250KB", "--json").stdout)
    assert (told["kind"], told["pictures"]) == ("ivf-sq4", COUNT + 1)


def test_command_says_where_a_choice_is_not_met(tmp_path):
    path = make(tmp_path / "p.db", clustered(300))
    said = run("clip-index", path, "--index", "ivf-sq8", "--memory", "5KB").stdout
    assert "ivf-sq8 needs at least 1000 pictures; with fewer, searches compare every vector" in said
    assert re.search(r"Note: +the index exceeds the limit of 5\.0 KB by [\d.]+ KB$", said, re.M)
    said = run("clip-index", path, "--index", "auto", "--memory", "5KB").stdout
    assert re.search(r"5\.0 KB by [\d.]+ KB; no kind of index is smaller$", said, re.M)
    assert "Note" not in run("clip-index", path, "--index", "auto").stdout


def test_silent_command_prints_json_and_errors_only(made, tmp_path):
    path = tmp_path / "p.db"
    shutil.copy(made, path)
    assert run("clip-index", path, "--silent").output == ""
    assert index_path(path, 1).exists()
    result = run("clip-index", path, "--silent", "--status", "--json")
    assert json.loads(result.stdout)["pictures"] == COUNT
    assert result.stderr == ""


def test_duplicates_of_many_are_for_the_owner(made, tmp_path, connect, configured):
    configured(max_published_duplicate_numbers=1000)
    path = tmp_path / "p.db"
    shutil.copy(made, path)
    build_index(path, IndexChoice("ivf-sq8"))
    sql = "select count(*) from clip_duplicates(0.97)"
    connection = connect(path)
    assert connection.execute(sql).fetchone()
    with connection:
        connection.execute("insert into clip_publication (published, release) values ('', '')")
        put(connection, [1], clustered(1, seed=9))
    with pytest.raises(sqlite3.OperationalError, match="has room for 31 of this model here"):
        connection.execute(sql).fetchone()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "lots"], "'lots' is not a size"),
        (["--memory", "0GB"], "'0GB' is not a size"),
        (["--memory", "-1GB"], "'-1GB' is not a size"),
        (["--index", "hnsw"], "'hnsw' is not one of"),
        (["--model", "nobody"], "There is no model 'nobody'"),
        (["--status", "--memory", "1GB"], "--status does not build an index"),
    ],
)
def test_command_refuses(made, arguments, message):
    result = run("clip-index", made, *arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
