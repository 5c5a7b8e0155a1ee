"""An undisturbed run, to compare others with."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from support.commands import run
from support.contents import contents
from support.databases import rows
from support.models import make_model
from support.pictures import make_picture

# These runs write every batch. All batches have one size, so that the model adds in one order.
EAGER = {"commit_seconds": 0.0, "cpu_batch_size": 4, "gpu_batch_size": 4}
BATCH = 4
PICTURES = 60


@dataclass(frozen=True)
class Undisturbed:
    """Pictures, a loaded model, and the contents of the database that a run makes."""

    folder: Path
    model: Path
    contents: dict[str, tuple]
    loaded: object

    def place(self, folder: Path) -> Path:
        """Return the path for a database, with these pictures beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pictures").symlink_to(self.folder)
        return folder / "p.db"

    def arguments(self, database: Path) -> list[object]:
        """Return the arguments of the command for a database from `place`."""
        return [database.parent / "pictures", "--pretrained", self.model, "--batch-size", BATCH]

    def complete(self, database: Path) -> None:
        """Run to the end, and fail unless the result is as if nothing had happened."""
        from datasette_clip_search.embedding import EmbedOptions, embed_images

        chosen = EmbedOptions(pretrained=str(self.model), batch_size=BATCH)
        embed_images(database, [database.parent / "pictures"], chosen, cache=self.loaded)
        self.check(database)

    def check(self, database: Path) -> None:
        """Fail unless database and index are those of an undisturbed run."""
        from datasette_clip_search.database.changes import moment_of
        from datasette_clip_search.database.index import index_path, open_index
        from datasette_clip_search.database.model import models

        assert contents(database) == self.contents
        connection = sqlite3.connect(database)
        try:
            (model,) = models(connection)
            file = index_path(database, model.id)
            base, facts = open_index(file, model.fingerprint, model.dimension)
            assert facts.moment == moment_of(connection, model)
        finally:
            connection.close()
        assert len(base) == len(self.contents)
        left = {path.name for path in database.parent.iterdir() if path.name[0] != "."}
        assert left == {"pictures", database.name, file.name}


def make_undisturbed(folder: Path) -> Undisturbed:
    """Make pictures and a model, and embed them."""
    from datasette_clip_search.embedding import EmbedOptions, embed_images
    from datasette_clip_search.embedding.model_loading import RunCache

    model = make_model(folder / "tiny")
    for number in range(PICTURES - 6):
        make_picture(folder / "pictures" / f"{number:03}.jpg", number)
    for number in range(6):
        make_picture(folder / "pictures" / "copies" / f"{number:03}.jpg", number)
    loaded = RunCache()
    database = folder / "p.db"
    options = EmbedOptions(pretrained=str(model), batch_size=BATCH)
    embed_images(database, [folder / "pictures"], options, cache=loaded)
    held = contents(database)
    assert len(held) == PICTURES
    return Undisturbed(folder / "pictures", model, held, loaded)


def committed(database: Path) -> dict[str, tuple]:
    """Return the contents of a database that may not have its tables yet."""
    if not database.exists():
        return {}
    assert rows(database, "pragma integrity_check") == [("ok",)]
    has_tables = rows(database, "select 1 from sqlite_master where name = 'images'")
    return contents(database) if has_tables else {}


def assert_is_part(held: dict[str, tuple], whole: dict[str, tuple]) -> None:
    """Fail unless every row is already as it will be in the end, with vector and thumbnail."""
    for path, row in held.items():
        assert row == whole[path], path


def embed_by_command(database: Path, model: Path):  # type: ignore[no-untyped-def]
    folder = database.parent / "pictures"
    return run("embed-images", database, folder, "--pretrained", model, "--batch-size", str(BATCH))


def assert_one_sentence(result) -> None:  # type: ignore[no-untyped-def]
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output
