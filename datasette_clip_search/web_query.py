"""What the search page is asked, and the finding of its pictures on threads of its own."""

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from datasette.database import Database

from .config import CONFIG
from .errors import QueryError
from .originals import original_url, originals_template
from .schema import EMBEDDINGS, THUMBNAILS, Model, fetch, quote


@dataclass(frozen=True)
class Question:
    """What is searched for: words, or the id of a picture; None for both shows the newest."""

    q: str | None
    like: int | None
    k: int

    @property
    def value(self) -> str | int | None:
        """The query as search() takes it."""
        return self.q if self.like is None else self.like

    def parameters(self, **changed: int) -> dict[str, str | int]:
        """Returns the parameters of the query string that ask this again."""
        asked = {"q": self.q, "like": self.like, "k": self.k} | changed
        if asked["k"] == CONFIG.results_per_page:
            del asked["k"]
        return {name: value for name, value in asked.items() if value is not None}


def read_question(q: str | None, like: str | None, k: str | None) -> Question:
    """Reads the parameters of the query string; an empty box is no question.

    Raises QueryError for what can't be searched for.
    """
    from .search import check_k

    number = check_k(k or CONFIG.results_per_page, CONFIG.max_results_per_page)
    if number == 0:
        raise QueryError(f"k is from 1 to {CONFIG.max_results_per_page} on this page, but it is 0")
    if q is not None and not q.strip():
        q = None
    if not like:
        return Question(q, None, number)
    if q is not None:
        raise QueryError("Give either q, words, or like, the id of a picture, but not both")
    if not re.fullmatch(r"-?[0-9]{1,18}", like):
        raise QueryError(f"like must be the id of a picture, but it is {like[:40]!r}")
    return Question(None, int(like), number)


@dataclass(frozen=True)
class Found:
    """How many pictures there are to search, the one that was asked about, and those found.

    Where the database says where its originals are, each has the address of its own.
    `takes_pictures` tells whether others than those here can be searched with.
    """

    count: int
    asked: dict[str, Any] | None
    pictures: list[dict[str, Any]]
    takes_pictures: bool = True


# Encoding the words of a query takes a moment, and loading an encoder many: on threads of our
# own, because while one of Datasette's few SQL threads waits, so does every page of the site.
_threads = ThreadPoolExecutor(CONFIG.search_threads, thread_name_prefix="clip-search")
_local = threading.local()


async def find(database: Database, table: str, model: Model, question: Question) -> Found:
    """Finds the pictures nearest to a question, or the newest ones for none.

    Raises ClipSearchErrors.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, _find, database, table, model, question)


def _find(database: Database, table: str, model: Model, question: Question) -> Found:
    from .image_encoder import takes_pictures
    from .search import search

    connection = _connection(database)
    count = counter(model)(connection)
    picture = partial(_picture, connection, table, originals_template(connection))
    if question.value is None:
        sql = f"""select image_id from main.{EMBEDDINGS} where model_id = ?
            order by image_id desc limit ?"""
        newest = fetch(connection, sql, model.id, CONFIG.newest_pictures).fetchall()
        pictures = [picture(row[0]) for row in newest]
        return Found(count, None, pictures, takes_pictures(connection, model))
    hits = list(search(connection, question.value, question.k, model.id))
    asked = None if question.like is None else picture(question.like)
    found = [picture(hit.id) | hit._asdict() for hit in hits]
    return Found(count, asked, found)


def _connection(database: Database) -> sqlite3.Connection:
    """Returns this thread's own connection to a database, opened as Datasette opens its own."""
    connections: WeakKeyDictionary[Database, sqlite3.Connection]
    connections = _local.__dict__.setdefault("connections", WeakKeyDictionary())
    if database not in connections:
        connection = database.connect()
        connection.text_factory = lambda data: str(data, "utf-8", "replace")
        connections[database] = connection
    return connections[database]


def counter(model: Model) -> Callable[[sqlite3.Connection], int]:
    """Returns a function that counts the pictures of a model."""
    from .vectors import count_vectors

    return lambda connection: count_vectors(connection, model)


def _picture(
    connection: sqlite3.Connection, table: str, originals: str | None, image_id: int
) -> dict[str, Any]:
    names = ("id", "path", "width", "height", "taken", "has_thumbnail")
    sql = f"""select id, path, width, height, taken,
            exists (select 1 from main.{THUMBNAILS} where image_id = images.id)
        from main.{quote(table)} as images where id = ?"""
    row = fetch(connection, sql, image_id).fetchone() or (image_id, "", None, None, None, 0)
    picture = dict(zip(names, row, strict=True))
    if originals and picture["path"]:
        picture["original"] = original_url(originals, image_id, str(picture["path"]))
    return picture
