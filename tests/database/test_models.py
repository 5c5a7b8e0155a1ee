"""Several models in one database: the right one answers, and never the others' vectors."""

import re
import shlex
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.databases import change, rows
from support.models import make_model
from support.pictures import make_picture
from support.web import PAGE, images

pytest.importorskip("open_clip")

# The first two models make vectors of one length, so only their ids tell them apart.
DIMENSIONS = {"first": 16, "second": 16, "wide": 24}
NAMES = ["first", "second", "wide"]
PICTURES = {"first": range(1, 8), "second": range(4, 11), "wide": range(2, 12)}
"""The ids of the pictures that each model has embedded."""

LISTED = "It has, by id and name: 1 first, 2 second, 3 wide"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eleven pictures, three models and their database, to be copied only."""
    folder = tmp_path_factory.mktemp("several")
    for number in range(1, 12):
        make_picture(folder / "pictures" / f"{number:02}.png", number)
    for seed, (name, dimension) in enumerate(DIMENSIONS.items()):
        model = make_model(folder / "weights" / name, seed, dimension)
        files = [folder / "pictures" / f"{number:02}.png" for number in PICTURES[name]]
        result = run("embed-images", folder / "photos.db", *files, "--pretrained", model)
        assert result.exit_code == 0, result.output
    sql = "select id, path from images order by id"
    assert rows(folder / "photos.db", sql) == [(n, f"pictures/{n:02}.png") for n in range(1, 12)]
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "several")
    return tmp_path / "several"


@pytest.fixture
def database(folder):
    return folder / "photos.db"


@pytest.fixture
def ask(database, connect):
    connection = connect(database)

    def ask(sql: str, *parameters: object) -> list[tuple]:
        return connection.execute(sql, parameters).fetchall()

    return ask


def stored(database: Path, model: str) -> tuple[list[int], np.ndarray]:
    sql = """select image_id, embedding from clip_embeddings join clip_models m on m.id = model_id
        where name = ? order by image_id"""
    found = rows(database, sql, model)
    return [image for image, _ in found], np.array([np.frombuffer(v, "<f4") for _, v in found])


def nearest(database: Path, model: str, image: int) -> list[int]:
    """Return the other pictures of a model, the nearest to one of them first."""
    ids, vectors = stored(database, model)
    scores = vectors @ vectors[ids.index(image)]
    return [ids[place] for place in np.argsort(-scores) if ids[place] != image]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("by", ["id", "text of id", "name"])
def test_each_model_finds_its_own_pictures(database, ask, name, by):
    number = NAMES.index(name) + 1
    model = {"id": number, "text of id": str(number), "name": name}[by]
    for image in PICTURES[name]:
        found = [id for (id,) in ask("select id from clip_search(?, 100, ?)", image, model)]
        assert found == nearest(database, name, image)
    found = ask("select id from clip_search('dog', 100, ?)", model)
    assert {id for (id,) in found} == set(PICTURES[name])


def test_words_are_encoded_by_the_model_that_is_asked(ask):
    vectors = [ask("select clip_vector('dog', ?)", name)[0][0] for name in NAMES]
    assert [len(vector) // 4 for vector in vectors] == list(DIMENSIONS.values())
    assert len(set(vectors)) == 3
    [[default]] = ask("select clip_vector('dog')")
    assert default == vectors[0]
    ids, own = stored(Path(ask("pragma database_list")[0][2]), "second")
    [[similarity]] = ask("select clip_similarity('dog', 5, 2)")
    expected = np.frombuffer(vectors[1], "<f4") @ own[ids.index(5)]
    assert similarity == pytest.approx(float(expected), abs=1e-6)


def test_labels_are_encoded_by_the_model_that_is_asked(ask):
    """Also if another model was asked about the same labels before."""
    sql = 'select label, score from clip_tags(5, \'["dog", "cat"]\', ?) order by label'
    scores = [tuple(ask(sql, name)) for name in NAMES]
    assert len(set(scores)) == 3
    assert [tuple(ask(sql, name)) for name in NAMES] == scores


def test_models_in_one_statement(database, ask):
    """Two models search for the same words, and for pictures like the same one."""
    sql = """select a.id from clip_search('dog', 100, 'first') a
        join clip_search('dog', 100, 'second') b using (id) order by id"""
    assert [id for (id,) in ask(sql)] == [4, 5, 6, 7]
    sql = """select m.name, s.id from clip_models m, clip_search(5, 2, m.id) s
        order by m.id, s.rank"""
    expected = [(name, id) for name in NAMES for id in nearest(database, name, 5)[:2]]
    assert ask(sql) == expected


def test_vectors_of_another_length_are_refused(ask):
    with pytest.raises(sqlite3.OperationalError) as caught:
        ask("select * from clip_search(clip_vector('dog', 'wide'))")
    assert "The blob of 96 bytes is neither an embedding of first, which has 64 bytes" in str(
        caught.value
    )
    with pytest.raises(sqlite3.OperationalError, match="an embedding of wide, which has 96 bytes"):
        ask("select clip_similarity(5, clip_vector('dog', 'first'), 'wide')")


@pytest.mark.parametrize(
    ("image", "model", "message"),
    [
        (1, "second", "The picture 1 is not embedded by second"),
        (11, None, "The picture 11 is not embedded by first"),
        (99, "second", "There is no picture with the id 99 in images"),
    ],
)
def test_pictures_of_another_model_are_no_query(ask, image, model, message):
    for sql in (
        "select * from clip_search(?, 10, ?)",
        "select clip_vector(?, ?)",
        "select * from clip_tags(?, '[\"dog\"]', ?)",
    ):
        with pytest.raises(sqlite3.OperationalError, match=message):
            ask(sql, image, model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("third", f"There is no model 'third' in this database. {LISTED}"),
        (4, f"There is no model 4 in this database. {LISTED}"),
        (-1, f"There is no model -1 in this database. {LISTED}"),
        ("FIRST", f"There is no model 'FIRST' in this database. {LISTED}"),
        (1.5, f"There is no model 1.5 in this database. {LISTED}"),
        (b"first", f"There is no model b'first' in this database. {LISTED}"),
        ("./weights/first", f"There is no model './weights/first' in this database. {LISTED}"),
        ("x" * 10_000, f"There is no model 'xxx{'x' * 76} in this database. {LISTED}"),
    ],
)
def test_unknown_models_list_the_known_ones(database, ask, model, message):
    for sql in (
        "select * from clip_search(1, 10, ?)",
        "select clip_search_json(1, 10, ?)",
        "select clip_vector(1, ?)",
        "select clip_similarity(1, 2, ?)",
        "select * from clip_tags(1, '[\"dog\"]', ?)",
        "select * from clip_duplicates(0.9, ?)",
    ):
        with pytest.raises(sqlite3.OperationalError) as caught:
            ask(sql, model)
        assert str(caught.value) == message
        assert str(database.parent) not in str(caught.value)


def test_names_of_several_are_refused(database, ask):
    change(database, "update clip_models set name = 'ViT-B-32', pretrained = 'tag-' || id")
    change(database, "update clip_models set pretrained = '/srv/private/weights' where id = 3")
    which = "1 ViT-B-32 (tag-1), 2 ViT-B-32 (tag-2), 3 ViT-B-32"
    with pytest.raises(sqlite3.OperationalError) as caught:
        ask("select * from clip_search(5, 10, 'ViT-B-32')")
    assert str(caught.value) == (
        "Several models are called 'ViT-B-32' in this database; give the id of one. "
        f"It has, by id and name: {which}"
    )
    by_label = ask("select id from clip_search(5, 100, 'ViT-B-32 (tag-2)')")
    assert by_label == ask("select id from clip_search(5, 100, 2)")
    assert {id for (id,) in by_label} == set(PICTURES["second"]) - {5}
    with pytest.raises(sqlite3.OperationalError, match=re.escape(which)):
        ask("select * from clip_search(5, 10, 'ViT-B-32 (/srv/private/weights)')")


def test_names_that_are_ids_of_others_are_refused(database, ask):
    change(database, "update clip_models set name = '2' where id = 1")
    with pytest.raises(sqlite3.OperationalError, match="Several models are called '2'"):
        ask("select * from clip_search(5, 10, '2')")
    found = {id for (id,) in ask("select id from clip_search(5, 100, 2)")}
    assert found == set(PICTURES["second"]) - {5}


@pytest.mark.parametrize(
    ("statement", "default"),
    [
        ("select 1", "first"),
        ("update clip_models set is_default = (id = 2)", "second"),
        ("update clip_models set is_default = (id = 3)", "wide"),
        ("update clip_models set is_default = 0", "first"),
        ("update clip_models set is_default = (id > 1)", "second"),
        ("update clip_models set is_default = 1", "first"),
        ("delete from clip_models where id = 1", "second"),
        ("delete from clip_models where id = 3", "first"),
    ],
)
def test_default(database, ask, statement, default):
    """The marked model, or else the one added first; changes count at once."""
    assert len(ask("select * from clip_search('dog', 100)")) == len(PICTURES["first"])
    change(database, statement)
    found = [id for (id,) in ask("select id from clip_search(5, 100)")]
    assert found == nearest(database, default, 5)
    assert {id for (id,) in ask("select id from clip_search('dog', 100)")} == {5, *found}


def test_no_model_left(database, ask):
    change(database, "delete from clip_models")
    with pytest.raises(sqlite3.OperationalError, match="This database holds no embeddings"):
        ask("select * from clip_search('dog')")


def test_new_models_do_not_inherit(folder, database, ask):
    """A model that gets the id of a deleted one inherits none of its vectors."""
    change(database, "delete from clip_models where id = 3")
    assert len(rows(database, "select 1 from clip_embeddings where model_id = 3")) == 10
    fourth = make_model(folder / "weights" / "fourth", 3, 24)
    result = run("embed-images", database, folder / "pictures" / "02.png", "--pretrained", fourth)
    assert re.search(r"Embedded: +1\n", result.stdout)
    assert rows(database, "select id from clip_models where name = 'fourth'") == [(3,)]
    assert ask("select id from clip_search('dog', 100, 'fourth')") == [(2,)]


def test_a_model_added_again_embeds_again(folder, database, ask):
    before = ask("select clip_vector(5, 'wide')")
    change(database, "delete from clip_models where id = 3")
    run("embed-images", database, folder / "pictures", "--pretrained", folder / "weights" / "wide")
    assert len(ask("select * from clip_search('dog', 100, 'wide')")) == 11
    [[again]], [[first]] = ask("select clip_vector(5, 'wide')"), before
    assert np.allclose(np.frombuffer(again, "<f4"), np.frombuffer(first, "<f4"), atol=1e-5)


def test_runs_report_the_model_that_searches_use(folder, database, ask):
    """The command in the error makes it this one."""
    weights = folder / "weights" / "second"
    result = run("embed-images", database, folder / "pictures", "--pretrained", weights)
    [line] = re.findall(r"Searches: +(.*)\n", result.stdout)
    use, command = line.split(": ", 1)
    assert use == "use model 1, first, with 7 pictures; to use the model of this run, with 11"
    program, *arguments = shlex.split(command)
    assert program == "sqlite-utils"
    assert run(*arguments).exit_code == 0
    found = [id for (id,) in ask("select id from clip_search(5, 100)")]
    assert found == nearest(database, "second", 5)
    assert len(found) == 10
    # Without --model, a run uses the default model, too.
    result = run("embed-images", database, folder / "pictures")
    assert re.search("Model: +second\n", result.stdout)
    assert "Searches" not in result.stdout


async def test_search_page_uses_the_default(folder, database, serve, ask):
    site = serve(database)
    for name in ("first", "second"):
        change(database, f"update clip_models set is_default = (name = '{name}')")
        own = list(PICTURES[name])
        page = await site.client.get(PAGE)
        assert f"{len(own)} pictures, embedded by {name}" in page.text
        assert images(page) == [f"{PAGE}/thumbnail/{id}" for id in reversed(own)]
        body = (await site.client.get(f"{PAGE}.json?q=dog")).json()
        assert body["model"] == name
        found = ask("select id from clip_search('dog', 100, ?)", name)
        assert [result["id"] for result in body["results"]] == [id for (id,) in found]
        like = (await site.client.get(f"{PAGE}.json?like=5")).json()
        assert [result["id"] for result in like["results"]] == nearest(database, name, 5)
    refused = await site.client.get(f"{PAGE}.json?like=1")
    assert refused.status_code == 400
    assert refused.json()["error"] == "The picture 1 is not embedded by second"
