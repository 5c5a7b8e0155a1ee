"""clip_search and clip_search_json: their rows against brute force, and their errors."""

import json
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.commands import run
from support.databases import make_database, rows
from support.pictures import make_picture

pytest.importorskip("open_clip")


def brute_force(database: Path, vector: np.ndarray, k: int) -> list[int]:
    stored = rows(database, "select image_id, embedding from clip_embeddings order by image_id")
    scores = [(-float(np.frombuffer(blob, "<f4") @ vector), image) for image, blob in stored]
    return [image for _, image in sorted(scores)[:k]]


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    return make_database(tmp_path_factory.mktemp("search"), 60, tiny_model)


@pytest.mark.parametrize("k", [1, 10, 59, 60, 61, 1000])
def test_same_as_brute_force(database, connect, k):
    vector = np.random.default_rng(k).normal(size=16).astype("<f4")
    vector /= np.linalg.norm(vector)
    found = connect(database).execute(
        "select rank, id, path, score from clip_search(?, ?)", [vector.tobytes(), k]
    )
    found = found.fetchall()
    assert [image for _, image, _, _ in found] == brute_force(database, vector, k)
    assert [rank for rank, *_ in found] == list(range(1, min(k, 60) + 1))
    paths = dict(rows(database, "select id, path from images"))
    assert all(path == paths[image] for _, image, path, _ in found)
    scores = [score for *_, score in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(
        np.frombuffer(
            rows(database, "select embedding from clip_embeddings where image_id=?", found[0][1])[
                0
            ][0],
            "<f4",
        )
        @ vector,
        abs=1e-6,
    )


def test_text(database, connect, tiny_model):
    import open_clip
    import torch

    model = open_clip.create_model(f"local-dir:{tiny_model}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_model}")(["dog on beach"])
    with torch.inference_mode():
        vector = model.encode_text(tokens, normalize=True)[0].numpy()
    found = connect(database).execute("select id from clip_search('dog on beach', 5)").fetchall()
    assert [image for (image,) in found] == brute_force(database, vector, 5)


def test_id_finds_the_others(database, connect):
    connection = connect(database)
    sql = "select embedding from clip_embeddings where image_id = 7"
    vector = np.frombuffer(rows(database, sql)[0][0], "<f4")
    found = [image for (image,) in connection.execute("select id from clip_search(7, 5)")]
    assert found == [image for image in brute_force(database, vector, 6) if image != 7]
    everything = connection.execute("select count(*) from clip_search(7, 1000)").fetchone()
    assert everything == (59,)


def test_picture_bytes_find_the_picture(database, connect):
    data = (database.parent / "pictures" / "33.png").read_bytes()
    sql = "select path, score from clip_search(?, 1)"
    path, score = connect(database).execute(sql, [data]).fetchone()
    assert path == "pictures/33.png"
    assert score == pytest.approx(1, abs=1e-5)


def test_default_k_and_limit(database, connect):
    connection = connect(database)

    def count(sql: str) -> int:
        return len(connection.execute(sql).fetchall())

    assert count("select * from clip_search(1)") == 10
    assert count("select * from clip_search(1) limit 3") == 3
    assert count("select * from clip_search(1) limit 30") == 30
    assert count("select * from clip_search(1, 5) limit 30") == 5
    assert count("select * from clip_search(1) where score < 2 limit 3") == 3


def test_joins(database, connect):
    connection = connect(database)
    joined = connection.execute(
        "select s.id, images.id, s.path, images.path, width from clip_search(1, 5) s "
        "join images using (id)"
    ).fetchall()
    assert len(joined) == 5
    assert all(row[0] == row[1] and row[2] == row[3] and row[4] == 64 for row in joined)
    # The three pictures nearest to each of the first four, in one statement.
    correlated = connection.execute(
        "select images.id, s.rank, s.id from images, clip_search(images.id, 3) s "
        "where images.id <= 4 order by images.id, s.rank"
    ).fetchall()
    for image in range(1, 5):
        alone = connection.execute("select id from clip_search(?, 3)", [image]).fetchall()
        assert [(found,) for first, _, found in correlated if first == image] == alone
    both = connection.execute(
        "select a.id from clip_search(1, 20) a join clip_search(2, 20) b using (id) order by a.id"
    ).fetchall()
    first = {row[0] for row in connection.execute("select id from clip_search(1, 20)")}
    second = {row[0] for row in connection.execute("select id from clip_search(2, 20)")}
    assert {row[0] for row in both} == first & second


def test_json(database, connect):
    connection = connect(database)
    text = connection.execute("select clip_search_json(1, 4)").fetchone()[0]
    table = connection.execute("select * from clip_search(1, 4)").fetchall()
    assert [tuple(hit.values()) for hit in json.loads(text)] == table
    assert list(json.loads(text)[0]) == ["rank", "id", "path", "score", "z_score"]
    assert len(json.loads(connection.execute("select clip_search_json(1)").fetchone()[0])) == 10


NAN = struct.pack("<16f", float("nan"), *[0] * 15)
HUGE = struct.pack("<16f", *[3e38] * 16)


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        ("x" * 2001, 10, "The query has 2001 characters and the limit is 2000"),
        (999, 10, "There is no picture with the id 999 in images"),
        (-1, 10, "There is no picture with the id -1 in images"),
        (1.5, 10, "The query 1.5 is a float. Expected words (text), the id of a picture"),
        (b"", 10, "neither an embedding of tiny, which has 64 bytes, nor a picture"),
        (b"x" * 63, 10, "The blob of 63 bytes is neither"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 10, "neither an embedding"),
        (NAN, 10, "The embedding holds a number that is not finite"),
        (bytes(64), 10, "The embedding is all zeros"),
        ("dog", -1, "k must be 0 or more, but it is -1"),
        ("dog", None, "k must be a whole number, the most rows wanted, but it is NULL"),
        ("dog", "1_0", "k must be a whole number, the most rows wanted, but it is '1_0'"),
        ("dog", "9" * 4000, "k must be a whole number"),
        ("dog", "many", "k must be a whole number, the most rows wanted, but it is 'many'"),
        ("dog", 2.5, "k must be a whole number, the most rows wanted, but it is 2.5"),
        ("dog", b"1", "k must be a whole number, the most rows wanted, but it is a blob"),
        ("dog", 10**9, "k is too large: provided 1000000000 and the limit is 1000000"),
        ("dog", float("inf"), "k must be a whole number"),
    ],
)
def test_bad_input(database, connect, query, k, message):
    connection = connect(database)
    for sql in ("select * from clip_search(?, ?)", "select clip_search_json(?, ?)"):
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute(sql, [query, k]).fetchall()
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("query", "k", "count"),
    [
        (None, 10, 0),
        ("dog", 0, 0),
        (None, 0, 0),
        ("dog", "3", 3),
        ("dog", 3.0, 3),
        (HUGE, 2, 2),
        ("<end_of_text>", 2, 2),
        ("a\0b", 2, 2),
        ("🐕" * 200, 2, 2),
    ],
)
def test_odd_input_has_an_answer(database, connect, query, k, count):
    connection = connect(database)
    assert (
        len(connection.execute("select * from clip_search(?, ?)", [query, k]).fetchall()) == count
    )


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=80),
    st.binary(min_size=64, max_size=64),
)


@settings(max_examples=200, deadline=None)
@given(query=VALUES, k=VALUES)
def test_any_input_has_an_answer_or_a_message(database, query, k):
    from datasette_clip_search.sql import add_functions

    connection = sqlite3.connect(database)
    add_functions(connection)
    try:
        found = connection.execute("select * from clip_search(?, ?)", [query, k]).fetchall()
    except sqlite3.OperationalError as error:
        assert "clip_search failed" not in str(error)
        assert len(str(error)) > 20
    else:
        arguments = (query, k)
        if any(each is None or (isinstance(each, str) and not each.strip()) for each in arguments):
            assert not found
        else:
            assert len(found) <= int(k)
    finally:
        connection.close()


@pytest.mark.parametrize("blank", [None, "", " \t\n"])
def test_blank_arguments_have_no_answers(database, connect, blank):
    """Datasette sends blanks for parameters not filled in; a blank model means the default."""
    connection = connect(database)
    for arguments in ([blank, 3], [blank, blank or ""], ["dog", blank or ""]):
        assert connection.execute("select * from clip_search(?, ?)", arguments).fetchall() == []
        sql = "select clip_search_json(?, ?)"
        assert connection.execute(sql, arguments).fetchone() == ("[]",)
    sql = "select count(*) from clip_search('dog', 3, ?)"
    assert connection.execute(sql, [blank]).fetchone() == (3,)
    sql = "select count(*) from clip_search(cast(? as integer), 3)"
    assert connection.execute(sql, [blank]).fetchone() == (0,)


def test_an_empty_query_is_an_error_of_the_library(database, connect):
    from datasette_clip_search.common.errors import QueryError
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.search.nearest import search

    connection = connect(database)
    table, model = default_model(connection)
    for query in ("", " \t\n"):
        with pytest.raises(QueryError, match=r"^The query is empty\. Give it words, such as"):
            search(connection, model, table, query)


def test_no_embeddings(tmp_path, connect):
    connection = connect(tmp_path / "empty.db")
    for sql in ("select * from clip_search('dog')", "select clip_search_json('dog')"):
        with pytest.raises(sqlite3.OperationalError, match="sqlite-utils embed-images DATABASE"):
            connection.execute(sql).fetchall()


def test_missing_query(database, connect):
    with pytest.raises(sqlite3.OperationalError, match="query"):
        connect(database).execute("select * from clip_search").fetchall()


def test_same_answers_without_the_index_file(database, connect, tmp_path):
    copy = tmp_path / "photos.db"
    shutil.copy(database, copy)
    sql = "select rank, id, score from clip_search(?, 60)"
    with_index = connect(database).execute(sql, ["dog"]).fetchall()
    uri = f"file:{copy}?mode=ro&immutable=1"
    assert connect(uri, uri=True).execute(sql, ["dog"]).fetchall() == with_index
    assert not list(tmp_path.glob("*.faiss"))


def test_changes_are_found_at_once(tiny_database, pictures, connect):
    connection = connect(tiny_database)
    sql = "select path from clip_search('dog', 100)"
    assert len(connection.execute(sql).fetchall()) == 6
    make_picture(pictures / "new.png", 50)
    run("embed-images", tiny_database, pictures)
    assert ("pictures/new.png",) in connection.execute(sql).fetchall()
    with sqlite3.connect(tiny_database) as other:
        other.execute("delete from images where path = 'pictures/a.jpg'")
    other.close()
    found = connection.execute(sql).fetchall()
    assert len(found) == 6
    assert ("pictures/a.jpg",) not in found


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"\0" * len(data),
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: b"not an index at all, but a long enough text to look at",
    ],
)
def test_damaged_index_is_not_trusted(tiny_database, connect, damage, caplog):
    expected = connect(tiny_database).execute("select id from clip_search('dog')").fetchall()
    copy = tiny_database.with_name("copy.db")
    shutil.copy(tiny_database, copy)
    index = tiny_database.with_name("photos.db.clip-1.faiss").read_bytes()
    copy.with_name("copy.db.clip-1.faiss").write_bytes(damage(index))
    assert connect(copy).execute("select id from clip_search('dog')").fetchall() == expected
    assert "Not using the index copy.db.clip-1.faiss" in caplog.text


def test_threads(database):
    from datasette_clip_search.sql import add_functions

    answers, errors = [], []

    def work() -> None:
        try:
            connection = sqlite3.connect(database)
            add_functions(connection)
            for image in range(1, 21):
                sql = "select id from clip_search(?, 5)"
                answers.append((image, connection.execute(sql, [image]).fetchall()))
            connection.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(answers) == 160
    for image in range(1, 21):
        assert len({str(found) for other, found in answers if other == image}) == 1


def test_weights_that_changed_are_refused(tiny_database, tiny_model, other_model, connect):
    moved = tiny_database.parent / "weights"
    shutil.copytree(tiny_model, moved)
    without = ["--text-tower", "none"]
    run("embed-images", tiny_database, tiny_database.parent, "--pretrained", moved, *without)
    for file in other_model.iterdir():
        shutil.copy(file, moved)
    code = (
        "import sqlite3; from datasette_clip_search.sql import add_functions\n"
        f"connection = sqlite3.connect({str(tiny_database)!r}); add_functions(connection)\n"
        "print(len(connection.execute('select * from clip_search(1)').fetchall()))\n"
        "try: connection.execute(\"select * from clip_search('dog')\").fetchall()\n"
        "except sqlite3.OperationalError as error: print(error)"
    )

    def fresh() -> str:
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    # The id of a picture needs no weights; words need the right ones.
    others = fresh()
    assert others.startswith("5\nThe weights of tiny are not where they were")
    (moved / "open_clip_model.safetensors").write_bytes(b"broken")
    with sqlite3.connect(tiny_database) as other:
        from datasette_clip_search.models.checkpoint import compute_fingerprint, resolve

        new = compute_fingerprint(resolve(None, str(moved)))
        other.execute("update clip_models set fingerprint = ?", [new])
    other.close()
    # The message is the same for all three cases.
    assert fresh() == others
    shutil.rmtree(moved)
    assert fresh() == others
    assert str(tiny_database.parent) not in others


def test_stored_vectors_that_are_damaged(tiny_database, connect):
    with sqlite3.connect(tiny_database) as other:
        other.execute("update clip_embeddings set embedding = x'00' where image_id = 3")
    other.close()
    with pytest.raises(sqlite3.OperationalError, match="picture 3 is not 64 bytes long"):
        connect(tiny_database).execute("select * from clip_search(1)").fetchall()


def test_newer_release_is_reported(tiny_database, connect):
    with sqlite3.connect(tiny_database) as other:
        other.execute(
            "insert into _sqlite_migrations (migration_set, name, applied_at) "
            "values ('datasette_clip_search', 'm999_from_the_future', '')"
        )
    other.close()
    with pytest.raises(sqlite3.OperationalError, match="written by a newer release"):
        connect(tiny_database).execute("select * from clip_search(1)").fetchall()
    refused = run("embed-images", tiny_database, tiny_database.parent)
    assert "pip install --upgrade datasette-clip-search" in refused.stderr


def test_where_sqlite_cannot_be_reached(database, connect, monkeypatch):
    """clip_search_json still works, with the error messages that Python allows."""
    from datasette_clip_search import sql

    def refuse(*arguments: object, **options: object) -> None:
        raise sql.NativeUnavailable("for this test")

    expected = connect(database).execute("select clip_search_json(1, 3)").fetchone()
    monkeypatch.setattr(sql, "register", refuse)
    connection = connect(database)
    assert connection.execute("select clip_search_json(1, 3)").fetchone() == expected
    assert len(connection.execute("select clip_search_json(1)").fetchone()[0]) > 10
    with pytest.raises(sqlite3.OperationalError, match="user-defined function raised exception"):
        connection.execute("select clip_search_json('dog', -3)")
    with pytest.raises(sqlite3.OperationalError, match="no such table: clip_search"):
        connection.execute("select * from clip_search(1)")


def test_functions_are_not_added_twice(database, connect):
    """A connection may be prepared by Datasette and then by sqlite-utils."""
    from datasette_clip_search.sql import add_functions

    connection = connect(database)
    connection.create_function("clip_search_json", 2, lambda query, k: "mine")
    add_functions(connection)
    assert connection.execute("select clip_search_json('dog', 1)").fetchone() == ("mine",)


@pytest.mark.parametrize("count", [0, 1, 5, 20, 60])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_within_some_pictures(database, connect, count, k):
    """The k nearest of these; unknown ids are ignored."""
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.search.nearest import search

    connection = connect(database)
    table, model = default_model(connection)
    rng = np.random.default_rng(count)
    vector = rng.normal(size=16).astype("<f4")
    within = {int(id) for id in rng.choice(np.arange(1, 61), count, replace=False)}
    expected = [id for id in brute_force(database, vector, 60) if id in within][:k]
    hits = list(
        search(connection, model, table, vector.tobytes(), k, within=within | {0, 61, 2**62})
    )
    assert [hit.id for hit in hits] == expected
    assert [hit.rank for hit in hits] == list(range(1, len(expected) + 1))
    if 7 in within:
        others = list(search(connection, model, table, 7, k, within=within))
        assert len(others) == min(k, count - 1)
        assert 7 not in {hit.id for hit in others}
