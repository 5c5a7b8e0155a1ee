"""The keys of pictures from --sql: the row and table that each comes from."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from support.commands import run
from support.databases import rows
from support.embedding import embed
from support.paths import ROOT
from support.pictures import make_picture

pytest.importorskip("open_clip")
KEYS = "select path, key, key_table from images order by path"


@pytest.fixture
def photos(tmp_path):
    """A database with a table of files and one of blobs, with the same keys."""
    database = tmp_path / "photos.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("create table photos (id integer primary key, title, file)")
        connection.execute("create table scans (id integer primary key, title, data)")
        for key in range(1, 4):
            path = make_picture(tmp_path / "files" / f"{key}.png", key)
            row = (key, f"photo {key}", f"files/{path.name}")
            connection.execute("insert into photos values (?, ?, ?)", row)
            scan = make_picture(tmp_path / "scan.png", 10 + key).read_bytes()
            connection.execute("insert into scans values (?, ?, ?)", (key, f"scan {key}", scan))
    (tmp_path / "scan.png").unlink()
    return database


FILES = ["--sql", "select id, file from photos"]
BLOBS = ["--sql", "select id, data from scans"]
EXPECTED = [(f"files/{key}.png", key, "photos") for key in (1, 2, 3)]


@pytest.mark.parametrize("way", ["folder", "rehash", "touched", "moved"])
def test_files_that_are_embedded_already_get_their_keys(photos, tmp_path, tiny_model, way):
    embed(photos, tmp_path / "files", "--pretrained", tiny_model)
    assert {key for _, key, _ in rows(photos, KEYS)} == {None}
    options = []
    if way == "rehash":
        options = ["--rehash"]
    if way == "touched":
        for file in (tmp_path / "files").iterdir():
            file.touch()
    if way == "moved":
        (tmp_path / "files").rename(tmp_path / "elsewhere")
        with closing(sqlite3.connect(photos)) as connection, connection:
            connection.execute("update photos set file = replace(file, 'files', 'elsewhere')")
    told = embed(photos, *FILES, *options)
    assert told["Embedded"] == "0"
    assert [(key, table) for _, key, table in rows(photos, KEYS)] == [
        (key, "photos") for key in (1, 2, 3)
    ]
    if way == "folder":
        assert told["Keys"] == "3 set  (for pictures embedded earlier)"
        assert "Keys" not in embed(photos, *FILES)
        # A run without rows keeps the keys.
        make_picture(tmp_path / "files" / "2.png", 77)
        assert embed(photos, tmp_path / "files")["Embedded"] == "1"
        (tmp_path / "files" / "3.png").rename(tmp_path / "files" / "4.png")
        assert embed(photos, tmp_path / "files")["Moved"].startswith("1 ")
        assert [(key, table) for _, key, table in rows(photos, KEYS)] == [
            (key, "photos") for key in (1, 2, 3)
        ]


def test_folder_and_rows_in_one_run(photos, tmp_path, tiny_model):
    embed(photos, tmp_path / "files", *FILES, "--pretrained", tiny_model)
    assert rows(photos, KEYS) == EXPECTED


def test_blobs_of_files_that_are_embedded(photos, tmp_path, tiny_model):
    embed(photos, tmp_path / "files", "--pretrained", tiny_model)
    with closing(sqlite3.connect(photos)) as connection, connection:
        data = (tmp_path / "files" / "1.png").read_bytes()
        connection.execute("update scans set data = ? where id = 2", [data])
    told = embed(photos, *BLOBS)
    assert told["Copies"].startswith("1 ")
    assert ("sqlite:scans/2", 2, "scans") in rows(photos, KEYS)


def test_another_table_with_the_same_files(photos, tmp_path, tiny_model):
    embed(photos, *FILES, "--pretrained", tiny_model)
    with closing(sqlite3.connect(photos)) as connection, connection:
        connection.execute("create table albums as select id + 10 as id, file from photos")
        connection.execute("insert into albums select 99, file from albums where id = 12")
    told = embed(photos, "--sql", "select id, file from albums")
    assert told["Keys"] == "3 set  (for pictures embedded earlier; 3 replaced another row's key)"
    assert told["Note"].startswith("1 rows name a file that another row names, too")
    assert rows(photos, KEYS) == [(f"files/{key}.png", key + 10, "albums") for key in (1, 2, 3)]


def test_the_recipe_of_the_docs_never_gives_another_tables_title(
    photos, tmp_path, tiny_model, connect
):
    embed(photos, *FILES, "--pretrained", tiny_model)
    embed(photos, *BLOBS)
    page = (ROOT / "docs/embed.md").read_text()
    start = page.index("select photos.title")
    recipe = page[start : page.index("```", start)]
    connection = connect(photos)
    query = (tmp_path / "files" / "1.png").read_bytes()
    found = connection.execute(recipe.replace("'dog on beach'", "?"), [query]).fetchall()
    assert {title for title, *_ in found} == {"photo 1", "photo 2", "photo 3"}
    assert len(found) == 3
    for table, title in (("photos", "photo"), ("scans", "scan")):
        sql = (
            f"select images.path, title from images join {table} on {table}.id = images.key "
            f"and images.key_table = '{table}'"
        )
        assert len(rows(photos, sql)) == 3
        assert all(name.startswith(title) for _, name in rows(photos, sql))


@pytest.mark.parametrize(
    ("select", "table"),
    [
        ("select id, data from scans where id < 9", "scans"),
        ("select s.id, s.data from scans s join photos using (id)", "photos+scans"),
        ("with those as (select id, data from scans) select id, data from those", "scans"),
        ("select id, data from view_of_scans", "scans"),
        ('select id, data from "odd/one"', "odd%2Fone"),
    ],
)
def test_tables_are_named_as_in_the_paths(photos, tiny_model, select, table):
    with closing(sqlite3.connect(photos)) as connection, connection:
        connection.execute("create view view_of_scans as select * from scans")
        connection.execute('create table "odd/one" as select * from scans')
    embed(photos, "--sql", select, "--pretrained", tiny_model)
    assert rows(photos, KEYS) == [(f"sqlite:{table}/{key}", key, table) for key in (1, 2, 3)]


def test_keys_are_published_with_their_tables(photos, tmp_path, tiny_model):
    embed(photos, *BLOBS, "--pretrained", tiny_model)
    shutil.rmtree(tmp_path / "files")
    published = tmp_path / "p.db"
    assert run("clip-publish", photos, published, "--keep", "key").exit_code == 0
    keys = "select key, key_table from images order by key"
    assert rows(published, keys) == rows(photos, keys) == [(key, "scans") for key in (1, 2, 3)]
