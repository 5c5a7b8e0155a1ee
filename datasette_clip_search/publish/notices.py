"""What a person may not expect of what was published, in sentences."""

from collections.abc import Iterable, Iterator, Sequence

from ..database.connection import fetch, quote
from ..database.private_facts import FACTS
from ..database.publication import originals_template
from ..database.recognition import select_facts
from ..database.schema import FAILURES, THUMBNAILS
from ..database.vectors import lost_ids
from .copying import CHOSEN, Copy
from .options import PublishOptions
from .private_paths import PublicPaths
from .public_facts import PublicFacts, count_facts

# What holds an absolute path, of this system or another, or a home folder.
_LIKE_PATH = " or ".join(
    f"{{0}} like '{pattern}'"
    for pattern in ("/%/%", "_:\\%", "~/%", "file:/%", "%/home/%", "%/Users/%", "%\\Users\\%")
)
# A fact that some pictures lack is shown with how many have it.
_COUNTED = ("gps", "key", "taken", "camera")


def private_facts(copy: Copy, published: PublicFacts) -> tuple[list[str], list[str]]:
    """Returns which facts were published, and which were left out, of those that there are."""
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
    """Yields what was left out, changed, or may be more than was meant."""
    images = quote(copy.table)
    chosen = f"id in (select id from {CHOSEN})"
    position = select_facts(copy.reader, copy.table, "id", "latitude", "longitude")
    sql = f"""select count(*) from (select {position} from main.{images}) where {chosen}
        and latitude is not null and longitude is not null"""
    if positions := copy.count(sql):
        pictures = counted(positions, "picture")
        if "gps" in published.revealed:
            yield f"GPS positions of {pictures} are published"
        else:
            yield f"GPS positions left out: {pictures}; --keep-gps keeps them"
    if names := paths.shortened_to_names:
        yield (
            f"Paths shortened to names: {counted(names, 'picture')} outside the database's "
            "folder; --relative-to FOLDER keeps the path from a folder on"
        )
    if paths.folders:
        folders = counted(len(paths.folders), "folder")
        example = min(paths.folders)
        example = example if example.isprintable() else ascii(example)
        yield f"Paths name {folders}, such as {example}; --drop folder leaves them out"
    if options.condition is None:
        sql = f"select count(*) from main.{images} where not {chosen}"
        if others := copy.count(sql):
            yield f"Left out: {counted(others, 'picture')} that the model has not embedded"
    if lost := sum(len(lost_ids(copy.reader, model)) for model in copy.models):
        yield (
            f"Left out: {counted(lost, 'vector')} without a picture; sqlite-utils clip-index deletes "
            "them"
        )
    if options.thumbnail_size != 0:
        sql = f"""select count(*) from {CHOSEN}
            where id not in (select t.image_id from {copy.of(THUMBNAILS, "t")})"""
        if bare := copy.count(sql):
            yield f"Without a thumbnail: {counted(bare, 'picture')}, shown by name alone"
    if failures := copy.count(f"select count(*) from main.{FAILURES}"):
        yield f"Left out: {FAILURES}, which names {counted(failures, 'file')} by path"
    known = {
        name
        for (name,) in fetch(copy.writer, "select name from temp.pragma_table_info(?)", copy.table)
    }
    sql = "select name from temp.pragma_table_info(?)"
    own = [name for (name,) in fetch(copy.reader, sql, copy.table) if name not in known]
    if own:
        yield f"Columns of your own left out: {', '.join(own)}; --with-column {own[0]} keeps it"
    for place, number in published.originals.items():
        if "original" in published.revealed:
            yield f"Picture files in {place} are published, with all metadata: {number:,}"
        else:
            yield f"Picture files in {place} left out: {number:,}; --keep original keeps them"
    template = originals_template(copy.writer)
    if template and paths.changed and ("{path}" in template or "{name}" in template):
        yield "Links to originals use the shortened paths"
    yield from _paths_in(copy, copy.table, options.columns)
    for table in tables:
        yield from _paths_in(copy, table, copy.columns(table))


def _paths_in(copy: Copy, table: str, columns: Iterable[str]) -> Iterator[str]:
    """Yields which columns of the user's hold what looks like paths."""
    for column in columns:
        like = _LIKE_PATH.format(quote(column))
        sql = f"""select count(*) from main.{quote(table)}
            where typeof({quote(column)}) = 'text' and ({like})"""
        if found := fetch(copy.writer, sql).fetchone()[0]:
            yield f"{table}.{column} is published as it is, with {counted(found, 'absolute path')}"


def counted(number: int, what: str) -> str:
    """Returns a number with its noun."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
