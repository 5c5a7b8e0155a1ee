"""Find the pictures that a run was asked for, or say why there are none."""

import os
import shlex
import sqlite3
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from ..common.errors import CommandError
from ..database.connection import fetch, quote
from ..database.recognition import images_table
from ..pictures.sources import FoundPictures, find_pictures, find_rows
from ..pictures.sources.exclude import Exclusion
from ..pictures.sources.find import STANDARD_INPUT
from ..pictures.sources.found import SearchedPlace
from ..pictures.sources.globs import is_glob
from ..pictures.sources.mounts import is_within
from ..pictures.sources.source import absolute, printable
from ..pictures.sources.spelling import as_on_disk
from .options import EmbedOptions
from .reach import KeptPlace


class NothingThere(CommandError):
    "The folders of the database's pictures show none, as when a disk is not mounted"


class EmbedRequest:
    """The arguments of a run over one database.

    A folder or archive may be absent if the database has pictures of it: its disk may not be
    mounted. Any other absent path is an error.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: Path,
        pictures: Sequence[str | os.PathLike[str]],
        options: EmbedOptions,
    ):
        self._connection = connection
        self._database = database
        self._folder = Path(os.path.abspath(database)).parent
        self._arguments = [os.fspath(picture) for picture in pictures]
        self._options = options
        # The absolute path of the place whose missing pictures are to be deleted.
        self.deleted = self._named_alone()

    def find(self, stdin: BinaryIO | None) -> FoundPictures:
        """Return the pictures. Raises CommandError if there are none."""
        options = self._options
        absent = [each for each in self._arguments if self._is_absent(each)]
        there = [each for each in self._arguments if each not in absent]
        found = find_pictures(there, self._folder, options.exclude, stdin)
        for argument in absent:
            path = absolute(argument)
            exclusion = Exclusion(options.exclude, path)
            found.places[printable(path)] = SearchedPlace(
                exclusion, False, frozenset(), is_absent=True
            )
        if options.sql is not None:
            found.extend(find_rows(self._connection, options.sql, self._folder, options.exclude))
        if not found.sources and not found.unreadable:
            self._check_deletion(found)
        return found

    def _named_alone(self) -> str | None:
        options = self._options
        if not options.prune or options.is_watch or options.sql is not None:
            return None
        if len(self._arguments) != 1 or not _is_plain(self._arguments[0]):
            return None
        return printable(absolute(as_on_disk(self._arguments[0])))

    def _is_absent(self, argument: str) -> bool:
        """Tell whether an argument does not exist now, and the database has pictures of it."""
        if not argument or not _is_plain(argument):
            return False
        try:
            # The target of a broken link may be on a disk that is not mounted.
            os.stat(as_on_disk(argument))
        except FileNotFoundError:
            pass
        except (OSError, ValueError):
            return False
        else:
            return False
        if self._options.is_again:
            return True
        path = printable(absolute(argument))
        return any(is_within(each, path) and each != path for each in self._known)

    @cached_property
    def _known(self) -> list[str]:
        """The absolute paths of the database's pictures."""
        table = images_table(self._connection)
        if table is None:
            return []
        found = FoundPictures(folder=printable(absolute(self._folder)))
        rows = fetch(self._connection, f"select path from main.{quote(table)}")
        return [found.absolute(path) for (path,) in rows]

    def _check_deletion(self, found: FoundPictures) -> None:
        """Raise CommandError if nothing was found, unless the run should delete pictures."""
        held = self._held(found)
        if held and self.deleted and held < len(self._known):
            return
        where = ", ".join([*self._arguments, *([self._options.sql] if self._options.sql else [])])
        if held:
            raise NothingThere(
                f"There are no pictures in {where} any more. The {held} that the database has from "
                f"there are kept, as a disk may not be mounted. {self._advice(held)}"
            )
        others = sum(found.others.values())
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.others.most_common(5))
        other = [f"{others} other files: {kinds}"] if others else []
        if found.excluded:
            other.append(f"{found.excluded} excluded")
        instead = f" ({'; '.join(other)})" if other else ""
        raise CommandError(f"There are no pictures in {where}{instead}")

    def _held(self, found: FoundPictures) -> int:
        """Count the database's pictures in the places that were searched."""
        table = images_table(self._connection)
        if table is None:
            return 0
        rows = fetch(self._connection, f"select path from main.{quote(table)}")
        return sum(found.lacks(path) for (path,) in rows)

    def _advice(self, held: int) -> str:
        if held == len(self._known):
            table = quote(images_table(self._connection) or "")
            delete = shlex.join(["sqlite-utils", str(self._database), f"delete from {table}"])
            return f"They are all that it has. If they are gone for good: {delete}"
        kept = KeptPlace(next(iter(self._arguments), ""), held)
        return f"If they are gone for good: {deletion(shlex.quote(str(self._database)), kept)}"


def deletion(database: str, kept: KeptPlace) -> str:
    """Return the command that deletes a place's missing pictures; `database` is already quoted."""
    return f"sqlite-utils embed-images {database} {shlex.quote(kept.shown)} --prune"


def _is_plain(argument: str) -> bool:
    is_pattern = is_glob(argument) and not os.path.lexists(as_on_disk(argument))
    return argument != STANDARD_INPUT and not is_pattern
