"""A published file reveals no private fact: each is a mark to look for in its bytes."""

import io
import os
import re
import shutil
import sqlite3
import struct
import sys
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from datasette_clip_search.database import private_facts
from datasette_clip_search.database.prepare import create_tables
from datasette_clip_search.database.schema import OWN_TABLES
from datasette_clip_search.publish import public_facts
from datasette_clip_search.publish.public_thumbnails import plain_thumbnail
from support.commands import run
from support.databases import rows
from support.models import make_model
from support.paths import ROOT
from support.pictures import make_picture

pytest.importorskip("open_clip")

LATITUDE, LONGITUDE, MTIME = 12.3456789, -98.7654321, 1234567890.25


# Marks by the fact that they stand for. Numbers are looked for as digits and as eight bytes.
MARKS: dict[str, list[str | float]] = {
    "gps": [LATITUDE, LONGITUDE],
    "zone": ["+05:45"],
    "mtime": [MTIME],
    "key": ["KeyMark-1", "KeyMark-2"],
    "table": ["TableMark"],
    "folder": ["FolderMark"],
    "name": ["NameMark"],
    "archive": ["ArchiveMark"],
    "taken": ["2019-07-13T11:22:33"],
    "camera": ["CameraMark"],
    "model": ["ModelMark"],
    "user": ["UserMark"],
    "outside": ["OutsideMark"],
    "weights": ["WeightsMark"],
    "own column": ["OwnColumnMark"],
    "row": ["RowMark"],
    "other table": ["SecondMark"],
    "trigger": ["TriggerMark"],
    "view": ["ViewMark"],
    "deleted": ["DeletedMark"],
    "failure": ["FailureMark"],
    "reason": ["ReasonMark"],
    "calibration": ["CalibrationMark"],
    "tower's date": ["2017-01-02T03:04:05"],
    "exif": ["SerialMark", "OwnerMark", "ArtistMark", "DescriptionMark", "UserCommentMark"],
    "comment": ["CommentMark"],
    "xmp": ["XmpMark"],
    "iptc": ["IptcMark"],
    "icc": ["IccMark"],
    "png text": ["PngTextMark"],
    "after the end": ["TrailerMark"],
}


# Other facts that picture files contain.
IN_FILES = {"zone", "exif", "comment", "xmp", "iptc", "icc", "after the end"}


TOLD = {"folder", "name", "archive", "taken", "camera", "model"}


def private_jpeg(path: Path, seed: int) -> Path:
    """Save a picture with every kind of JPEG metadata, and bytes after its end."""
    image = Image.open(make_picture(path.with_suffix(".bmp"), seed))
    path.with_suffix(".bmp").unlink()
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "CameraMark 7"
    exif[0x010E], exif[0x013B] = "DescriptionMark", "ArtistMark"
    details = exif.get_ifd(0x8769)
    details[0x9003], details[0x9011] = "2019:07:13 11:22:33", "+05:45"
    details[0xA430], details[0xA431] = "OwnerMark", "SerialMark"
    details[0x9286] = b"ASCII\0\0\0UserCommentMark"
    place = exif.get_ifd(0x8825)
    for tag, reference, degrees, side in (
        (2, 1, LATITUDE, "N"), (4, 3, -LONGITUDE, "W"),
    ):  # fmt: skip
        place[reference], place[tag] = side, (degrees, 0.0, 0.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = "IccMark".encode("utf-16-be")
    at = profile.index("sRGB".encode("utf-16-be"))
    profile = profile[:at] + text + profile[at + len(text) :]
    image.save(
        path, exif=exif, comment=b"CommentMark", xmp=b"<x:xmpmeta>XmpMark</x:xmpmeta>",
        icc_profile=profile,
    )  # fmt: skip
    data = path.read_bytes()
    held = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0d\x1c\x02\x78\0\x08IptcMark\0"
    segment = b"\xff\xed" + struct.pack(">H", len(held) + 2) + held
    path.write_bytes(data[:2] + segment + data[2:] + b"TrailerMark")
    os.utime(path, (MTIME, MTIME))
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An owner's folder, with a database in which every kind of private fact is marked."""
    root = tmp_path_factory.mktemp("privacy")
    home = root / "home" / "UserMark"
    below = home / "FolderMark"
    below.mkdir(parents=True)
    outside = root / "OutsideMark"
    outside.mkdir()
    picture = private_jpeg(below / "NameMark.jpg", 1)
    private_jpeg(outside / "NameMark.jpg", 2)
    (below / "FailureMark.jpg").write_bytes(b"no picture")
    with zipfile.ZipFile(outside / "ArchiveMark.zip", "w") as archive:
        archive.write(private_jpeg(root / "a.jpg", 3), "within/NameMark 3.jpg")
        # A backup, which contains paths of the machine.
        archive.write(private_jpeg(root / "b.jpg", 4), f"{home}/deep/NameMark 4.jpg")
    database = home / "photos.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("create table TableMark (key text, data, title)")
        for number in (1, 2):
            data = private_jpeg(root / "c.jpg", 4 + number).read_bytes()
            row = (f"KeyMark-{number}", data, "RowMark")
            connection.execute("insert into TableMark values (?, ?, ?)", row)
    model = make_model(root / "WeightsMark" / "ModelMark")
    options = ["--pretrained", model, "--text-tower", "32-bit", "--with-image-search"]
    zipped = outside / "ArchiveMark.zip"
    result = run("embed-images", database, below, outside, zipped, *options)
    assert result.exit_code == 0, result.output
    sql = "select key, data from TableMark"
    result = run("embed-images", database, "--sql", sql, "--pretrained", model)
    assert result.exit_code == 0, result.output
    spoil(database, picture)
    before = b"".join(file.read_bytes() for file in home.glob("photos.db*"))
    assert marks_in(before) == set(MARKS)
    return home


def spoil(database: Path, picture: Path) -> None:
    """Store what only other programs or the owner would store in a database."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("pragma secure_delete = off")
        connection.executescript("""
            alter table images add column own text;
            update images set own = 'OwnColumnMark', mtime = 1234567890.25;
            update images set latitude = 12.3456789, longitude = -98.7654321
                where latitude is not null;
            create table SecondMark (text);
            insert into SecondMark values ('SecondMark');
            create trigger TriggerMark after insert on images begin
                insert into SecondMark values ('TriggerMark');
            end;
            create view ViewMark as select 'ViewMark' from images;
            create index SecondMark_index on images (own);
            update clip_models set calibration = 'CalibrationMark';
            update clip_failures set reason = 'ReasonMark';
            update clip_towers set data = json_set(data, '$.made', '2017-01-02T03:04:05',
                '$.refused_before', 'ReasonMark', '$.verified.pictures', 7) where part = 0;
            update images set path = '../UserMark/OutsideMark/NameMark 7.jpg'
                where path like '%deep%';
            create table gone (text);
        """)
        texts = [(f"DeletedMark {number}",) for number in range(10_000)]
        connection.executemany("insert into gone values (?)", texts)
        connection.execute("drop table gone")
        sql = "update clip_thumbnails set format = ?, data = ? where image_id = ?"
        connection.execute(sql, ("jpeg", picture.read_bytes(), 1))
        for image_id, format in (2, "webp"), (3, "png"):
            data = io.BytesIO()
            with Image.open(picture) as image:
                text = PngImagePlugin.PngInfo()
                text.add_text("Comment", "PngTextMark")
                image.save(data, format, exif=image.getexif(), pnginfo=text)
            connection.execute(sql, (format, data.getvalue(), image_id))


def marks_in(data: bytes) -> set[str]:
    """Return the facts whose marks occur in some bytes."""

    def forms(mark: str | float) -> list[bytes]:
        if isinstance(mark, str):
            return [mark.encode(), mark.encode("utf-16-le"), mark.encode("utf-16-be")]
        return [str(abs(mark)).encode(), struct.pack(">d", mark), struct.pack("<d", mark)]

    return {
        name
        for name, marks in MARKS.items()
        if any(form in data for mark in marks for form in forms(mark))
    }


def published_bytes(target: Path) -> bytes:
    """Return all bytes of a published file or folder, and the decompressed ones too."""
    files = [target] if target.is_file() else list(target.iterdir())
    data = b"".join(file.read_bytes() for file in files)
    [database] = [file for file in files if file.suffix == ".db"]
    parts = "(select tower, data from clip_towers where part > 0 order by tower, part)"
    sql = f"select tower, group_concat(hex(data), '') from {parts} group by tower"
    for _, digits in rows(database, sql):
        tower = bytes.fromhex(digits)
        for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", tower[:1000]):
            inflate = zlib.decompressobj()
            try:
                data += inflate.decompress(tower[found.start() :])
            except zlib.error:
                continue
    return data


ALL_FACTS = [option for name in private_facts.NAMES for option in ("--drop", name)]


MODES = {
    "nothing asked for": ([], set(), set()),
    "--keep-gps": (["--keep-gps"], {"gps", "zone"}, set()),
    "--keep gps": (["--keep", "gps"], {"gps", "zone"}, set()),
    "--keep mtime": (["--keep", "mtime"], {"mtime"}, set()),
    "no mtime without taken": (["--keep", "mtime", "--drop", "taken"], set(), {"taken"}),
    "--keep key": (["--keep", "key"], {"key", "table"}, set()),
    "keys without tables": (["--keep", "key", "--drop", "table"], {"key"}, set()),
    "--drop folder": (["--drop", "folder"], set(), {"folder", "archive"}),
    "--drop archive": (["--drop", "archive"], set(), {"archive"}),
    "--drop name": (["--drop", "name"], set(), {"name", "folder", "archive"}),
    "--drop taken": (["--drop", "taken"], set(), {"taken"}),
    "--drop camera": (["--drop", "camera"], set(), {"camera"}),
    "--drop model": (["--drop", "model"], set(), {"model"}),
    "everything dropped": (ALL_FACTS, set(), TOLD),
    "to a folder": (["--to-folder"], set(), set()),
    "everything dropped, to a folder": ([*ALL_FACTS, "--to-folder"], set(), TOLD),
    "--with-column": (["--with-column", "own"], {"own column"}, set()),
    "--with-table": (["--with-table", "TableMark"], {"key", "table", "row"}, set()),
    "originals": (
        ["--with-table", "TableMark", "--keep", "original"],
        {"key", "table", "row", *IN_FILES}, set(),
    ),
    "another table": (["--with-table", "SecondMark"], {"other table"}, set()),
    "--relative-to": (["--relative-to", "{home}/../../OutsideMark"], set(), set()),
    "--relative-to above": (["--relative-to", "{home}/../.."], {"outside"}, set()),
    "--all-models": (["--all-models"], set(), set()),
    "--vectors": (["--vectors", "fp16"], set(), set()),
    "--thumbnail-size": (["--thumbnail-size", "30"], set(), set()),
    "--no-thumbnails": (["--no-thumbnails"], set(), set()),
    "--with-image-search": (["--with-image-search"], set(), set()),
    "--where": (["--where", "path like 'FolderMark%'"], set(), {"archive"}),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_reveals_only_named_facts(home, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("HOME", str(home))
    options, added, removed = MODES[mode]
    options = [option.format(home=home) for option in options]
    to_folder = "--to-folder" in options
    target = tmp_path / "published.db"
    result = run("clip-publish", home / "photos.db", *options, target)
    assert result.exit_code == 0, result.output
    assert marks_in(published_bytes(target)) == (TOLD | added) - removed
    places = home, tmp_path, Path(sys.prefix), ROOT, "site-packages"
    assert not any(str(place).encode() in published_bytes(target) for place in places)
    database = target / "pictures.db" if to_folder else target
    assert rows(database, "select count(*) from images")[0][0] > 0
    check_thumbnails(database)


def check_thumbnails(database: Path) -> None:
    """Check that each thumbnail is a JPEG with nothing in it but a picture."""
    for format, data in rows(database, "select format, data from clip_thumbnails"):
        assert format == "jpeg"
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert [name for name, _ in image.applist] == ["APP0"]
            assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            assert not image.getexif()
        assert data.endswith(b"\xff\xd9")
        assert data.count(b"\xff\xd9") == 1
        assert plain_thumbnail(format, data) == (format, data)


def test_facts_without_marks(home, tmp_path):
    """Facts that are random, or numbers too small to look for."""
    plain, bare = tmp_path / "plain.db", tmp_path / "bare.db"
    run("clip-publish", home / "photos.db", plain)
    run("clip-publish", home / "photos.db", bare, "--drop", "size", "--drop", "content_hash")
    sql = "select id, size, content_hash from images order by id"
    theirs = rows(home / "photos.db", sql)
    assert rows(plain, sql) == theirs
    dropped = rows(bare, sql)
    assert {size for _, size, _ in dropped} == {0}
    hashes = {content_hash for _, _, content_hash in theirs}
    # Not even its beginning, which vectors and thumbnails have.
    assert not any(content_hash[:8] in bare.read_text("latin-1") for content_hash in hashes)
    assert all(content_hash[:8] in plain.read_text("latin-1") for content_hash in hashes)
    # Copies are still recognisable as copies.
    assert len({new for _, _, new in dropped}) == len(hashes)
    assert rows(plain, "select distinct mtime from images") == [(0,)]
    assert rows(plain, "select count(key) from images") == [(0,)]


def test_keys_join_with_the_table_that_is_published(home, tmp_path):
    options = ["--with-table", "TableMark"]
    assert run("clip-publish", home / "photos.db", tmp_path / "p.db", *options).exit_code == 0
    sql = """select path, title from images join TableMark using (key)"""
    assert rows(tmp_path / "p.db", sql) == [
        ("sqlite:TableMark/KeyMark-1", "RowMark"),
        ("sqlite:TableMark/KeyMark-2", "RowMark"),
    ]
    run("clip-publish", home / "photos.db", tmp_path / "p.db", *options, "--drop", "key")
    assert rows(tmp_path / "p.db", sql) == []
    paths = rows(tmp_path / "p.db", "select path = id || '.jpeg' from images where id in (5, 6)")
    assert paths == [(1,), (1,)]


def test_command_names_revealed_and_omitted_facts(home, tmp_path):
    result = run("clip-publish", home / "photos.db", tmp_path / "p.db")
    printed = dict(re.findall(r"^(Reveals|Left out): +(.+)  \(", result.stdout, re.MULTILINE))
    count = r" \(\d+\)"
    assert re.sub(count, "", printed["Reveals"]).split(", ") == [
        "folder", "archive", "name", "size", "content_hash", "taken", "camera", "model"
    ]  # fmt: skip
    assert re.sub(count, "", printed["Left out"]).split(", ") == [
        "gps", "mtime", "key", "table"
    ]  # fmt: skip
    assert "key (2)" in printed["Left out"]
    assert "Published: names of 2 folders, such as ArchiveMark.zip/within" in result.stderr
    assert "Left out: clip_failures, which has the paths of 1 file" in result.stderr


def test_texts_with_paths_are_reported(home, tmp_path):
    copy = Path(shutil.copy(home / "photos.db", tmp_path / "photos.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("update images set own = 'seen in /home/anna/Pictures' where id = 1")
    result = run("clip-publish", copy, tmp_path / "p.db", "--with-column", "own")
    assert "Published: 1 absolute path in images.own, unchanged" in result.stderr


def test_a_fact_is_either_kept_or_left_out(home, tmp_path):
    options = ["--keep-gps", "--drop", "gps"]
    result = run("clip-publish", home / "photos.db", tmp_path / "p.db", *options)
    assert result.exit_code == 2
    assert "--keep and --drop both name gps" in result.stderr


# These name files that are not published, or that are created again.
STAY_AT_HOME = {
    *("clip_failures", "clip_changes", "clip_publication"),
    *("clip_replaced", "clip_pruned", "clip_places"),
}


def test_every_column_is_decided_on():
    """A new column stays private until someone decides to publish it."""
    assert set(OWN_TABLES) - set(public_facts.COLUMNS) <= STAY_AT_HOME
    with closing(sqlite3.connect(":memory:")) as connection:
        create_tables(connection, "images")
        for table, named in {"images": public_facts.IMAGE_COLUMNS, **public_facts.COLUMNS}.items():
            sql = "select name from pragma_table_info(?)"
            columns = {name for (name,) in connection.execute(sql, (table,))}
            assert columns - named == ({"calibration"} if table == "clip_models" else set())
            assert named <= columns


def test_tables_whose_pictures_must_not_be_null(home, tmp_path):
    copy = Path(shutil.copy(home / "photos.db", tmp_path / "photos.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("create table strict (id integer primary key, data blob not null)")
        connection.execute("insert into strict (data) select data from clip_thumbnails")
    result = run("clip-publish", copy, tmp_path / "p.db", "--with-table", "strict")
    assert result.exit_code == 0, result.output
    assert rows(tmp_path / "p.db", "select distinct data from strict") == [(b"",)]
    assert "Left out: 6 picture files in strict.data; --keep original keeps them" in result.stderr
    assert "original" in re.findall("^Left out: .*", result.stdout, re.MULTILINE)[0]
