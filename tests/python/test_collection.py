"""Collection: the answers of the SQL functions, as Python's objects, and never a write."""

import io
import itertools
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils
from PIL import Image

from datasette_clip_search import ClipSearchError, Collection
from support.commands import run
from support.databases import rows
from support.paths import DEMO_PICTURES

pytest.importorskip("open_clip")

PICTURE = DEMO_PICTURES / "phone" / "received-0099.webp"
RECURSIVE: list = []
RECURSIVE.append(RECURSIVE)
SEARCH = "select id, rank, score, z_score, path from clip_search"


@pytest.fixture(scope="module")
def photos(demo_database):
    with Collection(demo_database) as photos:
        yield photos


@pytest.fixture
def sql(demo_database, connect):
    """Return the rows of a statement with the SQL functions."""
    connection = connect(demo_database)

    def sql(statement: str, *parameters: object) -> list[tuple]:
        return connection.execute(statement, parameters).fetchall()

    return sql


def plain(hits) -> list[tuple]:
    return [(hit.image_id, hit.rank, hit.score, hit.z_score, hit.path) for hit in hits]


def test_words(photos, sql):
    assert plain(photos.search("dog on beach")) == sql(f"{SEARCH}('dog on beach')")
    assert plain(photos.search("dog on beach", k=3)) == sql(f"{SEARCH}('dog on beach', 3)")
    assert len(photos.search("dog", k=0)) == 0


def test_pictures_of_the_database(photos, sql):
    found = photos.search(like=42, k=5)
    assert plain(found) == sql(f"{SEARCH}(42, 5)")
    assert 42 not in [hit.image_id for hit in found]
    ids, _ = photos.vectors()
    assert photos.search(ids[41], k=5) == photos.search(like=ids[41], k=np.int32(5)) == found


def test_the_bytes_of_a_picture(photos, sql):
    data = PICTURE.read_bytes()
    found = photos.search(image=data, k=5)
    assert plain(found) == sql(f"{SEARCH}(?, 5)", data)
    assert found == photos.search(data, k=5)


def test_picture_files_and_images(photos, demo_database):
    command = run("clip-search", demo_database, "--image", PICTURE, "-k", "5")
    expected = json.loads(command.stdout)
    found = photos.search(image=PICTURE, k=5)
    assert [hit.image_id for hit in found] == [hit["id"] for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit["score"] for hit in expected])
    assert found[0].path.endswith(PICTURE.name)
    assert found == photos.search(image=str(PICTURE), k=5) == photos.search(PICTURE, k=5)
    with Image.open(PICTURE) as image:
        opened = photos.search(image=image, k=5)
        assert opened == photos.search(image, k=5)
    assert [hit.image_id for hit in opened] == [hit.image_id for hit in found]


def test_images_are_turned_upright(photos):
    with Image.open(PICTURE) as image:
        upright = photos.vector(image)
        turned = image.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    with Image.open(file) as image:
        assert photos.vector(image) @ upright == pytest.approx(1)


def test_vectors_as_queries(photos, sql):
    [(blob,)] = sql("select clip_vector('zebra')")
    vector = photos.vector("zebra")
    assert vector.astype("<f4").tobytes() == blob
    expected = sql(f"{SEARCH}(?, 4)", blob)
    assert plain(photos.search(vector, k=4)) == expected
    assert plain(photos.search(blob, k=4)) == expected
    assert plain(photos.search(vector.astype(np.float64), k=4)) == expected


def test_mixes(photos, sql):
    statement = f"{SEARCH}(clip_mix('zebra', 1, 'stripes', -0.7), 5)"
    assert plain(photos.mix({"zebra": 1, "stripes": -0.7}, k=5)) == sql(statement)
    statement = f"{SEARCH}(clip_mix(42, 1, 'snow', 0.5), 5)"
    assert plain(photos.mix({42: 1, "snow": 0.5}, k=5)) == sql(statement)
    pairs = [(photos.vector(42), np.int8(1)), ("snow", np.float32(0.5))]
    assert plain(photos.mix(pairs, k=5)) == sql(statement)
    assert photos.mix({PICTURE: 1}, k=1)[0].path.endswith(PICTURE.name)


def test_within_ids(photos, sql):
    expected = sql(f"{SEARCH}('dog', 10, null, '[3, 30, 77]')")
    assert len(expected) == 3
    for within in ([77, 30, 3, 3], {3, 30, 77}, np.array([3, 30, 77]), iter([3, 30, 77])):
        assert plain(photos.search("dog", within=within)) == expected
    assert len(photos.search("dog", within=[])) == 0
    hits = photos.mix({"dog": 1, "cat": -1}, within=[3, 30])
    assert {hit.image_id for hit in hits} == {3, 30}


def test_where(photos, demo_database):
    arguments = ["--where", "camera like :camera", "-p", "camera", "%Pixel%"]
    expected = json.loads(run("clip-search", demo_database, "dog", *arguments).stdout)
    expected = [(hit["id"], hit["rank"], hit["score"], hit["z_score"]) for hit in expected]
    assert expected
    for condition in (
        {"where": "camera like '%Pixel%'"},
        {"where": "camera like ?", "parameters": ["%Pixel%"]},
        {"where": "camera like :camera", "parameters": {"camera": "%Pixel%"}},
        {"where": "camera like :camera -- or so", "parameters": {":camera": "%Pixel%"}},
        {"where": "camera like ?", "parameters": iter(["%Pixel%"])},
    ):
        hits = photos.search("dog", **condition)
        assert [(hit.image_id, hit.rank, hit.score, hit.z_score) for hit in hits] == expected
    among = range(100, 150)
    both = photos.search("dog", k=200, where="camera like '%Pixel%'", within=among)
    sql = "select id from images where camera like '%Pixel%' and id between 100 and 149"
    assert {(hit.image_id,) for hit in both} == {*rows(demo_database, sql)}
    assert len(photos.mix({"dog": 1}, where="0")) == 0


@pytest.mark.parametrize("kind", [int, np.int64, np.int8, np.float32])
def test_values_of_where_may_be_numpys(photos, kind):
    [hit] = photos.search("dog", where="id = ?", parameters=[kind(42)])
    [same] = photos.search("dog", where="id = :id", parameters={"id": kind(42)})
    assert hit.image_id == same.image_id == 42
    ids, _ = photos.vectors()
    assert len(photos.search("dog", where="id in (?, ?)", parameters=ids[:2])) == 2


@pytest.mark.parametrize(
    ("where", "parameters", "message"),
    [
        ("", (), "where is empty. Expected a condition on the columns of images"),
        (" -- nothing", (), "where is empty."),
        ("1) or (1", (), "where cannot be run: "),
        ("1; delete from images", (), "where cannot be run: You can only execute one statement"),
        ("1 limit 1", (), "where cannot be run: "),
        ("1 union select 1", (), "where cannot be run: "),
        ("nonsense", (), "no such column: nonsense. The columns of images are"),
        ("z_score > 2", (), "z_score is a column of the result, not of images"),
        ("camera = ?", (), "Incorrect number of bindings supplied"),
        ("camera = ?", {"camera": "x"}, "? takes its value from a list, and parameters is a"),
        ("camera = :c", {"d": "x"}, "You did not supply a value for binding parameter :c. Give it"),
        ("camera = ?", "Canon", "parameters is 'Canon'. Expected a list such as ['Canon%']"),
        ("camera = ?", b"Canon", "parameters is b'Canon'. Expected a list"),
        ("camera = ?", None, "parameters is None. Expected a list"),
        ("camera = ?", {1: "x"}, "parameters is {1: 'x'}. Expected a list"),
        (None, 5, "parameters is 5. Expected a list"),
        (5, (), "where is a int. Expected an SQL condition"),
        (b"1", (), "where is a bytes. Expected an SQL condition"),
    ],
)
def test_where_must_be_one_condition(photos, where, parameters, message):
    with pytest.raises(ClipSearchError) as caught:
        photos.search("dog", where=where, parameters=parameters)
    assert message in str(caught.value)
    assert "--where" not in str(caught.value)
    assert len(photos) == 160


def test_where_refuses_ids_that_are_no_integers(tmp_path, demo_database):
    database = shutil.copy(demo_database, tmp_path / "photos.db")
    connection = sqlite3.connect(database)
    connection.executescript("""
        pragma legacy_alter_table = on;
        alter table images rename to older;
        create table images as select * from older;
        update images set id = 'x' where id = 1;
        update clip_embeddings set image_id = 'x' where image_id = 1;
    """)
    connection.close()
    with Collection(database) as photos, pytest.raises(ClipSearchError, match="is no whole number"):
        photos.search("dog", where="1")


ENDLESS = "id in (with recursive n(i) as (select 1 union all select i + 1 from n) select i from n)"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
# Datasette has SQLite report what its callbacks raise.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_ends_a_long_condition(demo_database, photos):
    def after_a_moment(call):
        timer = threading.Timer(0.3, call)
        timer.start()
        return timer

    timer = after_a_moment(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        photos.search("dog", where=ENDLESS)
    timer.join()
    # The caller's own connection may be interrupted by the caller.
    connection = sqlite3.connect(demo_database)
    timer = after_a_moment(connection.interrupt)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        Collection(connection).search("dog", where=ENDLESS)
    timer.join()
    connection.close()


def test_duplicates(photos, sql):
    assert photos.duplicates() == sql("select * from clip_duplicates")
    assert photos.duplicates(0.9) == sql("select * from clip_duplicates(0.9)")
    assert photos.duplicates()[0].keep == 1


def test_tags(photos, sql):
    expected = sql("""select * from clip_tags(42, '["dog", "cat"]')""")
    assert photos.tags(42, ["dog", "cat"]) == expected
    assert photos.tags(np.int64(42), ("dog", "cat")) == expected
    assert photos.tags(photos.vector(42), ["dog", "cat"])[0].label == expected[0][1]


def test_vectors(photos, demo_database):
    ids, vectors = photos.vectors()
    stored = rows(demo_database, "select image_id, embedding from clip_embeddings order by 1")
    assert (ids.shape, ids.dtype) == ((160,), np.int64)
    assert (vectors.shape, vectors.dtype) == ((160, 128), np.float32)
    assert ids.tolist() == [id for id, _ in stored]
    assert vectors.astype("<f4").tobytes() == b"".join(blob for _, blob in stored)


def test_vectors_are_those_that_are_searched(tmp_path, demo_database):
    database = shutil.copy(demo_database, tmp_path / "photos.db")
    connection = sqlite3.connect(database)
    connection.execute("drop trigger clip_image_deleted")
    connection.execute("delete from images where id in (7, 8)")
    connection.commit()
    connection.close()
    with Collection(database) as photos:
        ids, vectors = photos.vectors()
        assert len(photos) == len(ids) == len(vectors) == 158
        assert not {7, 8} & {*ids.tolist()}
        assert {hit.image_id for hit in photos.search("dog", k=200)} == {*ids.tolist()}


def test_models(tiny_database, pictures, other_model):
    run("embed-images", tiny_database, pictures / "a.jpg", "--pretrained", other_model)
    with Collection(tiny_database) as photos:
        first, second = photos.models
        assert (len(photos), photos.model) == (6, first)
    with Collection(tiny_database, model=second.id) as photos:
        assert (len(photos), photos.model) == (1, second)
        assert len(photos.search(like=1)) == 0
        assert photos.vectors()[0].tolist() == [1]
    with pytest.raises(ClipSearchError, match="There is no model 'zebra'"):
        Collection(tiny_database, model="zebra")


def test_sees_what_is_embedded_later(tiny_database, pictures):
    with Collection(tiny_database) as photos:
        assert len(photos.search(like=1)) == 5
        Image.new("RGB", (40, 40), "red").save(pictures / "red.png")
        assert run("embed-images", tiny_database, pictures).exit_code == 0
        assert len(photos.search(like=1)) == len(photos) - 1 == 6


@pytest.mark.parametrize(
    ("call", "statement"),
    [
        (lambda p: p.search("dog", k=-1), "select * from clip_search('dog', -1)"),
        (lambda p: p.search("dog", k="many"), "select * from clip_search('dog', 'many')"),
        (lambda p: p.search("dog", k=10**7), "select * from clip_search('dog', 10000000)"),
        (lambda p: p.search(like=9999), "select * from clip_search(9999)"),
        (lambda p: p.search(1.5), "select * from clip_search(1.5)"),
        (lambda p: p.search("x" * 3000), "select * from clip_search(printf('%.3000c', 'x'))"),
        (lambda p: p.search(b"nothing"), "select * from clip_search(cast('nothing' as blob))"),
        (lambda p: p.mix({"dog": 0}), "select clip_mix('dog', 0)"),
        (lambda p: p.mix({"dog": "much"}), "select clip_mix('dog', 'much')"),
        (lambda p: p.duplicates(0.1), "select * from clip_duplicates(0.1)"),
        (lambda p: p.tags(42, []), "select * from clip_tags(42, '[]')"),
        (lambda p: p.tags(42, ["a", "a"]), """select * from clip_tags(42, '["a", "a"]')"""),
    ],
)
def test_refuses_as_sql_does(photos, demo_database, call, statement):
    with pytest.raises(ClipSearchError) as caught:
        call(photos)
    result = run("query", demo_database, statement)
    assert result.exit_code == 1
    assert str(caught.value) in result.stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.search(), "Give one of query, image and like. mix() takes several queries"),
        (lambda p: p.search("dog", like=1), "Give one of query, image and like"),
        (lambda p: p.search(""), "The query is empty"),
        (lambda p: p.search(like="dog.jpg"), "like must be an integer, but it is 'dog.jpg'"),
        (lambda p: p.search(like=2**63), "like must be an integer of 64 bits"),
        (lambda p: p.search([1, 2]), "The query is a list. Expected words, the id of a picture"),
        (lambda p: p.search(image="nowhere.jpg"), "nowhere.jpg can't be read: No such file"),
        (lambda p: p.search(image=__file__), "test_collection.py: "),
        (lambda p: p.search(image=b"nothing"), ""),
        (lambda p: p.search(image="a\0b"), "a\\x00b can't be read: embedded null byte"),
        (lambda p: p.search(image="\ud800"), "\\ud800 can't be read: "),
        (lambda p: p.search(Image.new("RGB", (0, 5))), "no pixels: its size is 0 x 5"),
        (lambda p: p.search(image=3), "image is a int. Expected a path, the bytes"),
        (lambda p: p.search(np.zeros(3, np.float32)), "has the shape (3,) and the type float32"),
        (lambda p: p.search(np.zeros(128, np.float32)), "The embedding is all zeros"),
        (lambda p: p.search(np.full(128, 1e300)), "a number that is not finite"),
        (lambda p: p.search(np.array(["x"] * 128)), "has the shape (128,) and the type <U1"),
        (lambda p: p.search("dog", within=[1.5]), "An id of within must be an integer, but it is"),
        (lambda p: p.search("dog", within="12"), "An id of within must be an integer, but it is"),
        (lambda p: p.search("dog", parameters=[1]), "values of ? or :name in where, but there is"),
        (lambda p: p.search("dog", where="id = ?", parameters=[2**70]), "where cannot be run: "),
        (lambda p: p.search("dog", where="id = '\ud800'"), "where cannot be run: "),
        (lambda p: p.tags(42, "dog"), "labels is a text. Expected a list"),
        (lambda p: p.tags(42, [b"dog"]), "A label must be text: "),
        (lambda p: p.tags(42, ["dog", 3]), "number 2 is 3"),
        (lambda p: p.search(True), "The id of a picture must be an integer, but it is True"),
        (lambda p: p.search(like=True), "like must be an integer, but it is True"),
        (lambda p: p.search("dog", within=5), "within is 5. Expected the ids to search"),
        (lambda p: p.search("dog", within=np.array(5)), "within is array(5). Expected the ids"),
        (lambda p: p.tags(42, None), "labels is a NoneType. Expected a list"),
        (lambda p: p.tags(42, RECURSIVE), "A label must be text: "),
        (lambda p: p.mix("dog"), "The terms of a mix are 'dog'. Expected queries with their"),
        (lambda p: p.mix(["dog", "cat"]), "The terms of a mix are ['dog', 'cat']. Expected"),
        (lambda p: p.mix([("dog", 1, 2)]), "The terms of a mix are [('dog', 1, 2)]. Expected"),
        (lambda p: p.mix(None), "The terms of a mix are None. Expected"),
        (lambda p: p.mix({"dog": 10**400}), "A weight of a mix must be a finite number"),
        (lambda p: p.mix({}), "The weights of the mix are all 0"),
        (lambda p: p.mix({f"dog {n}": 1 for n in range(17)}), "The mix has 17 queries"),
    ],
)
def test_refuses(photos, call, message):
    with pytest.raises(ClipSearchError) as caught:
        call(photos)
    assert message in str(caught.value)


def test_limits_the_ids_to_search_within(photos, configured):
    configured(max_within_ids=2)
    with pytest.raises(ClipSearchError, match="within has more than 2 ids"):
        photos.search("dog", within=[1, 2, 3])
    # Endless ids must be refused before they fill the memory.
    with pytest.raises(ClipSearchError, match="within has more than 2 ids"):
        photos.search("dog", within=itertools.count(1))


def test_takes_a_path_a_connection_or_a_database(demo_database, photos, monkeypatch):
    monkeypatch.chdir(demo_database.parent)
    expected = photos.search("dog")
    assert Collection(demo_database.name).search("dog") == expected
    connection = sqlite3.connect(demo_database)
    connection.row_factory = lambda cursor, row: {"row": row}
    given = Collection(connection)
    assert given.search("dog", where="id > 0") == expected
    given.close()
    assert connection.execute("select 1").fetchone()
    connection.close()
    database = sqlite_utils.Database(demo_database)
    with Collection(database) as photos:
        assert photos.search("dog") == expected
        assert photos.search("dog")[0]["id"] == expected[0].image_id
    assert database["images"].count == 160
    database.conn.close()


def test_closes_what_it_opened(demo_database):
    with Collection(demo_database) as photos:
        hits = photos.search("dog", k=1)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        photos.search("dog")
    # What was found can still be shown, without its thumbnail.
    assert "<img" not in hits._repr_html_()
    assert repr(photos) == "<Collection: Cannot operate on a closed database.>"


def test_a_model_of_a_stranger_is_shown_without_control_codes(tmp_path, demo_database):
    database = shutil.copy(demo_database, tmp_path / "photos.db")
    connection = sqlite3.connect(database)
    connection.execute("update clip_models set name = 'a' || char(27) || '[2J'")
    connection.commit()
    connection.close()
    with Collection(database) as photos:
        assert repr(photos) == "<Collection: 160 pictures, a\\x1b[2J>"


@pytest.mark.parametrize("database", [None, 5, b"photos.db", [], io.StringIO()])
def test_refuses_what_has_no_database(database):
    with pytest.raises(ClipSearchError, match=r"database is a \w+\. Expected a path, a sqlite3"):
        Collection(database)


@pytest.mark.parametrize("factory", [bytes, bytearray, lambda text: text.decode().upper()])
def test_refuses_a_connection_that_makes_no_str_of_text(demo_database, factory):
    connection = sqlite3.connect(demo_database)
    connection.text_factory = factory
    with pytest.raises(ClipSearchError, match="text_factory makes something else of text"):
        Collection(connection)
    connection.text_factory = lambda text: text.decode(errors="replace")
    assert len(Collection(connection)) == 160
    connection.close()


def test_refuses_what_is_no_database(tmp_path):
    with pytest.raises(ClipSearchError, match=r"There is no database .*nothing\.db\. Make one"):
        Collection(tmp_path / "nothing.db")
    assert not (tmp_path / "nothing.db").exists()
    (tmp_path / "text.db").write_text("This is not a database. " * 100)
    with pytest.raises(ClipSearchError, match="is not a SQLite database"):
        Collection(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(ClipSearchError, match="holds no embeddings"):
        Collection(tmp_path / "empty.db")


def use(photos: Collection) -> None:
    """Calls everything once."""
    hits = photos.search("dog", where="id > ?", parameters=[0])
    assert hits[0].row["id"] == hits[0].image_id
    assert hits[0].thumbnail
    assert hits._repr_html_()
    photos.search(image=PICTURE)
    photos.search(image=PICTURE.read_bytes())
    photos.search(like=1, within=[1, 2])
    photos.mix({"zebra": 1, 3: 1})
    photos.duplicates()
    photos.tags(1, ["dog"])
    photos.vectors()
    assert photos.models
    assert len(photos)
    assert repr(photos)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_never_writes(tmp_path, demo_database):
    shutil.copytree(demo_database.parent, tmp_path / "copy")
    before = files(tmp_path / "copy")
    with Collection(tmp_path / "copy" / demo_database.name) as photos:
        use(photos)
        assert files(tmp_path / "copy") == before
    assert files(tmp_path / "copy") == before


def test_never_writes_to_a_connection(tmp_path, demo_database):
    """Nor does it fire a trigger, take a lock, or leave a transaction open."""
    database = shutil.copy(demo_database, tmp_path / "photos.db")
    connection = sqlite3.connect(database)
    actions = set()
    connection.set_authorizer(lambda action, *_: actions.add(action) or sqlite3.SQLITE_OK)
    use(Collection(connection))
    reading = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
    # Recursive queries, and the arguments of table-valued functions of SQLite's own.
    assert actions <= reading | {sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_PRAGMA}
    assert connection.total_changes == 0
    assert not connection.in_transaction
    connection.close()
    assert Path(database).read_bytes() == demo_database.read_bytes()


def test_reads_a_write_ahead_log_and_leaves_it(tmp_path, demo_database):
    database = shutil.copy(demo_database, tmp_path / "photos.db")
    writer = sqlite3.connect(database)
    writer.execute("pragma journal_mode = wal")
    writer.execute("delete from images where id = 5")
    writer.commit()
    log = Path(f"{database}-wal")
    before = log.read_bytes(), Path(database).read_bytes()
    assert before[0]
    with Collection(database) as photos:
        use(photos)
        assert len(photos) == 159
    assert (log.read_bytes(), Path(database).read_bytes()) == before
    writer.close()


def test_says_that_a_database_is_locked(tmp_path, demo_database, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: connect(*args, timeout=0, **kw))
    database = shutil.copy(demo_database, tmp_path / "photos.db")
    writer = connect(database, isolation_level=None)
    writer.execute("begin exclusive")
    with pytest.raises(ClipSearchError, match=r"photos\.db can't be read: database is locked"):
        Collection(database)
    writer.close()


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma cache_size = 5")
connection.execute("begin")
connection.execute("update clip_thumbnails set data = zeroblob(length(data))")
os._exit(0)
"""


def test_leaves_what_a_killed_program_left(tmp_path, demo_database):
    database = shutil.copy(demo_database, tmp_path / "photos.db")
    subprocess.run([sys.executable, "-c", KILLED, database], check=True)
    before = files(tmp_path)
    assert [*sorted(before)] == ["photos.db", "photos.db-journal"]
    with pytest.raises(ClipSearchError, match="left in the middle of a write") as caught:
        Collection(database)
    assert str(caught.value).endswith(f"run: sqlite-utils tables {database}")
    assert files(tmp_path) == before
    assert run("tables", database).exit_code == 0
    with Collection(database) as photos:
        assert photos.search("dog")[0].thumbnail[:3] == b"\xff\xd8\xff"


def test_reads_an_immutable_database(demo_database, photos):
    connection = sqlite3.connect(f"{demo_database.as_uri()}?immutable=1", uri=True)
    given = Collection(connection)
    use(given)
    assert given.search("dog") == photos.search("dog")
    connection.close()


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no mode there")
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_reads_a_read_only_file_in_a_read_only_folder(tmp_path, demo_database, photos, mode):
    folder = tmp_path / "folder"
    folder.mkdir()
    database = shutil.copy(demo_database, folder / "photos.db")
    connection = sqlite3.connect(database)
    connection.execute(f"pragma journal_mode = {mode}")
    connection.close()
    before = files(folder)
    os.chmod(database, stat.S_IRUSR)
    os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)
    try:
        with Collection(database) as given:
            use(given)
            assert given.search("dog") == photos.search("dog")
        # SQLite itself shares memory between the readers of a write-ahead log, by this file.
        after = {name: data for name, data in files(folder).items() if not name.endswith("-shm")}
        assert {name: data for name, data in after.items() if data} == before
    finally:
        os.chmod(folder, stat.S_IRWXU)


def test_threads_have_a_collection_each(demo_database, photos):
    expected = plain(photos.search("dog", k=20))
    found, refused = [], []

    def search() -> None:
        with Collection(demo_database) as own:
            found.append(plain(own.search("dog", k=20)))
        try:
            photos.search("dog")
        except sqlite3.ProgrammingError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
    assert len(refused) == 4
    assert "thread" in refused[0]
