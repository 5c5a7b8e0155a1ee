"""Run the searches of the page, on threads of their own."""

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
from ..database.connection import fetch, has_table, quote
from ..database.deadline import bounded, end_with_signals
from ..database.model import Model
from ..database.publication import original_url, originals_template
from ..database.recognition import images_table, select_facts
from ..database.schema import EMBEDDINGS, THUMBNAILS, made_from_it
from ..database.triggers import Standing, schema_version, standing_of
from .lookup import look_up
from .question import Question, vector_text

if TYPE_CHECKING:
    from ..models.encoding import PictureEncoder
    from ..pictures.processes.pool import Decoded, DecodeFailure
    from ..search.query_decoder import QueryPicture


@dataclass(frozen=True)
class Answer:
    """The result of a search: the number of pictures searched, the query picture, the pictures
    found.

    Each picture has the address of its original if the database has a template for them.
    """

    count: int
    asked: dict[str, Any] | None
    pictures: list[dict[str, Any]]


def _lower_priority() -> None:
    # Only Linux has a niceness for each thread; elsewhere this would change the whole process.
    if sys.platform == "linux":
        before = os.getpriority(os.PRIO_PROCESS, 0)
        niceness = max(before, CONFIG.search_niceness)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


# Encoding a query takes a moment and loading an encoder takes seconds. Both run on threads of our
# own, because a search that blocked one of Datasette's few SQL threads would delay every page of
# the site. These threads leave one core free and have a low priority, so that many searches at once
# hardly slow other pages (measured by tests/benchmarks/published.py). Each database has its own
# threads, so that a slow database delays only its own searches.
_threads: WeakKeyDictionary[Database, ThreadPoolExecutor] = WeakKeyDictionary()
# One thread encodes pictures, so that they never delay searches by words.
_picture_threads: WeakKeyDictionary[Database, ThreadPoolExecutor] = WeakKeyDictionary()
_local = threading.local()


def _threads_of(database: Database) -> ThreadPoolExecutor:
    if database not in _threads:
        count = max(1, min(CONFIG.search_threads, cores() - 1))
        _threads[database] = ThreadPoolExecutor(count, "clip-search", _lower_priority)
    return _threads[database]


def _picture_thread_of(database: Database) -> ThreadPoolExecutor:
    if database not in _picture_threads:
        _picture_threads[database] = ThreadPoolExecutor(1, "clip-search-picture", _lower_priority)
    return _picture_threads[database]


async def answer_question(
    database: Database, table: str, model: Model, question: Question
) -> Answer:
    """Find the pictures nearest to a question, or the newest ones if it is empty.

    Raises ClipSearchError.
    """
    end_with_signals()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        _threads_of(database), _answer, database, table, model, question
    )


def _answer(database: Database, table: str, model: Model, question: Question) -> Answer:
    connection = _connection(database)
    with bounded(connection, CONFIG.search_seconds):
        return _search(database, connection, table, model, question)


def _search(
    database: Database,
    connection: sqlite3.Connection,
    table: str,
    model: Model,
    question: Question,
) -> Answer:
    from ..search.nearest import search

    count = _count(database, connection, model)
    pictures = partial(_pictures, connection, table, originals_template(connection))
    if question.value is None:
        kept = made_from_it("e", "i")
        sql = f"""select e.image_id from main.{EMBEDDINGS} as e join main.{quote(table)} as i
            on i.id = e.image_id and {kept} where e.model_id = ?
            order by e.image_id desc limit ?"""
        newest = fetch(connection, sql, model.id, CONFIG.newest_pictures)
        return Answer(count, None, pictures([id for (id,) in newest]))
    hits = list(search(connection, model, table, question.value, question.k))
    asked = None if question.like is None else pictures([question.like])[0]
    found = zip(pictures([hit.id for hit in hits]), hits, strict=True)
    return Answer(count, asked, [picture | hit._asdict() for picture, hit in found])


async def question_with_picture(
    database: Database, model: Model, question: Question, data: bytes, sender: str
) -> Question:
    """Return `question` with the vector of a picture file, whose bytes are `data`.

    `sender` is the address that they came from. Raises ClipSearchError.
    """
    from ..search.query_decoder import give_up

    end_with_signals()
    loop = asyncio.get_running_loop()
    run = partial(loop.run_in_executor, _picture_thread_of(database))
    submitting = run(_submit, database, model, data, sender)
    try:
        encoder, picture = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_give_up_submitted)
        raise
    try:
        # Awaited, so that waiting pictures occupy no thread.
        outcome = await asyncio.wrap_future(picture.outcome)
    except asyncio.CancelledError:
        give_up(picture)
        raise
    vector = await run(_encode, database, model, encoder, outcome)
    return replace(question, vector=vector)


def _give_up_submitted(submitting: "asyncio.Future[tuple[PictureEncoder, QueryPicture]]") -> None:
    from ..search.query_decoder import give_up

    if not submitting.cancelled() and not submitting.exception():
        give_up(submitting.result()[1])


def _submit(
    database: Database, model: Model, data: bytes, sender: str
) -> tuple["PictureEncoder", "QueryPicture"]:
    from ..search.query import picture_encoder
    from ..search.query_decoder import submit

    connection = _connection(database)
    with bounded(connection, CONFIG.search_seconds):
        encoder, settings = picture_encoder(connection, model, data)
    return encoder, submit(data, settings, sender)


def _encode(
    database: Database, model: Model, encoder: "PictureEncoder", outcome: "Decoded | DecodeFailure"
) -> str:
    from ..search.query import encoded_picture

    connection = _connection(database)
    try:
        with bounded(connection, CONFIG.search_seconds):
            heed = partial(heed_time_limit, connection)
            vector = encoded_picture(model, encoder, outcome, heed)
    except NotAPicture as error:
        raise QueryError(
            f"This file can't be used for a search: {error}. "
            "Send a JPEG, PNG, WebP, GIF, AVIF or BMP picture"
        ) from None
    return vector_text(model, vector)


def _connection(database: Database) -> sqlite3.Connection:
    """Return this thread's connection to a database, opened as Datasette opens its own."""
    connections: WeakKeyDictionary[Database, sqlite3.Connection]
    connections = _local.__dict__.setdefault("connections", WeakKeyDictionary())
    if database not in connections:
        connection = database.connect()
        connection.text_factory = lambda data: str(data, "utf-8", "replace")
        connections[database] = connection
    return connections[database]


async def count_pictures(database: Database, model: Model) -> int | None:
    """Return the number of pictures that a model has embedded, or None if counting is slow."""
    try:
        return await look_up(database, lambda conn: _count(database, conn, model))
    except (ClipSearchError, driver.Error):
        return None


# Counting reads every key, 0.3 s for a million, so a count is kept until the model's revision or
# the schema changes. Only the triggers guarantee that deleting a picture changes the revision;
# without them, no count is kept.
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
    """Return the facts that the page shows about pictures, in the order of `ids`."""
    names = ("id", "path", "width", "height", "taken", "has_thumbnail")
    has_thumbnail = "0"
    if has_table(connection, THUMBNAILS):
        kept = made_from_it("t", "images")
        has_thumbnail = f"""exists (
                select 1 from main.{THUMBNAILS} as t where t.image_id = images.id and {kept}
            )"""
    columns = select_facts(connection, table, "width", "height", "taken")
    # A stranger may have made the database, so it may hold values of any type and length.
    sql = f"""select id, substr(path, 1, {CONFIG.max_path_characters}),
            case typeof(width) when 'integer' then width end,
            case typeof(height) when 'integer' then height end,
            case typeof(taken) when 'text' then substr(taken, 1, 40) end,
            {has_thumbnail}
        from (select id, path, content_hash, {columns} from main.{quote(table)}) as images
        where id in (select value from temp.json_each(?))"""
    rows = {row[0]: row for row in fetch(connection, sql, json.dumps(ids))}
    # A picture may have been deleted since the search found it.
    deleted = ("", None, None, None, 0)
    pictures = [dict(zip(names, rows.get(id, (id, *deleted)), strict=True)) for id in ids]
    for picture in pictures:
        if originals and picture["path"]:
            url = original_url(originals, picture["id"], str(picture["path"]))
            picture["original"] = url
    return pictures
