"""Plan a run: compare the pictures found with those in the database."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..pictures.sources import FoundPictures, Source, is_gone
from .outcomes import KnownPicture
from .reach import Places, read_places
from .store import Store

Work = tuple[Source, KnownPicture | None]
"""A picture, and its row if the database has its path."""


class NewKey(NamedTuple):
    """The row that the picture `image_id` comes from; `replaces` says that it had another key."""

    image_id: int
    key: object
    key_table: str | None
    replaces: bool


class Contents:
    """The contents that are already embedded, by the SHA-256 of the whole file."""

    def __init__(
        self, folder: Path, rows: Iterable[tuple[str, KnownPicture]], places: Places | None = None
    ):
        self._folder = folder
        self._places = places
        self._images: dict[str, int] = {}
        self._copies: dict[str, list[int]] = {}
        self._paths: dict[int, str] = {}
        for stored, row in rows:
            if row.content_hash in self._images:
                self._copies.setdefault(row.content_hash, []).append(row.image_id)
            else:
                self._images[row.content_hash] = row.image_id
            self._paths[row.image_id] = stored

    def find(self, content_hash: str) -> int | None:
        """Return the id of a picture with this content. Any thread may call this."""
        return self._images.get(content_hash)

    def take_moved(self, content_hash: str, path: str) -> int | None:
        """Return the id of a picture with this content whose file is gone, each id only once.

        The file at the stored `path` may be that file, moved.
        """
        if content_hash not in self._images:
            return None
        for image_id in [self._images[content_hash], *self._copies.get(content_hash, [])]:
            stored = self._paths.get(image_id)
            if stored is None or not is_gone(stored, self._folder):
                continue
            if self._places is None or self._places.allows_move(stored, path):
                del self._paths[image_id]
                return image_id
        return None

    def add(self, ids: dict[str, int]) -> None:
        """Add the pictures that the run has written."""
        self._images.update(ids)


@dataclass
class EmbedPlan:
    """The work of a run, and the counts of pictures that need none.

    `gone` are the stored paths and ids of pictures whose files are no longer there, as far as the
    run searched. Some of them may have been moved, or be on a disk that is not mounted. `excluded`
    are pictures that the run now skips. `forgotten` are paths of failures that no longer apply.
    `keys` have to be recorded for pictures that need nothing else.
    """

    work: list[Work]
    contents: Contents
    unchanged: int
    failed_before: int
    gone: dict[str, int]
    excluded: dict[str, int]
    forgotten: list[str]
    keys: list[NewKey]
    places: Places

    @property
    def surely_new(self) -> int:
        """The number of pictures without a vector, some of which may only have been moved."""
        return sum(row is None or not row.embedded for _, row in self.work)


def make_plan(
    found: FoundPictures, store: Store, rehash: bool, retry_failed: bool, deleted: str | None = None
) -> EmbedPlan:
    """Return the plan of a run.

    Files are compared by size and modification time, and with `rehash` also by content. A file that
    failed before is skipped until it changes, unless `retry_failed`. `deleted` is the absolute path
    of a place whose missing pictures are to be deleted.
    """
    known, failures = store.known_files(), store.known_failures()
    present = {source.stored for source in found.sources}
    work: list[Work] = []
    keys: list[NewKey] = []
    unchanged = failed_before = 0
    for source in found.sources:
        row = known.get(source.stored)
        # Blobs of a table have no time, and an equal size alone proves nothing.
        looks = (source.size, source.mtime) if source.mtime else None
        if row and row.embedded and not rehash and looks == (row.size, row.mtime):
            unchanged += 1
            key = (source.key, source.key_table)
            if source.key is not None and key != (row.key, row.key_table):
                keys.append(NewKey(row.image_id, *key, replaces=row.key is not None))
        elif not retry_failed and looks and failures.get(source.stored) == looks:
            failed_before += 1
        else:
            work.append((source, row))
    # A row whose file is in the work can't stand for content: if two files swapped their contents,
    # each would be taken for the other's row.
    changing = {source.stored for source, _ in work}
    still = ((path, row) for path, row in known.items() if row.embedded and path not in changing)
    absent = {path: row.image_id for path, row in known.items() if path not in present}
    gone = {path: image_id for path, image_id in absent.items() if found.lacks(path)}
    places = Places(found, read_places(store.connection, found), known, gone, deleted)
    excluded = (path for path in absent if found.excludes(path))
    over = [path for path in failures if path not in present and _is_over(path, found)]
    return EmbedPlan(
        work,
        Contents(store.folder, still, places),
        unchanged,
        failed_before,
        gone,
        {path: absent[path] for path in excluded if places.keeping(path) is None},
        [path for path in over if places.keeping(path) is None],
        keys,
        places,
    )


def _is_over(path: str, found: FoundPictures) -> bool:
    """Tell whether a failed path is gone, or is a folder or archive that can be listed now."""
    if any(path == unreadable for unreadable, _ in found.unreadable):
        return False
    return found.lacks(path) or found.covers(f"{path}/any.jpg")
