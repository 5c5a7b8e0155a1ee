"""Write one self-contained file from a database that may be in use."""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..common.arrays import Ids, Vectors
from ..common.config import CONFIG
from ..common.errors import CommandError, DatabaseError
from ..database.connection import fetch, has_table, quote
from ..database.model import Model, choose_model, models
from ..database.private_facts import kept_facts
from ..database.publication import check_template, originals_template
from ..database.schema import EMBEDDINGS, PUBLICATION, TOWERS
from ..database.vectors import decode_vectors, encode_float16, has_length
from ..models.towers.stored import IMAGE, TEXT
from ..pictures.sources.source import absolute
from .copying import CHOSEN, Copy
from .notices import counted, find_notices, private_facts
from .options import PublishOptions, PublishProgress, PublishReport
from .private_paths import PublicPaths
from .public_facts import PublicFacts
from .public_thumbnails import shrink_thumbnails
from .rounding_loss import published_recall
from .sizes import part_sizes
from .target import check_target, replace_whole, scratch_folder

_VECTORS_AT_ONCE = 4096
# How many pictures to measure the loss of rounding with. They give the recall to half a percent, in
# a second or two for each 100,000 pictures.
_RECALL_SAMPLE = 200


def publish_file(
    source: Path,
    target: Path,
    connection: sqlite3.Connection,
    options: PublishOptions,
    progress: PublishProgress | None = None,
) -> PublishReport:
    """Write the public part of a database to a file, completely or not at all.

    `connection` reads `source`, outside any transaction. The file has the state of one moment, even
    if other programs write to the source at the same time. The source does not change.

    Raise CommandError if the options can't be met, and other ClipSearchErrors.
    """
    started = time.monotonic()
    progress = progress or PublishProgress()
    check_target(source, target, options.replace)
    if options.originals_url is not None:
        check_template(options.originals_url)
    report = PublishReport(target)
    with scratch_folder(target) as folder, _explain_write_errors(target):
        copied = folder / "copy.db"
        with closing(_create(copied)) as writer:
            with _snapshot(connection):
                unreadable = _fill(connection, writer, source, options, progress, report)
            if options.thumbnail_size:
                unreadable += shrink_thumbnails(writer, options.thumbnail_size, progress)
            if unreadable:
                left_out = counted(unreadable, "thumbnail")
                report.warnings.append(f"Left out: {left_out} that can't be read")
            report.parts = part_sizes(writer, report.table)
            # The copy has no free pages, and each table in one piece.
            writer.execute("vacuum main into ?", (str(folder / "whole.db"),))
        whole = folder / "whole.db"
        report.parts.append(
            ("SQLite's own", whole.stat().st_size - sum(size for _, size in report.parts))
        )
        replace_whole(whole, target)
    report.seconds = time.monotonic() - started
    return report


def _create(file: Path) -> sqlite3.Connection:
    """Create the database to fill. It needs no protection from a crash, which discards it."""
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute(f"pragma page_size = {CONFIG.published_page_size}")
    writer.execute("pragma journal_mode = memory")
    writer.execute("pragma synchronous = off")
    return writer


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Keep a connection at the state of one moment."""
    before, connection.isolation_level = connection.isolation_level, None
    connection.execute("begin")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("rollback")
        connection.isolation_level = before


@contextmanager
def _explain_write_errors(target: Path) -> Iterator[None]:
    """Turn errors of writing into CommandErrors; the old file is unchanged."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if "locked" in str(error):
            raise CommandError(
                "The database is in use by another program. Run the same command again"
            ) from error
        is_of_files = ("full", "disk I/O", "readonly", "unable to open")
        if not isinstance(error, OSError) and not any(each in str(error) for each in is_of_files):
            raise
        kept = ". The existing file is unchanged" if target.exists() else ""
        raise CommandError(f"{target} can't be written: {reason}{kept}") from error


def _fill(
    reader: sqlite3.Connection,
    writer: sqlite3.Connection,
    source: Path,
    options: PublishOptions,
    progress: PublishProgress,
    report: PublishReport,
) -> int:
    """Fill the database to publish; return how many thumbnails could not be read."""
    table, model = choose_model(reader, options.model)
    chosen = models(reader) if options.all_models else [model]
    report.table, report.models = table, [each.label for each in chosen]
    writer.execute("begin")
    copy = Copy(reader, writer, table, chosen, progress)
    ids: set[int] | None = None
    if options.condition:
        ids = set().union(*(options.condition(reader, table, each) for each in chosen))
    report.pictures = copy.choose(ids)
    report.pictures_at_home = copy.count(f"select count(*) from main.{quote(table)}")
    if not report.pictures:
        why = (
            "No picture matches --where" if options.condition else f"{model.label} has no pictures"
        )
        raise CommandError(f"{why}, so there is nothing to publish")
    kept = kept_facts(options.keep, options.drop)
    paths = PublicPaths(
        copy.paths(),
        [absolute(root) for root in options.relative_to],
        str(Path(absolute(str(source))).parent),
        kept,
        () if "key" in options.drop else options.tables,
    )
    published = PublicFacts(kept, paths)
    copy.copy_models(published.model)
    copy.copy_pictures(published, options.columns)
    unreadable = copy.copy_thumbnails() if options.thumbnail_size != 0 else 0
    copy.copy_towers(options.image_search)
    tables = [copy.copy_table(name, published) for name in options.tables]
    progress.start("Copying", _count_vectors(copy, chosen))
    copy.copy_vectors(partial(_published_vector, options.vectors == "fp16"))
    progress.finish()
    copy.finish()
    url = options.originals_url or originals_template(reader)
    writer.execute(
        f"insert into {PUBLICATION} (published, release, originals_url) values (?, ?, ?)",
        (datetime.now(UTC).isoformat(timespec="seconds"), version("datasette-clip-search"), url),
    )
    writer.execute("commit")
    if options.vectors == "fp16":
        chunks = partial(_vector_chunks, copy, chosen[0])
        count = _count_vectors(copy, chosen[:1])
        report.recall, report.asked = published_recall(chunks, count, _RECALL_SAMPLE)
    report.has_words = _all_have_tower(writer, chosen, TEXT)
    report.revealed, report.left_out = private_facts(copy, published)
    report.warnings += find_notices(copy, options, published, paths, tables)
    if options.image_search and not _all_have_tower(writer, chosen, IMAGE):
        report.warnings.append(
            "Visitors can't search by their own pictures: that needs an image tower, which this "
            "database does not have. Run sqlite-utils embed-images with --with-image-search, then "
            "this command again"
        )
    return unreadable


def _count_vectors(copy: Copy, chosen: Iterable[Model]) -> int:
    which = ", ".join(str(model.id) for model in chosen)
    return copy.count(
        f"""select count(*) from {copy.current_rows(EMBEDDINGS, "e")}
        where e.model_id in ({which}) and e.image_id in (select id from {CHOSEN})"""
    )


def _published_vector(is_halved: bool, model: Model, image_id: int, value: object) -> bytes:
    if isinstance(value, bytes) and has_length(value, model.dimension):
        [vector] = decode_vectors([value], model.dimension)
        if np.isfinite(vector).all():
            # Vectors that are already rounded stay as they are.
            is_whole = len(value) == 4 * model.dimension
            return encode_float16(vector) if is_halved and is_whole else value
    raise DatabaseError(
        f"The embedding of picture {image_id} is not a vector of {model.dimension} numbers. Delete "
        f"its row of {EMBEDDINGS}, then run sqlite-utils embed-images again"
    )


def _vector_chunks(copy: Copy, model: Model) -> Iterator[tuple[Ids, Vectors, Vectors]]:
    sql = """select e.image_id, e.embedding from {} where e.model_id = ? and {}
        order by e.image_id"""
    chosen = f"e.image_id in (select id from {CHOSEN})"
    before = fetch(copy.reader, sql.format(copy.current_rows(EMBEDDINGS, "e"), chosen), model.id)
    after = fetch(copy.writer, sql.format(f"main.{EMBEDDINGS} as e", "true"), model.id)
    while rows := before.fetchmany(_VECTORS_AT_ONCE):
        published = after.fetchmany(_VECTORS_AT_ONCE)
        yield (
            np.array([image_id for image_id, _ in rows]),
            decode_vectors([blob for _, blob in rows], model.dimension),
            decode_vectors([blob for _, blob in published], model.dimension),
        )


def _all_have_tower(writer: sqlite3.Connection, chosen: Iterable[Model], tower: str) -> bool:
    """Return whether all models have one kind of tower."""
    if not has_table(writer, TOWERS):
        return False
    sql = f"select model_id from main.{TOWERS} where tower = ? and part > 0"
    return {model.id for model in chosen} <= {id for (id,) in fetch(writer, sql, tower)}
