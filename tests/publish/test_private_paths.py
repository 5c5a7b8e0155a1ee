"""A published path or name reveals nothing about the machine."""

import pytest

from datasette_clip_search.publish.private_paths import EVERYTHING, PublicPaths
from datasette_clip_search.publish.public_facts import public_pretrained
from datasette_clip_search.publish.public_towers import public_manifest
from support.databases import rows
from support.paths import DEMO_PICTURES
from support.publishing import publish

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
    assert [paths.public_path(place[stored], stored) for stored, _ in PATHS] == [
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


HOME = "/home/anna"


UNTOLD = [
    ("../x/a.jpg", "a.jpg"),
    ("b/../../x/a.jpg", "a.jpg"),
    ("~/a.jpg", "a.jpg"),
    ("file:///home/anna/a.jpg", "a.jpg"),
    ("s3://bucket/secret/a.jpg?token=1", "a.jpg"),
    ("\\\\server\\share\\a.jpg", "a.jpg"),
    ("home/anna/Pictures/a.jpg", "a.jpg"),
    ("backup.tar/home/anna/a.jpg", "a.jpg"),
    ("/mnt/backup.tar/home/anna/a.jpg", "a.jpg"),
    ("/mnt/backup.tar/home/berta/a.jpg", "backup.tar/home/berta/a.jpg"),
    ("home/garden/a.jpg", "home/garden/a.jpg"),
    ("sqlite:t/../home/a.jpg", "sqlite:t/a.jpg"),
    (b"\xff/home/anna", "1.jpeg"),
    (None, "1.jpeg"),
    ("..", "picture"),
]


@pytest.mark.parametrize(("stored", "expected"), UNTOLD)
def test_paths_that_reveal_the_machine(stored, expected):
    paths = PublicPaths([stored], [], "/srv/pictures", EVERYTHING, (), HOME)
    assert paths.public_path(1, stored, "JPEG") == expected


@pytest.mark.parametrize(
    ("folder", "stored", "expected"),
    [
        ("/", "home/anna/b/a.jpg", "a.jpg"),
        ("/home", "anna/b/a.jpg", "a.jpg"),
        ("/home", "berta/b/a.jpg", "berta/b/a.jpg"),
        ("/home/anna", "b/a.jpg", "b/a.jpg"),
        ("/home/anna/b", "a.jpg", "a.jpg"),
    ],
)
def test_databases_above_a_home_folder(folder, stored, expected):
    paths = PublicPaths([stored], [], folder, EVERYTHING, (), HOME)
    assert paths.public_path(1, stored, "JPEG") == expected


def test_names_that_are_left_out_are_still_different():
    stored = ["a.jpg", "b/a.jpg", "2.jpeg", "/x/c.png"]
    paths = PublicPaths(stored, [], kept={"key", "table"})
    assert [paths.public_path(n, path, "JPEG") for n, path in enumerate(stored)] == [
        "0.jpeg", "1.jpeg", "2.jpeg", "3.jpeg"
    ]  # fmt: skip
    paths = PublicPaths(stored, [], kept={"name"})
    assert [paths.public_path(n, path, "<b>") for n, path in enumerate(stored)] == [
        "a.jpg", "a-1.jpg", "2.jpeg", "c.png"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pretrained", "published"),
    [
        ("datacomp_xl_s13b_b90k", "datacomp_xl_s13b_b90k"),
        ("", ""),
        ("/home/anna/secret", "./model"),
        ("/home/anna/secret/w.pt", "./model.pt"),
        ("C:\\Users\\anna\\w.safetensors", "./model.safetensors"),
        ("secret/w.bin", "./model.bin"),
        ("~/secret", "./model"),
        ("secret.pth", "./model.pth"),
    ],
)
def test_places_of_weights(pretrained, published):
    assert public_pretrained(pretrained) == published


@pytest.mark.parametrize("manifest", [None, b"{}", "", "[1]", "{", "[" * 100_000])
def test_manifests_that_cannot_be_read_say_nothing(manifest):
    assert public_manifest(manifest) == "{}"
