"""The command clip-search: the rows of the SQL function, mixed queries, and conditions."""

import csv
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from support.commands import run
from support.databases import rows
from support.paths import DEMO_PICTURES
from support.pictures import make_picture

pytest.importorskip("open_clip")


def search(database: Path, *arguments: object) -> list[dict]:
    result = run("clip-search", database, *map(str, arguments))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ids(database: Path, *arguments: object) -> list[int]:
    return [hit["id"] for hit in search(database, *arguments)]


def refused(database: Path, *arguments: object, code: int = 1) -> str:
    result = run("clip-search", database, *map(str, arguments))
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr.split("Error: ", 1)[1].strip()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--nl"],
        ["--arrays"],
        ["--csv"],
        ["--tsv", "--no-headers"],
        ["--table"],
        ["-t", "--no-headers"],
        ["--fmt", "github"],
        ["--json-cols", "--nl"],
        ["--ascii"],
    ],
)
def test_output_is_that_of_the_sql_function(demo_database, options):
    before = demo_database.read_bytes()
    result = run("clip-search", demo_database, "dog on beach", "-k", "3", *options)
    sql = "select * from clip_search('dog on beach', 3)"
    assert result.stdout == run("query", demo_database, sql, *options).stdout
    assert result.stdout.count("pictures/") == 3 or "pictures" not in str(demo_database)
    assert demo_database.read_bytes() == before


def test_no_more_than_there_are(demo_database):
    count = rows(demo_database, "select count(*) from images")[0][0]
    assert len(search(demo_database, "dog")) == 10
    assert len(search(demo_database, "dog", "-k", 100000)) == count
    assert search(demo_database, "dog", "-k", 0) == []


def test_like(demo_database, connect, monkeypatch, tmp_path):
    """By id, by stored path, and by any path of the file on disk."""
    image_id, path = rows(demo_database, "select id, path from images where path like '%0099%'")[0]
    expected = [
        image for (image,) in connect(demo_database).execute("select id from clip_search(155)")
    ]
    assert image_id == 155
    assert ids(demo_database, "--like", image_id) == expected
    assert ids(demo_database, "--like", path) == expected
    monkeypatch.chdir(DEMO_PICTURES / "old-disk")
    assert ids(demo_database, "--like", "../phone/received-0099.webp") == expected
    (tmp_path / "link").symlink_to(DEMO_PICTURES)
    assert ids(demo_database, "--like", tmp_path / "link/phone/received-0099.webp") == expected


def test_like_below_the_database(tiny_database, monkeypatch):
    monkeypatch.chdir(tiny_database.parent / "pictures" / "deep")
    [(image_id,)] = rows(tiny_database, "select id from images where path = 'pictures/deep/f.jpg'")
    assert ids("../../photos.db", "--like", "f.jpg") == ids(tiny_database, "--like", image_id)


def test_image(tiny_database, tmp_path):
    """In any format and size, also those that SQL functions refuse."""
    [(image_id, path)] = rows(tiny_database, "select id, path from images where path like '%b.png'")
    with Image.open(tiny_database.parent / path) as image:
        image.resize((3200, 2400), Image.Resampling.NEAREST).save(tmp_path / "large.tif")
    [first] = search(tiny_database, "--image", tmp_path / "large.tif", "-k", 1)
    assert first["id"] == image_id
    assert first["score"] == pytest.approx(1, abs=0.01)
    from sqlite_utils.cli import cli

    data = (tiny_database.parent / path).read_bytes()
    piped = ["clip-search", str(tiny_database), "--image", "-", "-k", "1"]
    [first] = json.loads(CliRunner().invoke(cli, piped, input=data).stdout)
    assert first["score"] == pytest.approx(1, abs=1e-5)


def test_mix_is_that_of_the_library(demo_database, connect):
    from datasette_clip_search.common.config import CONFIG
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.search.mix import mixed_vector

    connection = connect(demo_database)
    table, model = default_model(connection)
    terms = [("dog", 1.0), (104, 1.0), ("snow", 1.0), ("beach", -CONFIG.minus_weight)]
    vector = mixed_vector(connection, model, table, terms)
    found = search(
        demo_database, "dog", "--like", 104, "--plus", "snow", "--minus", "beach", "-k", 7
    )
    stored = rows(demo_database, "select image_id, embedding from clip_embeddings order by 1")
    scores = {image: float(np.frombuffer(blob, "<f4") @ vector) for image, blob in stored}
    del scores[104]
    assert [hit["id"] for hit in found] == sorted(scores, key=scores.get, reverse=True)[:7]
    assert [hit["rank"] for hit in found] == [1, 2, 3, 4, 5, 6, 7]
    assert found[0]["score"] == pytest.approx(scores[found[0]["id"]], abs=1e-6)


def test_minus_subtracts(demo_database):
    """The first dogs are on beaches; without beaches, they are still dogs."""
    with open(DEMO_PICTURES.parent / "pictures.csv", newline="") as file:
        facts = {Path(row["file"]).name: row for row in csv.DictReader(file)}

    def seen(*arguments: str) -> list[tuple[bool, bool]]:
        found = [facts[Path(hit["path"]).name] for hit in search(demo_database, *arguments)]
        return [("dog" in fact["caption"], "beach" in fact["caption"]) for fact in found]

    assert (True, True) in seen("dog", "-k", "5")
    without = seen("dog", "--minus", "beach", "-k", "5")
    assert not any(beach for _, beach in without)
    assert sum(dog for dog, _ in without) >= 3


def test_where_is_before_ranking(demo_database, connect):
    """All ten matches are found, although few of them are among the best without the condition."""
    sql = """select id from clip_search('dog on beach', 1000) join images using (id)
        where camera like :camera and taken >= '2023-07' order by rank limit 10"""
    parameters = {"camera": "%Pixel%"}
    expected = [image for (image,) in connect(demo_database).execute(sql, parameters)]
    assert len(expected) == 10
    assert len(set(expected).intersection(ids(demo_database, "dog on beach"))) < 5
    where = "camera like :camera and taken >= '2023-07' -- in summer"
    arguments = ["dog on beach", "--where", where, "-p", "camera", "%Pixel%"]
    assert ids(demo_database, *arguments) == expected
    mixed = ids(demo_database, "dog", "--like", expected[0], *arguments[1:])
    connection = connect(demo_database)
    some = {image for (image,) in connection.execute(
        "select id from images where camera like '%Pixel%' and taken >= '2023-07'")}  # fmt: skip
    assert len(mixed) == 10
    assert some.issuperset(mixed)
    assert expected[0] not in mixed
    assert ids(demo_database, "dog", "--where", "0") == []
    # A condition can call the SQL functions.
    unlike = "clip_similarity(id, 'snow') < 0.2"
    sql = f"select id from clip_search('dog', 1000) where {unlike} order by rank limit 10"
    expected = [image for (image,) in connection.execute(sql)]
    assert ids(demo_database, "dog", "--where", unlike) == expected != ids(demo_database, "dog")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("takn > 1", "no such column: takn. The columns of images are id, path, content_hash"),
        ("taken >", "incomplete input"),
        ("1=1) or (1=1", 'near ")": syntax error'),
        ("1 limit 3", 'near "limit": syntax error'),
        ("1); delete from images; select (1", 'near ")": syntax error'),
        ("1; delete from images", "one statement at a time"),
        ("camera = 'x", """unrecognized token: "'x\""""),
        ("camera = 'x\nand 1", "unrecognized token: \"'x …"),
        ("taken > :since", "binding parameter :since. Give it with -p since value"),
        ("taken > ?", "Use :name in its place, and give the value with -p name value"),
        (
            "score > 0.5",
            "score is a column of the result, not of images. Filter the result in SQL: ",
        ),
        ("1 and Z_score > 2", "Z_score is a column of the result, not of images"),
        ("clip_similarity(id, 1.5) > 0", "The query 1.5 is a float"),
    ],
)
def test_invalid_conditions(demo_database, where, message):
    said = refused(demo_database, "dog", "--where", where)
    assert said.startswith("--where cannot be run: ")
    assert message in said
    # The message quotes nothing of the statement around the condition.
    assert "\n" not in said


@pytest.mark.parametrize("where", ["", " \n", "-- taken > 1", "/* a */ -- b", "/* not closed"])
def test_empty_conditions(demo_database, where):
    said = refused(demo_database, "dog", "--where", where)
    assert said.startswith("--where is empty. Expected a condition on the columns of images")


def test_parameters(demo_database, connect):
    """Names are accepted with and without their colon."""
    where = ["dog", "--where", "id > :least and camera like @camera", "-p", "camera", "%Pixel%"]
    sql = """select id from clip_search('dog', 1000) join images using (id)
        where id > 90 and camera like '%Pixel%' order by rank limit 10"""
    expected = [image for (image,) in connect(demo_database).execute(sql)]
    assert len(expected) == 10
    assert ids(demo_database, *where, "-p", "least", 90) == expected
    assert ids(demo_database, *where, "-p", ":least", 90) == expected


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        (["--paths", "--csv"], "--paths", "--csv"),
        (["-0", "--no-headers"], "-0", "--no-headers"),
        (["--paths", "-0", "--show"], "--paths", "--show"),
        (["--show", "--fmt", "grid"], "--show", "--fmt"),
        (["--html", "-", "--ascii", "--nl"], "--html -", "--ascii"),
        (["--html", "-", "--paths"], "--html -", "--paths"),
        (["--html", "-", "--show", "--json-cols"], "--html -", "--show"),
    ],
)
def test_outputs_that_exclude_each_other(tiny_database, options, first, second):
    said = refused(tiny_database, "dog", *options, code=2)
    assert said == (
        f"{first} and {second} write different things to standard output. Give one of them"
    )


def test_parameters_without_a_condition(tiny_database):
    said = refused(tiny_database, "dog", "-p", "since", "2020", code=2)
    assert said == "-p sets the value of a :name in --where. Add --where"


def test_models(tiny_database, other_model):
    """By name or id; each model searches its own vectors."""
    other = ["--pretrained", other_model, "--model", "other"]
    assert run("embed-images", tiny_database, tiny_database.parent, *other).exit_code == 0
    first, second = (search(tiny_database, "--like", 1, "--model", model) for model in (1, 2))
    assert first == search(tiny_database, "--like", 1, "--model", "tiny")
    assert second == search(tiny_database, "--like", 1, "--model", "other")
    assert [hit["score"] for hit in first] != [hit["score"] for hit in second]
    said = refused(tiny_database, "dog", "--model", "ViT")
    assert said == (
        "There is no model 'ViT' in this database. It has, by id and name: 1 tiny, 2 other"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "The query is empty"),
        (["dog", "-k", "-1"], "k must be 0 or more, but it is -1"),
        (["dog", "--minus", "x", "-k", "1000001"], "k is too large: provided 1000001"),
        (["--like", "999"], "There is no picture with the id 999 in images"),
        (["--like", "deep/F.png"], "Did you mean pictures/deep/f.jpg?"),
        (["--like", "nowhere"], "List its paths: sqlite-utils rows "),
        (["--like", "NOTES"], "To search by a file that is not embedded: --image "),
        (["--like", ""], "--like is empty. Give the id or the path of a picture"),
        (["--image", ""], "--image is empty. Give a picture file, or - for standard input"),
        (["--image", "-"], "standard input is empty. Expected a picture"),
        (["--image", "nowhere.jpg"], "nowhere.jpg: No such file or directory"),
        (["--image", "NOTES"], "notes.txt: It is not a picture in a format that can be read"),
    ],
)
def test_invalid_queries(tiny_database, tmp_path, arguments, message):
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    arguments = [str(notes) if argument == "NOTES" else argument for argument in arguments]
    assert message in refused(tiny_database, *arguments)


@pytest.mark.parametrize("arguments", [[], ["--minus", "snow"], ["-k", "3"]])
def test_without_a_query(tiny_database, arguments):
    said = refused(tiny_database, *arguments, code=2)
    assert said.startswith(
        f"Say what to search for, such as: sqlite-utils clip-search {tiny_database} "
    )


def test_databases_that_cannot_be_searched(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.db", "dog", code=2)
    (tmp_path / "text.db").write_text("This is not a database" * 100)
    said = refused(tmp_path / "text.db", "dog")
    assert said == f"{tmp_path / 'text.db'} is not a SQLite database: file is not a database"
    sqlite3.connect(tmp_path / "empty.db").close()
    assert "holds no embeddings" in refused(tmp_path / "empty.db", "dog")


def test_words_that_are_a_file(tiny_database, monkeypatch):
    monkeypatch.chdir(tiny_database.parent / "pictures")
    result = run("clip-search", tiny_database, "a.jpg", "-k", "1")
    assert (
        result.stderr == "Searching for the words a.jpg. To search by the picture: --image a.jpg\n"
    )
    assert len(json.loads(result.stdout)) == 1


def paths(result: Result, end: str = "\n") -> list[str]:
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(end)
    return result.stdout.split(end)[:-1]


def test_paths_can_be_opened_from_here(tmp_path, tiny_model, monkeypatch):
    """Including names that look like two lines or like an option."""
    for seed, name in enumerate(["two\nlines.jpg", "-f.jpg", "an ö.jpg", "deep/a b.jpg"]):
        make_picture(tmp_path / "albums" / name, seed)
    make_picture(tmp_path / "elsewhere" / "e.jpg", 9)
    (tmp_path / "albums" / "here").mkdir()
    pictures = tmp_path / "albums", tmp_path / "elsewhere"
    database = tmp_path / "albums" / "photos.db"
    assert run("embed-images", database, *pictures, "--pretrained", tiny_model).exit_code == 0
    monkeypatch.setenv("CLIP_SEARCH_ORIGINALS", str(tmp_path / "elsewhere"))
    for folder, given in [
        ("albums", "photos.db"),
        ("albums/here", "../photos.db"),
        (".", database),
    ]:
        monkeypatch.chdir(tmp_path / folder)
        for nul in (["-0"], ["--paths", "--null"]):
            found = paths(run("clip-search", given, "dog", *nul), "\0")
            assert len(found) == 5
            assert all(os.path.isfile(path) and not path.startswith("-") for path in found)
    found = paths(run("clip-search", database, "dog", "--paths", "--where", "path like '%b.jpg'"))
    assert found == [str(tmp_path / "albums/deep/a b.jpg")]
    result = run("clip-search", database, "dog", "--paths")
    assert len(paths(result)) == 4
    assert "1 of 5 left out: their names contain a line break. Use -0" in result.stderr
    (tmp_path / "elsewhere" / "e.jpg").unlink()
    result = run("clip-search", database, "dog", "-0")
    assert len(paths(result, "\0")) == 4
    assert "1 of 5 left out: in an archive or a table, or deleted" in result.stderr
