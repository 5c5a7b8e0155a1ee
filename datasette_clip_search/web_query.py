"""What the search page is asked, and the finding of its pictures on threads of its own."""

import asyncio
import base64
import json
import re
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from datasette.database import Database

from . import vector_format
from .config import CONFIG
from .errors import ModelMismatch, NotAPicture, QueryError
from .originals import original_url, originals_template
from .schema import EMBEDDINGS, THUMBNAILS, Model, fetch, quote


@dataclass(frozen=True)
class Question:
    """What is searched for: words, the id of a picture, or the vector of one that was sent.

    None of them shows the newest pictures. `vector` is text, as `read_question` takes it, and
    `model` how the one to search by was named, None for the database's default.
    """

    q: str | None
    like: int | None
    vector: str | None
    model: str | None
    k: int

    @property
    def value(self) -> str | int | bytes | None:
        """The query as search() takes it."""
        if self.vector is not None:
            return _from_base64(self.vector.partition(".")[2])
        return self.q if self.like is None else self.like

    def parameters(self, **changed: int) -> dict[str, str | int]:
        """Returns the parameters of the query string that ask this again."""
        asked = asdict(self) | changed
        if asked["k"] == CONFIG.results_per_page:
            del asked["k"]
        return {name: value for name, value in asked.items() if value is not None}

    def about(self, image_id: int) -> dict[str, str | int]:
        """Returns the parameters that ask for pictures like one of those found."""
        return {"like": image_id} | ({"model": self.model} if self.model else {})


def read_question(
    model: Model, q: str | None, like: str | None, vector: str | None, named: str | None,
    k: str | None,
) -> Question:  # fmt: skip
    """Reads the parameters of the query string; an empty box is no question.

    `model` is the one that was `named`, or the default.

    `vector` is the beginning of the model's fingerprint, a full stop, and the vector in float16 as
    base64 for addresses: short enough for one, and never taken for another model's.

    Raises QueryError for what can't be searched for, ModelMismatch for a vector of another model.
    """
    from .search import check_k

    number = check_k(k or CONFIG.results_per_page, CONFIG.max_results_per_page)
    if number == 0:
        raise QueryError(f"k is from 1 to {CONFIG.max_results_per_page} on this page, but it is 0")
    if q is not None and not q.strip():
        q = None
    if sum(bool(each) for each in (q, like, vector)) > 1:
        raise QueryError(
            "Give only one of q, words, like, the id of a picture, and vector, that of another one"
        )
    if vector:
        _check_vector(model, vector)
    if like and not re.fullmatch(r"-?[0-9]{1,18}", like):
        raise QueryError(f"like must be the id of a picture, but it is {like[:40]!r}")
    return Question(q, int(like) if like else None, vector or None, named or None, number)


def _check_vector(model: Model, text: str) -> None:
    fingerprint, stop, numbers = text.partition(".")
    if not stop or not vector_format.is_vector(_from_base64(numbers), model.dimension):
        raise QueryError(
            f"vector must be one that this page made for {model.label}, but it is {text[:40]!r}. "
            "Search by your picture again"
        )
    if not model.fingerprint.startswith(fingerprint) or len(fingerprint) < _FINGERPRINT:
        raise ModelMismatch(
            f"The vector is of the model {fingerprint[:40]}, but these pictures are embedded by "
            f"{model.label}, {model.fingerprint[:_FINGERPRINT]}. Search by your picture again"
        )


# Characters of a fingerprint that tell models apart.
_FINGERPRINT = 12


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError:
        return None


@dataclass(frozen=True)
class Found:
    """How many pictures there are to search, the one that was asked about, and those found.

    Where the database says where its originals are, each has the address of its own.
    """

    count: int
    asked: dict[str, Any] | None
    pictures: list[dict[str, Any]]


# Encoding the words of a query takes a moment, and loading an encoder many: on threads of our
# own, because while one of Datasette's few SQL threads waits, so does every page of the site.
_threads = ThreadPoolExecutor(CONFIG.search_threads, thread_name_prefix="clip-search")
# Pictures are decoded one at a time, so that words need not wait for them.
_picture_thread = ThreadPoolExecutor(1, thread_name_prefix="clip-search-picture")
_local = threading.local()


async def find(database: Database, table: str, model: Model, question: Question) -> Found:
    """Finds the pictures nearest to a question, or the newest ones for none.

    Raises ClipSearchErrors.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, _find, database, table, model, question)


def _find(database: Database, table: str, model: Model, question: Question) -> Found:
    from .search import search

    connection = _connection(database)
    count = _count(database, connection, model)
    pictures = partial(_pictures, connection, table, originals_template(connection))
    if question.value is None:
        sql = f"""select image_id from main.{EMBEDDINGS} where model_id = ?
            order by image_id desc limit ?"""
        newest = fetch(connection, sql, model.id, CONFIG.newest_pictures)
        return Found(count, None, pictures([id for (id,) in newest]))
    hits = list(search(connection, question.value, question.k, model.id))
    asked = None if question.like is None else pictures([question.like])[0]
    found = zip(pictures([hit.id for hit in hits]), hits, strict=True)
    return Found(count, asked, [picture | hit._asdict() for picture, hit in found])


async def question_of_picture(
    database: Database, model: Model, question: Question, data: bytes
) -> Question:
    """Returns a question, of so far only a k, that searches by the bytes of a picture file.

    Raises ClipSearchErrors.
    """
    loop = asyncio.get_running_loop()
    vector = await loop.run_in_executor(_picture_thread, _vector_of, database, model, data)
    return replace(question, vector=vector)


def _vector_of(database: Database, model: Model, data: bytes) -> str:
    from .query import picture_vector

    try:
        vector = picture_vector(_connection(database), model, data)
    except NotAPicture as error:
        raise QueryError(
            f"What was sent can't be searched with: {error}. "
            "Send a JPEG, PNG, WebP, GIF, AVIF or BMP"
        ) from None
    numbers = base64.urlsafe_b64encode(vector_format.halved(vector)).decode().rstrip("=")
    return f"{model.fingerprint[:_FINGERPRINT]}.{numbers}"


def _connection(database: Database) -> sqlite3.Connection:
    """Returns this thread's own connection to a database, opened as Datasette opens its own."""
    connections: WeakKeyDictionary[Database, sqlite3.Connection]
    connections = _local.__dict__.setdefault("connections", WeakKeyDictionary())
    if database not in connections:
        connection = database.connect()
        connection.text_factory = lambda data: str(data, "utf-8", "replace")
        connections[database] = connection
    return connections[database]


async def count_pictures(database: Database, model: Model) -> int:
    """Returns how many pictures a model has embedded."""
    return int(await database.execute_fn(lambda conn: _count(database, conn, model)))


# Counting reads all keys, 50 ms for a million; a model's revision tells whether any has changed.
_counts: WeakKeyDictionary[Database, tuple[Model, int]] = WeakKeyDictionary()


def _count(database: Database, connection: sqlite3.Connection, model: Model) -> int:
    from .vectors import count_vectors

    known, count = _counts.get(database, (None, 0))
    if known != model:
        count = count_vectors(connection, model)
        _counts[database] = (model, count)
    return count


def _pictures(
    connection: sqlite3.Connection, table: str, originals: str | None, ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns what is shown of pictures, in the order of their ids."""
    names = ("id", "path", "width", "height", "taken", "has_thumbnail")
    sql = f"""select id, path, width, height, taken,
            exists (select 1 from main.{THUMBNAILS} where image_id = images.id)
        from main.{quote(table)} as images where id in (select value from json_each(?))"""
    rows = {row[0]: row for row in fetch(connection, sql, json.dumps(ids))}
    # One may have been deleted since it was found.
    nothing = ("", None, None, None, 0)
    pictures = [dict(zip(names, rows.get(id, (id, *nothing)), strict=True)) for id in ids]
    for picture in pictures:
        if originals and picture["path"]:
            url = original_url(originals, picture["id"], str(picture["path"]))
            picture["original"] = url
    return pictures
