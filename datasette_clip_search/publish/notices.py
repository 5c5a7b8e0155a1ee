"""Notices about a published file that its owner may not expect, one sentence each."""

from collections.abc import Iterable, Iterator, Sequence

from ..database.connection import fetch, quote
from ..database.private_facts import FACTS
from ..database.publication import originals_template
from ..database.schema import FAILURES, THUMBNAILS
from ..database.vectors import lost_ids
from .copying import CHOSEN, Copy
from .options import PublishOptions
from .private_paths import PublicPaths
from .public_facts import PublicFacts, count_facts

# Text that contains an absolute path of any system, or a home folder.
_LIKE_PATH = " or ".join(
    f"{{0}} like '{pattern}'"
    for pattern in ("/%/%", "_:\\%", "~/%", "file:/%", "%/home/%", "%/Users/%", "%\\Users\\%")
)
_IS_CHOSEN = f"id in (select id from {CHOSEN})"
# Facts that not every picture has are shown with the number of pictures that have them.
_COUNTED = ("gps", "key", "taken", "camera")


def private_facts(copy: Copy, published: PublicFacts) -> tuple[list[str], list[str]]:
    """Return which of the existing facts were published, and which were left out."""
    held = count_facts(copy.reader, copy.table, CHOSEN)
    held["original"] = sum(published.originals.values())
    revealed: list[str] = []
    left_out: list[str] = []
    for fact in FACTS:
        number = held.get(fact.name)
        shown = f"{fact.name} ({number:,})" if fact.name in _COUNTED else fact.name
        if number != 0 and fact.name in published.revealed:
            revealed.append(shown)
        if number != 0 and fact.name in published.withheld:
            left_out.append(shown)
    return revealed, left_out


def find_notices(
    copy: Copy,
    options: PublishOptions,
    published: PublicFacts,
    paths: PublicPaths,
    tables: Sequence[str],
) -> Iterator[str]:
    """Yield what was left out or changed, and what may reveal more than intended."""
    yield from _path_notices(paths)
    yield from _left_out_notices(copy, options)
    yield from _original_notices(copy, published, paths)
    yield from _paths_in(copy, copy.table, options.columns)
    for table in tables:
        yield from _paths_in(copy, table, copy.columns(table))


def _path_notices(paths: PublicPaths) -> Iterator[str]:
    if names := paths.shortened_to_names:
        yield (
            f"Shortened to file names: paths of {counted(names, 'picture')} outside the database's "
            "folder; --relative-to FOLDER keeps the path below FOLDER"
        )
    if paths.folders:
        folders = counted(len(paths.folders), "folder")
        example = min(paths.folders)
        example = example if example.isprintable() else ascii(example)
        yield f"Published: names of {folders}, such as {example}; --drop folder leaves them out"


def _left_out_notices(copy: Copy, options: PublishOptions) -> Iterator[str]:
    if options.condition is None:
        sql = f"select count(*) from main.{quote(copy.table)} where not {_IS_CHOSEN}"
        if others := copy.count(sql):
            yield f"Left out: {counted(others, 'picture')} that the model has not embedded"
    if lost := sum(len(lost_ids(copy.reader, model)) for model in copy.models):
        yield (
            f"Left out: {counted(lost, 'vector')} without a picture; sqlite-utils clip-index "
            "deletes them"
        )
    if options.thumbnail_size != 0:
        sql = f"""select count(*) from {CHOSEN}
            where id not in (select t.image_id from {copy.current_rows(THUMBNAILS, "t")})"""
        if bare := copy.count(sql):
            yield f"Without a thumbnail: {counted(bare, 'picture')}; the page shows only names"
    if failures := copy.count(f"select count(*) from main.{FAILURES}"):
        yield f"Left out: {FAILURES}, which has the paths of {counted(failures, 'file')}"
    sql = "select name from temp.pragma_table_info(?)"
    known = {name for (name,) in fetch(copy.writer, sql, copy.table)}
    own = [name for (name,) in fetch(copy.reader, sql, copy.table) if name not in known]
    if own:
        yield f"Left out: your own columns {', '.join(own)}; --with-column {own[0]} keeps one"


def _original_notices(copy: Copy, published: PublicFacts, paths: PublicPaths) -> Iterator[str]:
    for place, number in published.originals.items():
        files = f"{counted(number, 'picture file')} in {place}"
        if "original" in published.revealed:
            yield f"Published: {files}, with all metadata"
        else:
            yield f"Left out: {files}; --keep original keeps them"
    template = originals_template(copy.writer)
    if template and paths.changed and ("{path}" in template or "{name}" in template):
        yield "Links to originals use the shortened paths"


def _paths_in(copy: Copy, table: str, columns: Iterable[str]) -> Iterator[str]:
    """Yield which of the user's columns contain text that looks like paths."""
    for column in columns:
        like = _LIKE_PATH.format(quote(column))
        sql = f"""select count(*) from main.{quote(table)}
            where typeof({quote(column)}) = 'text' and ({like})"""
        if found := fetch(copy.writer, sql).fetchone()[0]:
            yield f"Published: {counted(found, 'absolute path')} in {table}.{column}, unchanged"


def counted(number: int, what: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
