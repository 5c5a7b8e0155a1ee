"""clip_tags: its probabilities against open_clip, its meaning, and its errors."""

import csv
import json
import sqlite3
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_clip_search.search import tags
from support.databases import rows
from support.paths import DEMO_MODEL, DEMO_PICTURES, ROOT

pytest.importorskip("open_clip")

PETS = '["dog", "cat", "rabbit"]'


@pytest.fixture
def demo(demo_database, connect):
    return connect(demo_database)


@pytest.fixture
def tell(demo):
    """Return the rows of clip_tags()."""

    def tell(*arguments: object) -> list[tuple]:
        places = ", ".join("?" * len(arguments))
        return demo.execute(f"select * from clip_tags({places})", arguments).fetchall()

    return tell


@pytest.fixture(scope="module")
def truth():
    with open(ROOT / "demo" / "pictures.csv", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def name_of(path: str) -> str:
    return Path(path).relative_to(DEMO_PICTURES).as_posix()


def test_same_as_open_clip(tell, demo_database):
    """The vector of a label is the mean of its prompts' vectors, and the softmax is the model's."""
    import open_clip
    import torch

    model = open_clip.create_model(f"local-dir:{DEMO_MODEL}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{DEMO_MODEL}")
    sql = "select embedding from clip_embeddings where image_id = 5"
    picture = torch.tensor(struct.unpack("<128f", rows(demo_database, sql)[0][0]))
    labels = ["dog", "pizza {}", "{0} on the beach"]
    with torch.inference_mode():
        vectors = []
        for label in labels:
            prompts = [template.replace("{}", label) for template in tags.TEMPLATES]
            mean = model.encode_text(tokenizer(prompts), normalize=True).mean(dim=0)
            vectors.append(mean / mean.norm())
        cosines = torch.stack(vectors) @ picture
        probabilities = (model.logit_scale.exp() * cosines).softmax(dim=0)
    expected = {
        label: (float(probability), float(cosine))
        for label, probability, cosine in zip(labels, probabilities, cosines, strict=True)
    }
    found = tell(5, json.dumps(labels))
    assert {label: tuple(numbers) for _, label, *numbers in found} == {
        label: pytest.approx(numbers, abs=1e-5) for label, numbers in expected.items()
    }
    assert [rank for rank, *_ in found] == [1, 2, 3]
    assert sum(probability for _, _, probability, _ in found) == pytest.approx(1)
    assert found == sorted(found, key=lambda row: -row[2])


def test_tags_name_things_and_places(demo, truth):
    """Of all things and places of the demo, the first label is the right one."""
    for column, at_least in (("thing", 0.85), ("place", 0.95)):
        labels = json.dumps(sorted({row[column] for row in truth.values() if row[column]}))
        sql = """select images.path, label
            from images join clip_tags(images.id, ?) where rank = 1"""
        told = {name_of(path): label for path, label in demo.execute(sql, [labels])}
        assert told.keys() == truth.keys()
        right = [told[file] == row[column] for file, row in truth.items() if row[column]]
        assert len(right) > 100
        assert sum(right) / len(right) >= at_least


def test_more_probable_where_it_is_so(demo, truth):
    sql = """select images.path, probability from images
        join clip_tags(images.id, '["snow", "beach", "city"]') where label = 'snow'"""
    probable = {name_of(path): probability for path, probability in demo.execute(sql)}
    snow = [probable[file] for file, row in truth.items() if row["place"] == "snow"]
    beach = [probable[file] for file, row in truth.items() if row["place"] == "beach"]
    assert min(snow) > 0.5 > max(beach)


def test_counted_by_label(demo, truth):
    places = sorted({row["place"] for row in truth.values()})
    counts = demo.execute(
        """select label, count(*) from images join clip_tags(images.id, ?)
        where rank = 1 group by label""",
        [json.dumps(places)],
    )
    expected = Counter(row["place"] for row in truth.values())
    assert sum(abs(count - expected[label]) for label, count in counts) <= 4


def test_labels_of_rows(demo):
    """Labels can come from a table, and a picture from a search."""
    found = demo.execute(
        """with words(word) as (values ('forest'), ('beach'), ('city'))
        select label, s.rank from clip_search('a dog on the beach', 2) s
        join clip_tags(s.id, (select json_group_array(word) from words)) t
        where t.rank = 1 order by s.rank"""
    ).fetchall()
    assert found == [("beach", 1), ("beach", 2)]


def test_every_kind_of_query(tell, demo_database):
    sql = "select embedding from clip_embeddings where image_id = 5"
    [[vector]] = rows(demo_database, sql)
    assert tell(vector, PETS) == tell(5, PETS)
    [[path]] = rows(demo_database, "select path from images where id = 5")
    file = tell((demo_database.parent / path).read_bytes(), PETS)
    assert [label for _, label, *_ in file] == [label for _, label, *_ in tell(5, PETS)]
    (rank, label, probability, _), *_ = tell("a kitten", PETS)
    assert (rank, label) == (1, "cat")
    assert probability > 0.5


def test_one_label_is_certain(tell):
    [(rank, label, probability, score)] = tell(5, '["  dog\\n"]')
    assert (rank, label, probability) == (1, "dog", 1.0)
    assert -1 < score < 1


def test_labels_that_are_one_text_to_the_model_share(tell):
    """The tokenizer ignores case."""
    found = tell(5, '["DOG", "dog", "Dog"]')
    assert [probability for _, _, probability, _ in found] == pytest.approx([1 / 3] * 3)


def test_nulls_have_no_rows(demo, tell):
    assert tell(None, PETS) == tell(5, None) == tell(None, None) == []
    with pytest.raises(sqlite3.OperationalError, match="needs labels_json: select"):
        demo.execute("select * from clip_tags(5)").fetchall()


def test_most_labels(tell):
    labels = [f"{number:03}".ljust(100, "é") for number in range(100)]
    found = tell(5, json.dumps(labels, indent=9))
    assert sorted(label for _, label, *_ in found) == labels


WANTED = """labels_json must be a JSON array of texts, such as '["dog", "cat"]', but """


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("dog, cat", WANTED + "'dog, cat' is not JSON"),
        ("['dog']", WANTED + "\"['dog']\" is not JSON"),
        ('["a\0b"]', " is not JSON"),
        ("[" * 100_000, WANTED + "'" + "[" * 39 + " is not JSON"),
        ("[" + "9" * 5000 + "]", " is not JSON"),
        ('{"dog": 1}', WANTED + """'{"dog": 1}' is not an array"""),
        ('"dog"', WANTED + """'"dog"' is not an array"""),
        ("null", WANTED + "'null' is not an array"),
        ("[]", WANTED + "the array is empty"),
        ('["dog", 5]', WANTED + "number 2 is 5"),
        ("[null]", WANTED + "number 1 is null"),
        ("[NaN]", WANTED + "number 1 is NaN"),
        ('[["dog"]]', WANTED + 'number 1 is ["dog"]'),
        (7, WANTED + "it is 7"),
        (b'["dog"]', WANTED + "it is a blob"),
        ('["dog", ""]', "Label number 2 is blank. Give it words, such as 'dog'"),
        ('[" \\t\\u3000"]', "Label number 1 is blank"),
        ('["dog", "cat", " dog"]', "The label dog is given twice. Give every label once"),
        ('["a\\u0000b"]', "Label number 1 contains a NUL character"),
        ('["dog", "\\ud83d"]', "Label number 2 contains half of a surrogate pair"),
        (json.dumps(["x" * 101]), "Label number 1 has 101 characters and the limit is 100"),
        (json.dumps([str(n) for n in range(101)]), "There are 101 labels and the limit is 100"),
        (" " * 120_000 + "[]", "labels_json has 120002 characters of JSON and the limit is 120000"),
    ],
)
def test_bad_labels(tell, labels, message):
    for query in (5, None):
        with pytest.raises(sqlite3.OperationalError) as caught:
            tell(query, labels)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("query", "model", "message"),
    [
        (9999, None, "There is no picture with the id 9999 in images"),
        (1.5, None, "The query 1.5 is a float"),
        (b"x", None, "The blob of 1 bytes is neither an embedding of demo"),
        (bytes(512), None, "The embedding is all zeros"),
        (5, "ViT-B-32", "There is no model 'ViT-B-32' in this database. It has, by id and name: 1"),
        (None, 2, "There is no model 2 in this database"),
    ],
)
def test_bad_queries_and_models(tell, query, model, message):
    with pytest.raises(sqlite3.OperationalError) as caught:
        tell(query, PETS, model)
    assert message in str(caught.value)
    assert str(DEMO_MODEL) not in str(caught.value)


def test_model_by_name(tell):
    assert tell(5, PETS, "demo") == tell(5, PETS, 1) == tell(5, PETS)


def test_no_embeddings(tmp_path, connect):
    with pytest.raises(sqlite3.OperationalError, match="holds no embeddings"):
        connect(tmp_path / "empty.db").execute(f"select * from clip_tags(1, '{PETS}')").fetchall()


def test_limit_of_time_is_kept(demo):
    """A time limit can end a statement while labels are encoded; the encoded ones are cached."""
    sql = "select count(*) from clip_tags(5, ?)"
    labels = json.dumps([f"label to be stopped at {number}" for number in range(20)])
    calls: list[int] = []

    def stop_at_the_second(limit: int = 20) -> bool:
        calls.append(1)
        return len(calls) > limit

    demo.set_progress_handler(stop_at_the_second, 1000)
    attempts = 0
    found = None
    while found is None:
        calls.clear()
        attempts += 1
        assert attempts < 20
        try:
            found = demo.execute(sql, [labels]).fetchone()
        except sqlite3.OperationalError as error:
            assert str(error) == "interrupted"
    demo.set_progress_handler(None, 0)
    assert found == (20,)
    assert attempts > 1


@settings(max_examples=60, deadline=None)
@given(
    labels=st.one_of(
        st.lists(st.text(max_size=8), min_size=1, max_size=3).map(json.dumps),
        st.text(max_size=20),
        st.binary(max_size=5),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps),
    )
)
def test_any_labels_have_an_answer_or_a_message(demo_database, labels):
    from datasette_clip_search.sql import add_functions

    connection = sqlite3.connect(demo_database)
    add_functions(connection)
    try:
        found = connection.execute("select * from clip_tags(1, ?)", [labels]).fetchall()
    except sqlite3.OperationalError as error:
        assert "clip_tags failed" not in str(error)
        assert len(str(error)) > 20
    else:
        if not labels.strip():
            assert found == []
            return
        assert {label for _, label, *_ in found} == {label.strip() for label in json.loads(labels)}
        assert np.isclose(sum(probability for _, _, probability, _ in found), 1)
    finally:
        connection.close()
