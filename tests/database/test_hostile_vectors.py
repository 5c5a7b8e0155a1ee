"""Rows that no release writes: each gives one clear error, and none ends the process."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

from datasette_clip_search.common.errors import DatabaseError
from datasette_clip_search.database.index import flat
from datasette_clip_search.database.index.crowd import Crowd
from datasette_clip_search.database.model import default_model
from datasette_clip_search.database.vectors import check_query_vectors
from support.paths import PROGRAMS
from support.vector_database import clustered, make, put

COUNT, D = 120, 16
LENGTH = f"is not {4 * D} bytes long"
NUMBER = "holds a number that is not finite, or too large"
MODEL = "table clip_models has a row"
IDS = "row whose image_id is no whole number"
CHANGES = "table clip_changes has a row with values other than integers"


def vector(*numbers, kind="<f4"):
    row = np.zeros(D, kind)
    row[: len(numbers)] = numbers
    return row.tobytes()


def change(sql, *values):
    """Return a function that changes a row of a database whose tables accept anything."""
    return sql, values


def dimension(value):
    return change("update clip_models set dimension = ?", value)


def embedding(value):
    return change("update clip_embeddings set embedding = ? where image_id = 50", value)


def image_id(value):
    return change("update clip_embeddings set image_id = ? where image_id = 50", value)


# The change, and the error; None where every search still answers.
CASES = {
    **{
        f"dimension {value!r:.20}": (dimension(value), MODEL)
        for value in (0, -1, 4097, 3_000_000, 2**40, 2**62, "abc", "", 16.5, None, b"\x10", 1e300)
    },
    # No vector here has this length.
    "dimension 15": (dimension(15), "is not 60 bytes long"),
    "dimension 4096": (dimension(4096), "is not 16384 bytes long"),
    # Half as many numbers in float32 take as many bytes as all of them in float16.
    "dimension 32": (dimension(32), "embedding"),
    "revision of text": (change("update clip_models set revision = 'x'"), MODEL),
    "name of nothing": (change("update clip_models set name = null"), MODEL),
    "name of bytes": (change("update clip_models set name = x'00ff'"), MODEL),
    "empty": (embedding(b""), LENGTH),
    "short": (embedding(vector()[:-1]), LENGTH),
    "long": (embedding(vector() + b"\0"), LENGTH),
    "float64": (embedding(vector(1, kind="<f8")), LENGTH),
    "large": (embedding(bytes(5_000_000)), LENGTH),
    "text": (embedding("x" * 4 * D), LENGTH),
    "integer": (embedding(7), LENGTH),
    "real": (embedding(0.5), LENGTH),
    "nothing": (embedding(None), LENGTH),
    "nan": (embedding(vector(np.nan)), NUMBER),
    "infinite": (embedding(vector(np.inf)), NUMBER),
    "minus infinite": (embedding(vector(1, -np.inf)), NUMBER),
    "huge": (embedding(vector(3e38, 3e38)), NUMBER),
    "nan of half": (embedding(vector(np.nan, kind="<f2")), NUMBER),
    "infinite half": (embedding(vector(np.inf, kind="<f2")), NUMBER),
    "zero": (embedding(vector()), None),
    "zero half": (embedding(vector(kind="<f2")), None),
    "denormal": (embedding(vector(1e-40, 1e-45)), None),
    "not of length 1": (embedding(vector(300, 4)), None),
    "half": (embedding(vector(1, kind="<f2")), None),
    "negative id": (image_id(-5), None),
    "lowest id": (image_id(-(2**63)), None),
    "highest id": (image_id(2**63 - 1), None),
    "id of text": (image_id("x"), IDS),
    "id of bytes": (image_id(b"x"), IDS),
    "real id": (image_id(1.5), IDS),
    "infinite id": (image_id(float("inf")), IDS),
    "no id": (image_id(None), IDS),
    "twice": (image_id(51), "two rows for picture 51"),
    "changes of text": (change("update clip_changes set seq = 'x' where seq = 121"), CHANGES),
    "changes of nothing": (change("update clip_changes set seq = null where seq = 121"), None),
    "facts of text": (
        change("update images set width = 'x', height = x'ff', size = 'y', taken = 5, mtime = 'z'"),
        None,
    ),
    "facts without end": (
        change("update images set width = 9e999, height = 1e300, size = -9e999, mtime = 9e999"),
        None,
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The answers of a separate process, for a database of each case and for an honest one."""
    folder = tmp_path_factory.mktemp("vectors")
    whole = make(folder / "whole.db", clustered(COUNT, D))
    loose = folder / "loose.db"
    with (
        closing(sqlite3.connect(whole)) as source,
        closing(sqlite3.connect(loose, isolation_level=None)) as connection,
    ):
        source.backup(connection)
        # A stranger's declarations, whose columns accept anything.
        connection.execute("pragma foreign_keys = off")
        for table in ("clip_models", "clip_embeddings", "images", "clip_changes"):
            [(sql,)] = connection.execute("select sql from sqlite_master where name = ?", [table])
            keys = sql.lower().replace("not null", "").replace("unique", "")
            keys = keys.replace("primary key (model_id, image_id)", "check (1)")
            keys = keys.replace("primary key (model_id, seq)", "check (1)")
            keys = keys.replace("without rowid", "").replace(f"table {table}", "table loose", 1)
            keys = keys.replace('table "images"', "table loose", 1)
            connection.execute(keys)
            connection.execute(f"insert into loose select * from {table}")
            connection.execute("pragma legacy_alter_table = on")
            connection.execute(f"drop table {table}")
            connection.execute(f"alter table loose rename to {table}")
    paths = [loose]
    for number, ((sql, values), _) in enumerate(CASES.values()):
        path = folder / f"{number}.db"
        shutil.copy(loose, path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql, values)
        paths.append(path)
    script = [sys.executable, PROGRAMS / "searches_by_id.py", *paths]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = [json.loads(line)["answers"] for line in ended.stdout.splitlines()]
    return dict(zip(["none", *CASES], lines, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_every_row_is_answered_or_one_sentence(answers, case):
    _, message = CASES[case]
    assert len(answers["none"]["many"]) == COUNT - 1
    for name, answer in answers[case].items():
        if message is None:
            assert isinstance(answer, list), (name, answer)
        else:
            assert isinstance(answer, str), (name, answer)
            assert message in answer, (name, answer)


def test_a_large_value_is_not_loaded(tmp_path, connect):
    """The size of a row is checked before the row is read."""
    path = make(tmp_path / "p.db", clustered(50, D))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update clip_embeddings set embedding = zeroblob(8000000)")
    script = (
        "import resource, sqlite3, sys\n"
        "from datasette_clip_search.sql import add_functions\n"
        "import faiss, datasette_clip_search.search.nearest\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "connection = sqlite3.connect(sys.argv[1]); add_functions(connection)\n"
        "from datasette_clip_search.database.index.snapshot_cache import snapshot_for\n"
        "from datasette_clip_search.database.model import default_model\n"
        "try: snapshot_for(connection, default_model(connection)[1])\n"
        "except Exception as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    said, grown = ended.stdout.splitlines()
    assert LENGTH in said
    assert int(grown) < 100


@pytest.mark.parametrize("shape", [(D - 1,), (D + 1,), (1, D), (0,), ()])
def test_no_pointer_is_passed_with_a_wrong_length(shape):
    """FAISS would read as many numbers as it is told to, past the end of the memory."""
    vectors = clustered(40, D)
    query = np.zeros(shape, np.float32)
    ids = np.arange(40)
    with pytest.raises(DatabaseError, match="numbers"):
        Crowd(ids, vectors).z_scores(query, np.zeros(1, np.float32))
    base = flat(ids, vectors)
    with pytest.raises(DatabaseError, match="numbers"):
        base.exact(query, 1, None)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.zeros((2, D + 1), np.float32), f"makes vectors of {D + 1} numbers"),
        (np.zeros((1, D), np.float32), "makes vectors"),
        (np.full((2, D), np.nan, np.float32), "not finite"),
        (np.zeros((2, D), np.float64), "not finite"),
    ],
)
def test_encoder_output_is_checked(made, message):
    with pytest.raises(DatabaseError, match=message):
        check_query_vectors(made, 2, D)


def test_an_encoder_of_another_dimension(tiny_database, connect):
    """The vectors fit the database's model, but those of its own tower do not."""
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        _, model = default_model(connection)
        connection.execute("update clip_models set dimension = ?", [2 * model.dimension])
        connection.create_function("twice", 1, lambda blob: 2 * blob)
        connection.execute("update clip_embeddings set embedding = twice(embedding)")
    connection = connect(tiny_database)
    assert len(connection.execute("select * from clip_search(1, 3)").fetchall()) == 3
    for sql in (
        "select * from clip_search('dog', 3)",
        'select * from clip_tags(1, \'["dog", "cat"]\')',
        "select * from clip_search(clip_mix('dog', 1, 1, 1), 3)",
        "select clip_similarity('dog', 1)",
    ):
        with pytest.raises(sqlite3.OperationalError, match="encoder makes vectors of"):
            connection.execute(sql).fetchall()


def test_good_vectors_are_as_before(tmp_path, connect):
    path = make(tmp_path / "p.db", clustered(30, D))
    with closing(sqlite3.connect(path)) as connection, connection:
        put(connection, [-7, 2**63 - 1], clustered(2, D, seed=9))
    connection = connect(path)
    found = connection.execute("select id from clip_search(1, 100)").fetchall()
    assert sorted(id for (id,) in found) == [-7, *range(2, 31), 2**63 - 1]
