"""A disk that is not mounted loses nothing: a place that shows no pictures keeps its rows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datasette_clip_search.embedding import reach as places
from datasette_clip_search.embedding import watch
from datasette_clip_search.pictures.sources import mounts as mounts_module
from support.commands import run
from support.databases import rows
from support.pictures import make_picture

KEPT = (
    "{count}  (not found in {place}, perhaps because a disk is not mounted. To delete their rows: "
    "sqlite-utils embed-images {database} {place} --prune)"
)


class MountedPhotos:
    """Two folders and their database; `disk` can be a mount point."""

    def __init__(self, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.model = folder, model
        self.database = folder / "d.db"
        self.disk = folder / "photos" / "disk"
        self.is_mounted = True
        monkeypatch.chdir(folder)
        for number in range(3):
            make_picture(folder / "photos" / "home" / f"{number}.png", number)
            make_picture(self.disk / "deep" / f"{number}.png", 10 + number)
        real_stat = os.stat

        def stat(path, *arguments, **named):
            info = real_stat(path, *arguments, **named)
            below = os.path.abspath(os.fspath(path)) + "/"
            if self.is_mounted and below.startswith(f"{self.disk}/"):
                return os.stat_result((*info[:2], 4242, *info[3:10]), {"st_mtime": info.st_mtime})
            return info

        monkeypatch.setattr(os, "stat", stat)

    def embed(self, *arguments: object) -> dict[str, str]:
        options = ("--pretrained", self.model, "--text-tower", "none")
        result = run("embed-images", self.database.name, *arguments, *options)
        assert result.exit_code == 0, result.output
        lines = [line.split(":", 1) for line in result.stdout.splitlines()]
        return {name: value.strip() for name, value in lines} | {"output": result.output}

    def fail(self, *arguments: object) -> str:
        result = run("embed-images", self.database.name, *arguments)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        return result.output

    def unmount(self, way: str = "emptied") -> None:
        self.is_mounted = False
        if self.disk.exists():
            self.disk.rename(self.folder / "away")
        if way == "emptied":
            self.disk.mkdir()

    def mount(self) -> None:
        if self.disk.exists():
            shutil.rmtree(self.disk)
        (self.folder / "away").rename(self.disk)
        self.is_mounted = True

    def rows(self) -> list[tuple]:
        return rows(self.database, "select id, path from images order by id")

    def kept(self, place: object, count: int = 3) -> str:
        return KEPT.format(count=count, place=place, database=self.database.name)


@pytest.fixture
def collection(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> MountedPhotos:
    return MountedPhotos(tmp_path, tiny_model, monkeypatch)


UNMOUNTED = pytest.mark.parametrize("way", ["emptied", "removed"])


@UNMOUNTED
@pytest.mark.parametrize("given", [["photos"], ["photos/home", "photos/disk"], ["photos/*"]])
def test_a_disk_that_is_not_mounted(collection, way, given):
    collection.embed(*given)
    before = collection.rows()
    collection.unmount(way)
    for options in ([], ["--prune"], ["--prune"]):
        told = collection.embed(*given, *options)
        assert collection.rows() == before
        assert "Missing" not in told
        assert "Deleted" not in told
        if given != ["photos/*"] or way == "emptied":
            assert told["Kept"] == collection.kept("photos/disk")
    # Missing pictures of other places are deleted as usual.
    (collection.folder / "photos" / "home" / "0.png").unlink()
    assert collection.embed(*given, "--prune")["Deleted"].startswith("1 ")
    collection.mount()
    told = collection.embed(*given, "--prune")
    assert (told["Unchanged"], told["Embedded"]) == ("5", "0")
    assert "Kept" not in told
    left = [row for row in before if row[1] != "photos/home/0.png"]
    assert collection.rows() == left


@UNMOUNTED
def test_deleting_takes_naming_the_place_alone(collection, way):
    collection.embed("photos")
    collection.unmount(way)
    message = "The 3 that the database has from there are kept, as a disk may not be mounted. If "
    message += "they are gone for good: sqlite-utils embed-images d.db photos/disk --prune"
    assert message in collection.fail("photos/disk")
    assert len(collection.rows()) == 6
    # With another argument, it is not named alone.
    for others in (["photos/home"], ["photos/*"], ["--sql", "select 1, 'photos/home/0.png'"]):
        collection.embed("photos/disk", *others, "--prune")
        assert len(collection.rows()) == 6
    assert collection.embed("photos/disk", "--prune")["Deleted"].startswith("3 ")
    assert [path for _, path in collection.rows()] == [f"photos/home/{n}.png" for n in range(3)]
    assert rows(collection.database, "select * from clip_places") == []
    told = collection.embed("photos", "--prune")
    assert "Kept" not in told


def test_nothing_is_left_of_a_database(collection):
    """A nightly command also names one folder alone."""
    collection.embed("photos")
    shutil.rmtree(collection.folder / "photos")
    for _ in range(2):
        told = collection.fail("photos", "--prune")
        assert "There are no pictures in photos any more. The 6 that the database has" in told
        assert "They are all that it has. If they are gone for good: sqlite-utils d.db" in told
        (collection.folder / "photos").mkdir(exist_ok=True)
    assert len(collection.rows()) == 6


def test_a_folder_that_was_emptied_by_hand_is_no_disk(collection):
    collection.is_mounted = False
    collection.embed("photos")
    collection.unmount("emptied")
    told = collection.embed("photos", "--prune")
    assert told["Deleted"].startswith("3 ")
    assert "Kept" not in told


@UNMOUNTED
def test_roots_need_no_device_of_their_own(collection, way):
    collection.is_mounted = False
    collection.embed("photos/home", "photos/disk")
    before = collection.rows()
    collection.unmount(way)
    told = collection.embed("photos/home", "photos/disk", "--prune")
    assert told["Kept"] == collection.kept("photos/disk")
    assert collection.rows() == before


def test_an_argument_that_was_never_there_is_an_error(collection):
    collection.embed("photos")
    assert "There is no file or folder photos/typo" in collection.fail("photos", "photos/typo")
    assert "There is no file or folder photos/hom" in collection.fail("photos/hom", "--prune")
    # A single picture is no place.
    (collection.folder / "photos" / "home" / "0.png").unlink()
    assert "There is no file or folder" in collection.fail("photos/home/0.png", "--prune")
    assert len(collection.rows()) == 6


def test_pictures_that_were_put_below_the_disk(collection):
    """Programs that write to an unmounted disk write into the empty folder."""
    collection.embed("photos")
    before = collection.rows()
    collection.unmount()
    make_picture(collection.disk / "stray.png", 90)
    told = collection.embed("photos", "--prune")
    assert told["Kept"] == collection.kept("photos/disk")
    assert collection.rows()[:6] == before
    told = collection.embed("photos/disk", "photos/home", "--prune")
    assert told["Kept"] == collection.kept("photos/disk")
    collection.mount()
    assert collection.embed("photos", "--prune")["Deleted"].startswith("1 ")
    assert collection.rows() == before


def test_a_disk_that_became_an_ordinary_folder(collection):
    collection.embed("photos")
    collection.is_mounted = False
    (collection.disk / "deep" / "0.png").unlink()
    assert collection.embed("photos", "--prune")["Deleted"].startswith("1 ")


def test_a_root_inside_a_disk(collection):
    """The given folder lies below the mount point, whose parent is searched later."""
    collection.embed("photos/home", "photos/disk/deep")
    assert rows(collection.database, "select path from clip_places") == [("photos/disk",)]
    before = collection.rows()
    collection.unmount()
    assert collection.embed("photos", "--prune")["Kept"] == collection.kept("photos/disk")
    told = collection.embed("photos/home", "photos/disk/deep", "--prune")
    assert told["Kept"] == collection.kept("photos/disk/deep")
    assert collection.rows() == before


def test_single_files_of_a_disk(collection):
    collection.embed("photos/home", "photos/disk/deep/0.png", "photos/disk/deep/1.png")
    before = collection.rows()
    collection.unmount()
    assert collection.embed("photos", "--prune")["Kept"] == collection.kept("photos/disk", 2)
    assert collection.rows() == before


@UNMOUNTED
def test_archives_and_failures_of_a_disk(collection, way):
    shutil.make_archive("packed", "zip", collection.disk / "deep")
    shutil.move("packed.zip", collection.disk / "packed.zip")
    (collection.disk / "broken.png").write_bytes(b"nonsense")
    given = ["photos/home", "photos/disk", "photos/disk/packed.zip"]
    collection.embed(*given)
    before = collection.rows()
    assert len(before) == 9
    collection.unmount(way)
    told = collection.embed(*given, "--prune")
    assert collection.rows() == before
    assert "not found in photos/disk/packed.zip" in told["output"]
    failures = "select path from clip_failures"
    assert rows(collection.database, failures) == [("photos/disk/broken.png",)]


@pytest.mark.parametrize("link", ["photos/disk", "photos/disk/deep"])
@UNMOUNTED
def test_a_root_that_is_a_link_to_a_disk(collection, way, link):
    (collection.folder / "link").symlink_to(collection.folder / link)
    collection.embed("photos/home", "link")
    before = collection.rows()
    collection.unmount(way)
    told = collection.embed("photos/home", "link", "--prune")
    assert told["Kept"] == collection.kept("link")
    assert collection.rows() == before
    assert collection.embed("link", "--prune")["Deleted"].startswith("3 ")


def test_a_disk_that_goes_while_it_is_looked_through(collection, monkeypatch):
    collection.embed("photos")
    before = collection.rows()
    make_picture(collection.disk / "first.png", 70)
    scandir = os.scandir

    def unplug(path="."):
        if str(path).endswith("/deep"):
            collection.unmount("removed")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", unplug)
    told = collection.embed("photos", "--prune")
    assert told["Kept"] == collection.kept("photos/disk")
    assert collection.rows() == before


@pytest.mark.parametrize(
    ("errno", "step"),
    [
        ("ENOTCONN", "stat"),
        ("EHOSTDOWN", "stat"),
        ("ESTALE", "scandir"),
        ("EACCES", "scandir"),
        ("EIO", "entries"),
        ("ENODEV", "entries"),
    ],
)
def test_a_disk_that_fails(collection, monkeypatch, errno, step):
    import errno as errnos

    collection.embed("photos")
    before = collection.rows()
    error = OSError(getattr(errnos, errno), os.strerror(getattr(errnos, errno)))

    def failing(real):
        def call(path=".", *arguments, **named):
            if str(path).rstrip("/").endswith("/disk") or "/disk/" in str(path):
                raise error
            return real(path, *arguments, **named)

        return call

    if step == "entries":
        collection.unmount()
        scandir = os.scandir

        class Broken:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def __iter__(self):
                return self

            def __next__(self):
                raise error

        def broken(path="."):
            return Broken() if str(path).endswith("/disk") else scandir(path)

        monkeypatch.setattr(os, "scandir", broken)
    else:
        monkeypatch.setattr(os, step, failing(getattr(os, step)))
    told = collection.embed("photos", "--prune")
    assert collection.rows() == before
    assert f"photos/disk: The folder can't be listed: {error.strerror}" in told["output"]


def test_a_disk_whose_path_has_changed_keeps_its_rows(collection):
    collection.embed("photos")
    before = [id for id, _ in collection.rows()]
    collection.unmount()
    (collection.folder / "away").rename(collection.folder / "photos" / "disk1")
    collection.disk = collection.folder / "photos" / "disk1"
    collection.is_mounted = True
    told = collection.embed("photos", "--prune")
    assert told["Moved"].startswith("3 ")
    assert "Kept" not in told
    assert [id for id, _ in collection.rows()] == before


def test_copies_elsewhere_take_no_rows_of_a_disk(collection):
    collection.embed("photos")
    before = collection.rows()
    for number in range(3):
        make_picture(collection.folder / "photos" / "home" / f"copy{number}.png", 10 + number)
    collection.unmount()
    told = collection.embed("photos", "--prune")
    assert "Moved" not in told
    assert told["Kept"] == collection.kept("photos/disk")
    assert collection.rows()[:6] == before
    collection.mount()
    collection.embed("photos", "--prune")
    assert collection.rows()[:6] == before


def test_pictures_moved_from_one_root_to_another_keep_their_rows(collection):
    """If no disk is missing, an empty folder was emptied."""
    collection.is_mounted = False
    collection.embed("photos/home", "photos/disk")
    before = [id for id, _ in collection.rows()]
    (collection.disk / "deep").rename(collection.folder / "photos" / "home" / "deep")
    told = collection.embed("photos/home", "photos/disk", "--prune")
    assert told["Moved"].startswith("3 ")
    assert "Kept" not in told
    assert [id for id, _ in collection.rows()] == before


def test_a_watch_that_begins_before_its_disk_is_mounted(collection, monkeypatch):
    collection.is_mounted = False
    collection.embed("photos/disk")
    before = collection.rows()
    collection.unmount()

    class Mounting:
        def changes(self):
            yield
            collection.mount()
            make_picture(collection.disk / "new.png", 80)
            yield

    monkeypatch.setattr(watch, "_listener", lambda *_: Mounting())
    output = collection.embed("photos/disk", "--watch", "--prune")["output"]
    assert output.count("There are no pictures in photos/disk any more") == 1
    assert collection.rows()[:3] == before
    assert len(collection.rows()) == 4


def test_what_is_excluded_now_is_told_of_and_pruned(collection):
    collection.embed("photos")
    told = collection.embed("photos", "--exclude", "home")
    assert told["Excluded"] == "3  (embedded earlier, but excluded now; --prune deletes their rows)"
    assert len(collection.rows()) == 6
    told = collection.embed("photos", "--exclude", "photos/home", "--prune")
    assert told["Deleted"].startswith("3 ")
    assert {path for _, path in collection.rows()} == {
        f"photos/disk/deep/{number}.png" for number in range(3)
    }


def test_what_is_excluded_of_the_arguments_themselves(collection):
    collection.embed("photos/home", "photos/disk")
    told = collection.embed("photos/home", "photos/disk", "--exclude", "home")
    assert told["Excluded"].startswith("3 ")


def test_no_place_is_published(collection):
    collection.embed("photos")
    assert rows(collection.database, "select path from clip_places") == [("photos/disk",)]
    run("clip-publish", collection.database, "public.db")
    assert rows(collection.folder / "public.db", "select path from clip_places") == []


REAL = """
set -e
options="--pretrained {model} --text-tower none"
cd {folder}/photos
mount -t tmpfs none 'My disk'
mount --bind ../other bound
cp ../source/*.png 'My disk'
cp ../source2/*.png bound
embed() {{ {python} -m sqlite_utils embed-images ../d.db . $options "$@"; }}
embed > /dev/null
umount 'My disk' bound
embed --prune
"""


def test_real_mounts(tmp_path, tiny_model):
    """Also a bind mount of the same device, which only the table of mounts shows."""
    for name in ("photos/My disk", "photos/bound", "other"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(3):
        make_picture(tmp_path / "source" / f"{number}.png", number)
        make_picture(tmp_path / "source2" / f"{number}.png", 10 + number)
    make_picture(tmp_path / "photos" / "a.png", 20)
    script = REAL.format(folder=tmp_path, model=tiny_model, python=sys.executable)
    try:
        result = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("There is no unshare here")
    if "mount: " in result.stderr or "unshare: " in result.stderr:
        pytest.skip("Nothing can be mounted here")
    assert result.returncode == 0, result.stderr
    assert "3  (not found in bound" in result.stdout
    assert "embed-images ../d.db 'My disk' --prune)" in result.stdout
    assert len(rows(tmp_path / "d.db", "select id from images")) == 7


def test_where_no_table_of_mounts_is(monkeypatch):
    monkeypatch.setattr(mounts_module, "TABLE", "/nowhere")
    assert mounts_module.mounts() == []
    assert mounts_module.is_mount("/", frozenset())
    assert places.KeptPlace("/elsewhere/-x", 1).shown == "/elsewhere/-x"
