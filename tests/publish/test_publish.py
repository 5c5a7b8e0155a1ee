"""clip-publish: what a published file holds, and not, and what it is never put in place of."""

import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.database.schema import KNOWN_MIGRATIONS, OWN_TABLES
from datasette_clip_search.database.vectors import decode_vectors, encode_float16, is_vector
from datasette_clip_search.publish.private_paths import PublicPaths
from datasette_clip_search.publish.rounding_loss import published_recall
from support.commands import run
from support.contents import contents
from support.databases import make_database, rows
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.pictures import make_picture
from support.processes import largest_file

TOWERS = "clip_towers"
PLACES = "select count(*) from images where latitude is not null or longitude is not null"


def publish(database: Path, target: Path, *options: object) -> Path:
    result = run("clip-publish", database, target, *map(str, options))
    assert result.exit_code == 0, result.output
    return target


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_database(tmp_path_factory.mktemp("made"), 6, tiny_model).parent


@pytest.fixture
def tiny_database(made: Path, tmp_path: Path) -> Path:
    """Six pictures that mean nothing, in a folder of their own."""
    return Path(shutil.copytree(made, tmp_path / "home")) / "photos.db"


@pytest.fixture(scope="module")
def published(demo_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pictures, published without any option. Only to be read."""
    return publish(demo_database, tmp_path_factory.mktemp("published") / "published.db")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def schema(database: Path) -> list[tuple]:
    return rows(database, "select type, name, sql from sqlite_master order by type, name")


def test_holds_all_that_searches_need(demo_database, published):
    assert schema(published) == schema(demo_database)
    assert rows(published, "select name from _sqlite_migrations order by name") == [
        (name,) for name in sorted(KNOWN_MIGRATIONS)
    ]
    theirs = rows(demo_database, "select id, content_hash, taken, camera, width from images")
    assert rows(published, "select id, content_hash, taken, camera, width from images") == theirs
    for table in ("clip_embeddings", "clip_thumbnails"):
        assert rows(published, f"select * from {table}") == rows(
            demo_database, f"select * from {table}"
        )
    contents(published)
    assert rows(published, "pragma foreign_key_check") == []


def test_is_one_compact_file(published):
    assert [path.name for path in published.parent.iterdir()] == [published.name]
    assert rows(published, "pragma journal_mode") == [("delete",)]
    assert rows(published, "pragma freelist_count") == [(0,)]
    assert rows(published, "pragma page_size") == [(CONFIG.published_page_size,)]


def test_tells_nothing_of_the_machine(demo_database, published):
    data = published.read_bytes()
    for place in (demo_database.parent, DEMO_PICTURES.parent, DEMO_MODEL.parent, Path.home()):
        assert str(place).encode() not in data
    places = rows(demo_database, "select latitude, longitude from images where latitude not null")
    assert len(places) > 50
    for numbers in places:
        for number in numbers:
            assert struct.pack(">d", number) not in data
    assert rows(published, PLACES) == [(0,)]
    assert rows(published, "select count(*) from clip_failures") == [(0,)]
    assert rows(published, "select pretrained from clip_models") == [("./model",)]


def test_source_stays_as_it_is(demo_database, tmp_path):
    before = digest(demo_database), sorted(demo_database.parent.iterdir())
    publish(demo_database, tmp_path / "p.db", "--vectors", "fp16", "--thumbnail-size", "100")
    assert (digest(demo_database), sorted(demo_database.parent.iterdir())) == before


def test_changes_of_a_published_database_are_noticed(published, demo_database, tmp_path):
    """Triggers are there, and an index of the vectors at home is not taken for one of these."""
    sql = "select revision from clip_models"
    assert rows(published, sql) != rows(demo_database, sql)
    # Of the history, only where it stands.
    assert rows(published, "select seq, revision from clip_changes") == [
        (1, *rows(published, sql)[0])
    ]
    copy = tmp_path / "copy.db"
    copy.write_bytes(published.read_bytes())
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("delete from images where id = 1")
    assert rows(copy, sql) != rows(published, sql)
    assert rows(copy, "select count(*) from clip_embeddings where image_id = 1") == [(0,)]


@pytest.mark.parametrize(
    ("options", "sql", "expected"),
    [
        (["--keep-gps"], PLACES, 99),
        (["--drop", "taken"], "select count(*) from images where taken not null or mtime", 0),
        (["--drop", "camera"], "select count(*) from images where camera not null", 0),
        (["--no-thumbnails"], "select count(*) from clip_thumbnails", 0),
        (["--where", "taken >= '2023-07'"],
         "select count(*) from images where taken < '2023-07'", 0),
        (["--where", "id < :n", "-p", "n", "4"], "select count(*) from clip_embeddings", 3),
        (["--where", "id in (select id from clip_search(1, 5))"],
         "select count(*) from images", 5),
    ],
)  # fmt: skip
def test_choices(demo_database, tmp_path, options, sql, expected):
    database = publish(demo_database, tmp_path / "p.db", *options)
    assert rows(database, sql) == [(expected,)]
    assert rows(database, "select count(*) from images") > [(0,)]
    assert contents(database)


def test_smaller_thumbnails(demo_database, tmp_path, published):
    database = publish(demo_database, tmp_path / "p.db", "--thumbnail-size", "100")
    made = rows(database, "select format, data from clip_thumbnails")
    assert len(made) == 160
    for format, data in made:
        with Image.open(io.BytesIO(data)) as image:
            assert (format, image.format) == ("jpeg", "JPEG")
            assert max(image.size) == 100
    assert database.stat().st_size < published.stat().st_size


def test_damaged_thumbnail_is_left_out(tiny_database, tmp_path):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute("update clip_thumbnails set data = x'00' where image_id = 2")
    result = run("clip-publish", tiny_database, tmp_path / "p.db", "--thumbnail-size", "20")
    assert "Left out: 1 thumbnail that can't be read" in result.stderr
    assert rows(tmp_path / "p.db", "select count(*) from clip_thumbnails") == [(5,)]


def test_half_the_room_finds_the_same(demo_database, tmp_path, connect):
    result = run("clip-publish", demo_database, tmp_path / "p.db", "--vectors", "fp16")
    assert result.exit_code == 0
    assert "Recall@10:" in result.stdout
    assert rows(tmp_path / "p.db", "select distinct length(embedding) from clip_embeddings") == [
        (256,)
    ]
    before, after = connect(demo_database), connect(tmp_path / "p.db")
    sql = "select id, score from clip_search(?, 10)"
    for query in ("dog on beach", 7, 99):
        expected = dict(before.execute(sql, (query,)).fetchall())
        found = dict(after.execute(sql, (query,)).fetchall())
        assert len(expected.keys() & found.keys()) >= 9
        for image_id in expected.keys() & found.keys():
            assert found[image_id] == pytest.approx(expected[image_id], abs=1e-3)
    # A stored vector is a query, also in half the room, and of length 1 again.
    sql = (
        "select s.id, s.score from clip_embeddings, clip_search(embedding, 1) s where image_id = 5"
    )
    [(image_id, score)] = after.execute(sql).fetchall()
    assert image_id == 5
    assert score == pytest.approx(1, abs=1e-6)


def test_more_can_be_embedded_into_what_is_in_half_the_room(tiny_database, tmp_path, tiny_model):
    database = publish(tiny_database, tmp_path / "p.db", "--vectors", "fp16")
    make_picture(tmp_path / "new" / "one.png", 77)
    result = run("embed-images", database, tmp_path / "new", "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    sql = "select length(embedding), count(*) from clip_embeddings group by 1 order by 1"
    assert rows(database, sql) == [(32, 6), (64, 1)]
    result = run("query", database, "select count(*) as n from clip_search(1, 100)")
    assert json.loads(result.stdout) == [{"n": 6}]
    again = publish(database, tmp_path / "again.db", "--vectors", "fp16")
    assert rows(again, sql) == [(32, 7)]


def test_recall_is_measured():
    """Against brute force: of vectors as they are, and of some that are less than that."""
    random = np.random.default_rng(3)
    vectors = random.standard_normal((300, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(300)
    coarse = vectors + 0.1 * random.standard_normal((300, 32)).astype(np.float32)

    def chunks(published):
        return lambda: ((ids[at : at + 70], vectors[at : at + 70], published[at : at + 70])
                        for at in range(0, 300, 70))  # fmt: skip

    def brute(published):
        def nearest(of):
            scores = of @ of.T
            np.fill_diagonal(scores, -1)
            return np.argsort(-scores, axis=1)[:, :10]

        pairs = zip(nearest(vectors), nearest(published), strict=True)
        return np.mean([len(set(one) & set(other)) / 10 for one, other in pairs])

    assert published_recall(chunks(vectors), 300, 300) == (1.0, 300)
    assert 0.3 < brute(coarse) < 0.9
    assert published_recall(chunks(coarse), 300, 300) == (
        pytest.approx(brute(coarse), abs=1e-6),
        300,
    )
    assert published_recall(chunks(vectors), 300, 7) == (1.0, 7)


def test_vectors_in_half_the_room():
    vector = np.full(64, 1 / 8, np.float32)
    whole = vector.astype("<f4").tobytes()
    for blobs in [[encode_float16(vector)] * 3, [whole, encode_float16(vector)], [whole]]:
        assert decode_vectors(blobs, 64) == pytest.approx(np.stack([vector] * len(blobs)))
    assert decode_vectors([], 64).shape == (0, 64)
    assert is_vector(encode_float16(vector), 64)
    assert is_vector(whole, 64)
    assert not is_vector(encode_float16(vector * 2), 64)
    assert not is_vector(b"\xff" * 128, 64)
    assert not is_vector(b"\xff" * 127, 64)
    assert not is_vector(None, 64)


def test_broken_vector_is_not_published(tiny_database, tmp_path):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute("update clip_embeddings set embedding = x'00' where image_id = 3")
    result = run("clip-publish", tiny_database, tmp_path / "p.db")
    assert result.exit_code == 1
    assert "The embedding of picture 3 is no vector of 16 numbers" in result.stderr
    assert not list(tmp_path.glob("*p.db*"))


PATHS = [
    ("below/a.jpg", "below/a.jpg"),
    ("a.jpg", "a.jpg"),
    ("/home/me/a.jpg", "a-1.jpg"),
    ("/home/me/b/a.jpg", "a-2.jpg"),
    ("/home/me/trip.zip/day 1/c.jpg", "trip.zip/day 1/c.jpg"),
    ("/mnt/old.tar.gz/c.jpg", "old.tar.gz/c.jpg"),
    ("/mnt/disk/2020/d.jpg", "2020/d.jpg"),
    ("/mnt/diskette/d.jpg", "d.jpg"),
    ("sqlite:photos/7", "sqlite:photos/7"),
    ("sqlite:photos//home/me/e.jpg", "sqlite:photos/e.jpg"),
    ("./sqlite:odd/f.jpg", "./sqlite:odd/f.jpg"),
    ("C:/Users/me/g.jpg", "g.jpg"),
    ("C:\\Users\\me\\h.jpg", "h.jpg"),
    ("/", "picture"),
]


def test_paths():
    paths = PublicPaths([stored for stored, _ in PATHS], ["/mnt/disk"])
    place = {stored: number for number, (stored, _) in enumerate(PATHS)}
    place["/home/me/a.jpg"], place["/home/me/b/a.jpg"] = 1, 2
    assert [paths.published(place[stored], stored) for stored, _ in PATHS] == [
        published for _, published in PATHS
    ]
    assert paths.changed == sum(stored != published for stored, published in PATHS)
    assert paths.shortened_to_names == paths.changed - 1


def test_pictures_outside_keep_a_path_from_a_folder_on(demo_database, published, tmp_path):
    database = publish(demo_database, tmp_path / "p.db", "--relative-to", DEMO_PICTURES)
    expected = [
        (str(path).removeprefix(f"{DEMO_PICTURES}/"),)
        for (path,) in rows(demo_database, "select path from images order by id")
    ]
    assert rows(database, "select path from images order by id") == expected
    assert rows(published, "select path from images order by id") == [
        (path.rpartition("/")[2],) for (path,) in expected
    ]


def test_tables_and_columns_of_the_users(tiny_database, tmp_path):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.executescript("""
            create table photos (id integer primary key, title text, file text, twice as (id * 2));
            insert into photos (title, file) values ('one', '/home/me/1.jpg'), ('two', 'b');
            create index by_title on photos (title);
            create view both as select * from photos;
            create table secrets (word text);
            insert into secrets values ('sesame-open-wide');
            create virtual table words using fts5(title);
            alter table images add column stars integer;
            update images set stars = id;
        """)
    result = run("clip-publish", tiny_database, tmp_path / "bare.db")
    assert b"sesame" not in (tmp_path / "bare.db").read_bytes()
    assert "Columns of your own left out: stars; --with-column stars keeps it" in result.stderr
    options = ["--with-table", "Photos", "--with-column", "stars"]
    result = run("clip-publish", tiny_database, tmp_path / "p.db", *options)
    assert result.exit_code == 0, result.output
    assert "photos.file is published as it is, with 1 absolute path" in result.stderr
    assert rows(tmp_path / "p.db", "select title, twice from photos") == [("one", 2), ("two", 4)]
    assert rows(tmp_path / "p.db", "select sum(stars = id) from images") == [(6,)]
    assert rows(
        tmp_path / "p.db", "select count(*) from sqlite_master where name = 'by_title'"
    ) == [(1,)]
    for option, name, said in [
        ("--with-table", "both", "both is a view"),
        ("--with-table", "words", "words is a virtual table"),
        ("--with-table", "clip_models", "is a table of embed-images"),
        ("--with-table", "images", "is a table of embed-images"),
        ("--with-table", "nothing", "There is no table nothing. Your own tables here: photos, "),
        ("--with-column", "nothing", "has no column nothing of your own. It has: stars"),
        ("--with-column", "path", "has no column path of your own"),
    ]:
        result = run("clip-publish", tiny_database, tmp_path / "none.db", option, name)
        assert result.exit_code == 1
        assert said in result.stderr
        assert not (tmp_path / "none.db").exists()


def test_models(tiny_database, tmp_path, other_model):
    picture = tiny_database.parent / "pictures" / "00.png"
    result = run("embed-images", tiny_database, picture, "--pretrained", other_model)
    assert result.exit_code == 0, result.output
    sql = "select id, is_default from clip_models order by id"
    assert rows(publish(tiny_database, tmp_path / "1.db"), sql) == [(1, 1)]
    other = publish(tiny_database, tmp_path / "2.db", "--model", "other")
    assert rows(other, sql) == [(2, 1)]
    assert rows(other, "select count(*) from images") == [(1,)]
    both = publish(tiny_database, tmp_path / "3.db", "--all-models")
    assert rows(both, sql) == [(1, 1), (2, 0)]
    assert rows(both, "select model_id, count(*) from clip_embeddings group by 1") == [
        (1, 6),
        (2, 1),
    ]


def test_renamed_table_and_dropped_columns(tiny_database, tmp_path):
    """No command that writes has restored a read-only database."""
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.executescript("""
            alter table images drop column key;
            alter table clip_embeddings drop column precision;
            alter table clip_models drop column calibration;
            drop table clip_publication;
            drop table clip_changes;
            drop trigger clip_model_inserted;
            drop trigger clip_embedding_inserted;
            drop trigger clip_embedding_updated;
            drop trigger clip_embedding_moved;
            drop trigger clip_embedding_deleted;
            alter table images rename to "odd ""name";
        """)
    database = publish(tiny_database, tmp_path / "p.db")
    assert rows(database, 'select count(path), count(key) from "odd ""name"') == [(6, 0)]
    assert rows(database, "select count(precision) from clip_embeddings") == [(0,)]


@pytest.mark.skipif(not set(OWN_TABLES) >= {TOWERS}, reason="there are no towers")
def test_towers(tiny_database, tmp_path, other_model):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute(f"delete from {TOWERS}")
        for tower in ("text", "image"):
            for part in range(2):
                sql = f"insert into {TOWERS} (model_id, tower, precision, part, data) values "
                connection.execute(f"{sql} (1, ?, 'int8', ?, ?)", (tower, part, b"x" * 1000))
    picture = tiny_database.parent / "pictures" / "00.png"
    result = run("embed-images", tiny_database, picture, "--pretrained", other_model)
    assert result.exit_code == 0, result.output
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute(f"delete from {TOWERS} where model_id = 2")
        sql = f"insert into {TOWERS} (model_id, tower, part, data) values (2, 'text', 0, ?)"
        connection.execute(sql, ('{"refused": "/home/me/broken"}',))
    sql = f"select tower, count(*) from {TOWERS} group by tower order by tower"
    result = run("clip-publish", tiny_database, tmp_path / "1.db")
    assert "text tower" in result.stdout
    assert "no text tower" not in result.stderr
    assert rows(tmp_path / "1.db", sql) == [("text", 2)]
    both = publish(tiny_database, tmp_path / "2.db", "--with-image-search")
    assert rows(both, sql) == [("image", 2), ("text", 2)]
    every = ("--all-models", "--with-image-search")
    result = run("clip-publish", tiny_database, tmp_path / "3.db", *every)
    assert "no text tower" in result.stderr
    assert "Searches by visitors' pictures need an image tower" in result.stderr
    assert "an image tower" not in run("clip-publish", tiny_database, both, every[1]).stderr
    assert rows(tmp_path / "3.db", sql) == [("image", 2), ("text", 2)]
    assert b"/home/me" not in (tmp_path / "3.db").read_bytes()


REFUSED = {
    "the database itself": lambda folder: folder / "photos.db",
    "a link to it": lambda folder: link(folder, os.symlink),
    "another name of it": lambda folder: link(folder, os.link),
    "its write-ahead log": lambda folder: folder / "photos.db-wal",
    "a picture": lambda folder: folder / "pictures" / "00.png",
    "another database": lambda folder: other_database(folder),
    "a folder": lambda folder: folder / "pictures",
    "no folder": lambda folder: folder / "nowhere" / "p.db",
}


def link(folder: Path, make) -> Path:  # type: ignore[no-untyped-def]
    make(folder / "photos.db", folder / "link.db")
    return folder / "link.db"


def other_database(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "mine.db")) as connection:
        connection.execute("create table mine (text)")
    return folder / "mine.db"


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("option", [[], ["--replace"]])
def test_never_overwritten(tiny_database, name, option):
    if option and name in ("a picture", "another database"):
        pytest.skip("--replace is for these")
    target = REFUSED[name](tiny_database.parent)
    before = digest(tiny_database)
    held = target.read_bytes() if target.is_file() else None
    result = run("clip-publish", tiny_database, target, *option)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert digest(tiny_database) == before
    assert (target.read_bytes() if target.is_file() else None) == held
    assert not list(tiny_database.parent.glob(".*"))


def test_overwrites_its_own_and_what_it_is_told_to(tiny_database, tmp_path):
    target = publish(tiny_database, tmp_path / "p.db")
    target.chmod(0o640)
    publish(tiny_database, target, "--where", "id < 3")
    assert rows(target, "select count(*) from images") == [(2,)]
    assert target.stat().st_mode & 0o777 == 0o640
    mine = other_database(tmp_path)
    (tmp_path / "link.db").symlink_to(mine)
    publish(tiny_database, tmp_path / "link.db", "--replace")
    assert (tmp_path / "link.db").is_symlink()
    assert rows(mine, "select count(*) from images") == [(6,)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name the file to write"),
        (["p.db", "--to-folder", "x"], "Give either the file "),
        (["p.db", "-p", "a", "b"], "-p sets the value of a :name in --where"),
        (["p.db", "--where", "nonsense"], "no such column: nonsense"),
        (["p.db", "--where", "id < 0"], "No picture meets --where"),
        (["p.db", "--model", "x"], "There is no model 'x'"),
        (["p.db", "--model", "1", "--all-models"], "Give one of them"),
        (
            ["p.db", "--no-thumbnails", "--thumbnail-size", "9"],
            "--no-thumbnails and --thumbnail-size exclude each other",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tiny_database, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = run("clip-publish", tiny_database, *arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("size", [0, 40_000, 100_000, 190_000])
@pytest.mark.parametrize("exists", [True, False])
def test_full_disk(tiny_database, tmp_path, size, exists):
    target = tmp_path / "out" / "p.db"
    target.parent.mkdir()
    if exists:
        publish(tiny_database, target, "--where", "id = 1")
    before = digest(target) if exists else None
    with largest_file(size):
        result = run("clip-publish", tiny_database, target, "--with-image-search")
    assert result.exit_code == 1, result.output
    assert "can't be written" in result.stderr
    assert "Traceback" not in result.output
    assert (digest(target) if target.exists() else None) == before
    assert len(list(target.parent.iterdir())) == exists
    publish(tiny_database, target)
    assert rows(target, "select count(*) from images") == [(6,)]


KILLED = """
import os, signal, sys
from datasette_clip_search.publish import published_file as module
from sqlite_utils.cli import cli
module.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cli(["clip-publish", *sys.argv[1:]])
"""


@pytest.mark.parametrize("step", ["part_sizes", "replace_whole", "shrink_thumbnails"])
def test_killed(tiny_database, tmp_path, step):
    target = publish(tiny_database, tmp_path / "p.db", "--where", "id = 1")
    before = digest(target)
    code = KILLED.format(step=step)
    command = [sys.executable, "-c", code, tiny_database, target, "--thumbnail-size", "9"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert digest(target) == before
    [left] = tmp_path.glob(".p.db.publishing-*")
    publish(tiny_database, target)
    assert left.exists()
    for file in [*left.iterdir(), left]:
        os.utime(file, (0, 0))
    publish(tiny_database, target)
    assert not left.exists()


def test_one_moment_of_a_database_that_is_being_written(tiny_database, tmp_path):
    from datasette_clip_search.publish import PublishOptions, PublishProgress
    from datasette_clip_search.publish import publish_file as write

    with closing(sqlite3.connect(tiny_database)) as connection:
        connection.execute("pragma journal_mode = wal")

    class Writing(PublishProgress):
        def start(self, what: str, pictures: int) -> None:
            assert pictures == 6
            with closing(sqlite3.connect(tiny_database)) as connection, connection:
                connection.execute("delete from images where id > 3")

    with closing(sqlite3.connect(tiny_database)) as connection:
        report = write(tiny_database, tmp_path / "p.db", connection, PublishOptions(), Writing())
    assert report.pictures == 6
    assert len(contents(tmp_path / "p.db")) == 6
    assert rows(tmp_path / "p.db", "select count(*) from clip_embeddings") == [(6,)]
    assert rows(tiny_database, "select count(*) from images") == [(3,)]


def test_bytes_by_part_add_up(demo_database, tmp_path):
    result = run("clip-publish", demo_database, tmp_path / "p.db")
    sizes = {}
    for line in result.stdout.splitlines():
        if " bytes " in line:
            part, number = line.split(" bytes ")[0].rsplit(None, 1)
            sizes[part.strip()] = int(number.replace(",", ""))
    total = sizes.pop("total")
    assert total == sum(sizes.values()) == (tmp_path / "p.db").stat().st_size
    [(vectors,)] = rows(demo_database, "select sum(length(embedding)) from clip_embeddings")
    [(thumbnails,)] = rows(demo_database, "select sum(length(data)) from clip_thumbnails")
    assert vectors < sizes["vectors"] < 1.1 * vectors
    assert thumbnails < sizes["thumbnails"] < 1.1 * thumbnails
    assert "datasette publish cloudrun" in result.stdout
    assert "GPS positions left out: 99 pictures; --keep-gps keeps them" in result.stderr


def test_silent(tiny_database, tmp_path):
    assert run("clip-publish", tiny_database, tmp_path / "p.db", "--silent").output == ""
