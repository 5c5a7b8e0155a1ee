"""The finding of the search page's pictures, on threads of its own."""

import asyncio
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from datasette.database import Database
from datasette.utils.sqlite import sqlite3 as driver

from ..common.config import CONFIG
from ..common.cores import cores
from ..common.errors import ClipSearchError, NotAPicture, QueryError
from ..common.interrupts import heed_time_limit
from ..database.deadline import bounded, end_with_signals
from ..database.publication import original_url, originals_template
from ..database.schema import (
    EMBEDDINGS,
    THUMBNAILS,
    Model,
    facts,
    fetch,
    has_table,
    images_table,
    made_from_it,
    quote,
)
from ..database.triggers import Standing, schema_version, standing_of
from .lookup import look_up
from .question import Question, vector_text

if TYPE_CHECKING:
    from ..models.image_encoder import ImageEncoder
    from ..pictures.processes.pool import Decoded, Refused
    from ..search.query_decoder import Picture


@dataclass(frozen=True)
class Found:
    """How many pictures there are to search, the one that was asked about, and those found.

    Where the database says where its originals are, each has the address of its own.
    """

    count: int
    asked: dict[str, Any] | None
    pictures: list[dict[str, Any]]


def _go_last() -> None:
    # A thread of its own niceness is Linux's alone; elsewhere it would be that of the process.
    if sys.platform == "linux":
        before = os.getpriority(os.PRIO_PROCESS, 0)
        niceness = max(before, CONFIG.search_niceness)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


# Encoding the words of a query takes a moment, and loading an encoder many: on threads of our
# own, because while one of Datasette's few SQL threads waits, so does every page of the site.
# They leave a core to the rest of the site, and go last where they have to share one: a crowd of
# searches then hardly slows what has nothing to do with pictures (tests/benchmarks/published.py).
# Each database has its own, so that nothing in one can make the searches of another wait.
_threads: WeakKeyDictionary[Database, ThreadPoolExecutor] = WeakKeyDictionary()
# Pictures are encoded one at a time, so that words need not wait for them.
_picture_threads: WeakKeyDictionary[Database, ThreadPoolExecutor] = WeakKeyDictionary()
_local = threading.local()


def _threads_of(database: Database) -> ThreadPoolExecutor:
    if database not in _threads:
        count = max(1, min(CONFIG.search_threads, cores() - 1))
        _threads[database] = ThreadPoolExecutor(count, "clip-search", _go_last)
    return _threads[database]


def _picture_thread_of(database: Database) -> ThreadPoolExecutor:
    if database not in _picture_threads:
        _picture_threads[database] = ThreadPoolExecutor(1, "clip-search-picture", _go_last)
    return _picture_threads[database]


async def find(database: Database, table: str, model: Model, question: Question) -> Found:
    """Finds the pictures nearest to a question, or the newest ones for none.

    Raises ClipSearchErrors.
    """
    end_with_signals()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        _threads_of(database), _find, database, table, model, question
    )


def _find(database: Database, table: str, model: Model, question: Question) -> Found:
    connection = _connection(database)
    with bounded(connection, CONFIG.search_seconds):
        return _found(database, connection, table, model, question)


def _found(
    database: Database,
    connection: sqlite3.Connection,
    table: str,
    model: Model,
    question: Question,
) -> Found:
    from ..search.nearest import search

    count = _count(database, connection, model)
    pictures = partial(_pictures, connection, table, originals_template(connection))
    if question.value is None:
        kept = made_from_it(connection, "e", "i")
        sql = f"""select e.image_id from main.{EMBEDDINGS} as e join main.{quote(table)} as i
            on i.id = e.image_id and {kept} where e.model_id = ?
            order by e.image_id desc limit ?"""
        newest = fetch(connection, sql, model.id, CONFIG.newest_pictures)
        return Found(count, None, pictures([id for (id,) in newest]))
    hits = list(search(connection, question.value, question.k, model.id))
    asked = None if question.like is None else pictures([question.like])[0]
    found = zip(pictures([hit.id for hit in hits]), hits, strict=True)
    return Found(count, asked, [picture | hit._asdict() for picture, hit in found])


async def question_of_picture(
    database: Database, model: Model, question: Question, data: bytes, sender: str
) -> Question:
    """Returns a question, of so far only a k, that searches by the bytes of a picture file.

    `sender` is where they come from. Raises ClipSearchErrors.
    """
    from ..search.query_decoder import give_up

    end_with_signals()
    loop = asyncio.get_running_loop()
    run = partial(loop.run_in_executor, _picture_thread_of(database))
    encoder, picture = await run(_submitted, database, model, data, sender)
    try:
        # No thread waits meanwhile, however many pictures do.
        outcome = await asyncio.wrap_future(picture.outcome)
    except asyncio.CancelledError:
        give_up(picture)
        raise
    vector = await run(_vector_of, database, model, encoder, outcome)
    return replace(question, vector=vector)


def _submitted(
    database: Database, model: Model, data: bytes, sender: str
) -> tuple["ImageEncoder", "Picture"]:
    from ..search.query import picture_encoder
    from ..search.query_decoder import submit

    connection = _connection(database)
    with bounded(connection, CONFIG.search_seconds):
        encoder, settings = picture_encoder(connection, model, data)
    return encoder, submit(data, settings, sender)


def _vector_of(
    database: Database, model: Model, encoder: "ImageEncoder", outcome: "Decoded | Refused"
) -> str:
    from ..search.query import encoded_picture

    connection = _connection(database)
    try:
        with bounded(connection, CONFIG.search_seconds):
            heed = partial(heed_time_limit, connection)
            vector = encoded_picture(model, encoder, outcome, heed)
    except NotAPicture as error:
        raise QueryError(
            f"What was sent can't be searched with: {error}. "
            "Send a JPEG, PNG, WebP, GIF, AVIF or BMP"
        ) from None
    return vector_text(model, vector)


def _connection(database: Database) -> sqlite3.Connection:
    """Returns this thread's own connection to a database, opened as Datasette opens its own."""
    connections: WeakKeyDictionary[Database, sqlite3.Connection]
    connections = _local.__dict__.setdefault("connections", WeakKeyDictionary())
    if database not in connections:
        connection = database.connect()
        connection.text_factory = lambda data: str(data, "utf-8", "replace")
        connections[database] = connection
    return connections[database]


async def count_pictures(database: Database, model: Model) -> int | None:
    """Returns how many pictures a model has embedded, or None where that takes too long."""
    try:
        return await look_up(database, lambda conn: _count(database, conn, model))
    except (ClipSearchError, driver.Error):
        return None


# Counting reads all keys, 0.3 s for a million. A model's revision tells whether any has changed,
# and what stands tells whether pictures can't be gone without it.
_counts: WeakKeyDictionary[Database, tuple[Model, Standing, int]] = WeakKeyDictionary()


def _count(database: Database, connection: sqlite3.Connection, model: Model) -> int:
    from ..database.vectors import count_vectors, lost_ids

    known = _counts.get(database)
    if known and known[0] == model and known[1].version == schema_version(connection):
        return known[2]
    table = images_table(connection)
    assert table is not None
    standing = standing_of(connection, table)
    count = count_vectors(connection, model)
    _counts.pop(database, None)
    if standing.pictures and standing.history and not len(lost_ids(connection, model)):
        _counts[database] = (model, standing, count)
    return count


def _pictures(
    connection: sqlite3.Connection, table: str, originals: str | None, ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns what is shown of pictures, in the order of their ids."""
    names = ("id", "path", "width", "height", "taken", "has_thumbnail")
    has_thumbnail = "0"
    if has_table(connection, THUMBNAILS):
        kept = made_from_it(connection, "t", "images", THUMBNAILS)
        has_thumbnail = f"""exists (
                select 1 from main.{THUMBNAILS} as t where t.image_id = images.id and {kept}
            )"""
    shown = facts(connection, table, "width", "height", "taken")
    # Types and lengths are anyone's choice who made the database.
    sql = f"""select id, substr(path, 1, {CONFIG.max_path_characters}),
            case typeof(width) when 'integer' then width end,
            case typeof(height) when 'integer' then height end,
            case typeof(taken) when 'text' then substr(taken, 1, 40) end,
            {has_thumbnail}
        from (select id, path, content_hash, {shown} from main.{quote(table)}) as images
        where id in (select value from temp.json_each(?))"""
    rows = {row[0]: row for row in fetch(connection, sql, json.dumps(ids))}
    # One may have been deleted since it was found.
    nothing = ("", None, None, None, 0)
    pictures = [dict(zip(names, rows.get(id, (id, *nothing)), strict=True)) for id in ids]
    for picture in pictures:
        if originals and picture["path"]:
            url = original_url(originals, picture["id"], str(picture["path"]))
            picture["original"] = url
    return pictures
