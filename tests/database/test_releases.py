"""Databases of other releases: older ones open for ever, newer ones are refused.

The day a release is made, one database that it wrote goes into `releases/` beside this file, named
for the release (`releases/0.1.db`), with its pictures' ids and a few results written down below.
It is never made again and never changed: every later release must read it, search it and add to
it. A change of the tables is a new migration after `create`, and this test shows that it works.

There is no release yet, so the folder does not exist. What was written before the first release
has other tables and is refused.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from datasette_clip_search.database.schema import KNOWN_MIGRATIONS, OWN_TABLES
from support.commands import run
from support.databases import rows
from support.rebuilds import COUNT, found_ids, make_photos, nearest

RELEASES = sorted(Path(__file__).with_name("releases").glob("*.db"))

BEFORE_THE_FIRST = ("m001_create_tables", "m002_keys_and_precisions")
COMMANDS = (
    ("clip-index", "{}"),
    ("clip-search", "{}", "--like", "1"),
    ("clip-publish", "{}", "public.db"),
    ("embed-images", "{}", "."),
)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_photos(tmp_path)


def set_migrations(path, *names):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from _sqlite_migrations")
        connection.executemany(
            "insert into _sqlite_migrations (migration_set, name, applied_at) "
            "values ('datasette_clip_search', ?, '2026-01-01')",
            [(name,) for name in names],
        )


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in RELEASES])
def test_databases_of_every_release(tmp_path, connect, file):
    path = shutil.copy(file, tmp_path)
    before = found_ids(connect(path), 1)
    assert len(before) == 10
    assert run("clip-index", path).exit_code == 0
    assert found_ids(connect(path), 1) == before
    assert {name for (name,) in rows(path, "select name from _sqlite_migrations")} == {
        *KNOWN_MIGRATIONS
    }


def test_one_migration_makes_every_table(path):
    assert rows(path, "select name from _sqlite_migrations") == [("create",)]
    tables = {name for (name,) in rows(path, "select name from sqlite_master")}
    assert tables >= {*OWN_TABLES}


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize(
    ("migrations", "message"),
    [
        (BEFORE_THE_FIRST, "made before the first release"),
        ((*KNOWN_MIGRATIONS, "later"), "written by a newer release"),
    ],
    ids=["before the first", "newer"],
)
def test_databases_of_other_releases_are_refused(path, arguments, migrations, message):
    set_migrations(path, *migrations)
    schema = rows(path, "select sql from sqlite_master")
    command, *others = (each.format(path) for each in arguments)
    result = run(command, *others)
    assert result.exit_code == 1
    assert message in result.output + result.stderr
    assert "Traceback" not in result.output + result.stderr
    assert rows(path, "select sql from sqlite_master") == schema


@pytest.mark.parametrize(
    ("migrations", "message"),
    [
        (BEFORE_THE_FIRST, "Embed the pictures into a new one: sqlite-utils embed-images"),
        ((*KNOWN_MIGRATIONS, "later"), "pip install --upgrade datasette-clip-search"),
    ],
    ids=["before the first", "newer"],
)
def test_searches_say_what_to_do(path, connect, migrations, message):
    warm = connect(path)
    assert found_ids(warm, 1) == nearest(1)
    set_migrations(path, *migrations)
    for connection in (warm, connect(path)):
        with pytest.raises(sqlite3.OperationalError, match=message):
            found_ids(connection, 1)
    assert rows(path, "select count(*) from clip_embeddings") == [(COUNT,)]
