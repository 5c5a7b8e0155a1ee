"""Random sequences of changes end like a run over the folder as it is then."""

import os
import random
import shutil
from pathlib import Path

import pytest

from support.contents import contents, ids
from support.models import make_model
from support.pictures import make_picture

pytest.importorskip("open_clip")


class Folder:
    """A folder that changes at random; each change has a later time."""

    def __init__(self, path: Path, seed: int):
        self.path = path
        self.random = random.Random(seed)
        self.clock = 1_500_000_000
        self.made = 0

    def files(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*.*") if path.is_file())

    def change(self) -> str:
        ways = [self.add, self.delete, self.rename, self.swap, self.copy, self.modify, self.touch]
        way = self.random.choice(ways if len(self.files()) > 4 else [self.add])
        way()
        return way.__name__

    def one(self) -> Path:
        return self.random.choice(self.files())

    def name(self) -> Path:
        """Return a path that is often one that there was before."""
        below = self.random.choice(["", "x", "y", "x/z"])
        path = self.path / below / f"{self.random.randrange(12)}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stamp(self, path: Path) -> None:
        self.clock += 1
        os.utime(path, (self.clock, self.clock))

    def add(self) -> None:
        self.made += 1
        self.stamp(make_picture(self.name(), self.made))

    def modify(self) -> None:
        self.made += 1
        self.stamp(make_picture(self.one(), self.made))

    def touch(self) -> None:
        self.stamp(self.one())

    def delete(self) -> None:
        self.one().unlink()

    def rename(self) -> None:
        self.one().replace(self.name())

    def copy(self) -> None:
        name = self.name()
        source = self.one()
        if name != source:
            shutil.copy(source, name)
            self.stamp(name)

    def swap(self) -> None:
        one, other, between = self.one(), self.one(), self.path / "between"
        one.rename(between)
        if other.exists():
            other.rename(one)
        between.rename(other)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory):
    """The cache of consecutive runs, and the folder of their model."""
    from datasette_clip_search.embedding.model_loading import RunCache

    return RunCache(), make_model(tmp_path_factory.mktemp("loaded") / "tiny")


@pytest.mark.parametrize("seed", [1, 2])
def test_any_sequence_of_changes_equals_a_fresh_start(tmp_path, loaded, seed):
    from datasette_clip_search.embedding import EmbedOptions, embed_images

    held, model = loaded
    options = EmbedOptions(pretrained=str(model), prune=True)
    folder, database = Folder(tmp_path / "p", seed), tmp_path / "d.db"
    for _ in range(8):
        folder.add()
    embed_images(database, [folder.path], options, cache=held)
    # The contents that the last run saw: a row is kept only for the same content.
    before = {path: path.read_bytes() for path in folder.files()}
    for round in range(8):
        ids_before = ids(database)
        done = [folder.change() for _ in range(folder.random.randrange(1, 5))]
        embed_images(database, [folder.path], options, cache=held)
        other = tmp_path / f"fresh{round}.db"
        embed_images(other, [folder.path], options, cache=held)
        assert contents(database) == contents(other), done
        after = {path: path.read_bytes() for path in folder.files()}
        ids_after = ids(database)
        for path in before.keys() & after.keys():
            if before[path] == after[path]:
                stored = path.relative_to(tmp_path).as_posix()
                assert ids_after[stored] == ids_before[stored], done
        before = after
