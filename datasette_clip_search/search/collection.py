"""The pictures of a database, for programs and notebooks: `Collection`.

It calls the same functions as the SQL functions do, with the same limits and errors.

- It never writes. It opens databases read-only.
- It belongs to the thread that opened its connection, as every connection of sqlite3 does. Open one
  Collection for each thread; the process shares models, indexes and cached vectors.
- It sees the database as it is at each call.
"""

import functools
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from ..common.arrays import Ids, Vectors, ascending
from ..common.config import CONFIG
from ..common.errors import ClipSearchError, CommandError, QueryError
from ..common.terminal_text import visible
from ..database.connection import open_database
from ..database.model import Model, choose_model, models
from ..database.vectors import count_vectors, lost_ids, read_vectors
from ..models.queries.picture_encoder import picture_encoder_of
from . import nearest
from .collection_arguments import (
    condition_parameters,
    connection_of,
    ids_argument,
    integer_argument,
    mix_terms,
    plain_number,
)
from .duplicates import Duplicate, duplicates
from .hits import Hit, Hits, HitSource
from .mix import mixed_vector
from .own_picture import is_image, own_picture_vector
from .query import Value, picture_vector, query_vector
from .tags import Tag, tags
from .where import PYTHON, ids_where

if TYPE_CHECKING:
    from PIL.Image import Image
    from sqlite_utils import Database

    Picture = str | os.PathLike[str] | bytes | Image
    Query = str | int | bytes | os.PathLike[str] | Image | Vectors

P = ParamSpec("P")
T = TypeVar("T")


def _heeds_ctrl_c(
    method: Callable[Concatenate["Collection", P], T],
) -> Callable[Concatenate["Collection", P], T]:
    """Raise KeyboardInterrupt after Ctrl-C during a statement: SQLite turns it into an error.

    A connection of the caller's may be interrupted for other reasons.
    """

    @functools.wraps(method)
    def heed(self: "Collection", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except sqlite3.OperationalError as error:
            if self._opened is not None and error.args == ("interrupted",):
                raise KeyboardInterrupt from error
            raise

    return heed


class Collection:
    """The embedded pictures of a database, searched by one of its models.

    A query is words (str), the id of a picture (int), a picture file (Path), a Pillow image, a
    vector (d,), or the bytes of a picture file or of a vector, as SQL takes them. Bytes have SQL's
    limits; a file and a Pillow image may be any that embed() takes. `len()` counts the pictures
    that the model has embedded.
    """

    def __init__(
        self,
        database: "str | os.PathLike[str] | sqlite3.Connection | Database",
        model: str | int | None = None,
    ):
        """Open a database file for reading, or use a connection, which the caller closes.

        `model` is one of the database's, by its id or name; None is its default.

        Raises NoEmbeddings for a database without any, QueryError for a model that it lacks, and
        CommandError for a file that is not a database or a connection that returns no str for text.
        """
        self._opened: sqlite3.Connection | None = None
        if isinstance(database, str | os.PathLike):
            self._opened = _open(os.path.expanduser(database))
        self._connection: sqlite3.Connection = self._opened or connection_of(database)
        try:
            self._model_id = choose_model(self._connection, model)[1].id
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database, if this collection opened it."""
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return count_vectors(self._connection, self.model)

    @property
    def model(self) -> Model:
        """The model that this collection searches by."""
        return self._chosen()[1]

    @property
    def models(self) -> list[Model]:
        """All models of the database, its default first."""
        return models(self._connection)

    @_heeds_ctrl_c
    def search(
        self,
        query: "Query | None" = None,
        *,
        image: "Picture | None" = None,
        like: int | None = None,
        k: int = CONFIG.default_k,
        where: str | None = None,
        parameters: Sequence[object] | Mapping[str, object] = (),
        within: Iterable[int] | Ids | None = None,
    ) -> Hits:
        """Return the k nearest pictures, best first.

        Give one of `query`, `image` and `like`. `image` is a picture file, by its path or bytes, or
        a Pillow image; `like` is the id of a picture, which is not among its own hits.

        `where` is an SQL condition on the columns of the pictures' table, with the `parameters` of
        its ? or :name; `within` are ids. The hits are the nearest of the pictures that meet both.

        Raises QueryError for a query, k or id that can't be searched for, CommandError for a
        `where` that is not one condition, and EncoderUnavailable without the encoder of the query.
        """
        if sum(given is not None for given in (query, image, like)) != 1:
            raise QueryError("Give one of query, image and like. mix() takes several queries")
        if image is not None:
            value: Value = self._picture(image)
        else:
            value = integer_argument("like", like) if query is None else self._value(query)
        return self._search(value, k, where, parameters, within)

    @_heeds_ctrl_c
    def mix(
        self,
        terms: "Mapping[Any, float] | Iterable[tuple[Query, float]]",
        *,
        k: int = CONFIG.default_k,
        where: str | None = None,
        parameters: Sequence[object] | Mapping[str, object] = (),
        within: Iterable[int] | Ids | None = None,
    ) -> Hits:
        """Return the k pictures nearest to a weighted mix of queries, as clip_mix() makes it.

        `terms` are queries with their weights, such as {"zebra": 1, "stripes": -0.7}, or pairs of
        them, because a vector can't be a key. A picture of the mix can be among the hits. The other
        arguments, and the errors, are those of search().
        """
        pairs = mix_terms(terms)
        vector = self._mixed(
            [(self._value(query), plain_number(weight)) for query, weight in pairs]
        )
        return self._search(_blob(vector), k, where, parameters, within)

    @_heeds_ctrl_c
    def duplicates(self, threshold: float = CONFIG.duplicate_threshold) -> list[Duplicate]:
        """Return groups of near-identical pictures, as clip_duplicates() does, largest first.

        Each row is a picture with its group, its cosine to the one to keep, and whether it is the
        keeper itself. `threshold` is the least cosine. Raises QueryError for one that SQL refuses.
        """
        table, model = self._chosen()
        return list(duplicates(self._connection, model, table, plain_number(threshold)))

    @_heeds_ctrl_c
    def tags(self, query: "Query", labels: Iterable[str]) -> list[Tag]:
        """Return labels with their probabilities for a query, as clip_tags() does, best first.

        `query` is usually the id of a picture. Raises QueryError for one that can't be searched
        for, and for labels that are blank, repeated, too long or too many.
        """
        if isinstance(labels, str) or not isinstance(labels, Iterable):
            what = "text" if isinstance(labels, str) else type(labels).__name__
            raise QueryError(f'labels is a {what}. Expected a list, such as ["dog", "cat"]')
        try:
            listed = json.dumps(list(labels))
        except (TypeError, ValueError, RecursionError) as error:
            raise QueryError(f"A label must be text: {error}") from error
        table, model = self._chosen()
        return list(tags(self._connection, model, table, self._value(query), listed))

    @_heeds_ctrl_c
    def vector(self, query: "Query") -> Vectors:
        """Return the unit vector of a query, (d,) float32, as clip_vector() does."""
        table, model = self._chosen()
        return query_vector(self._connection, model, table, self._value(query))

    @_heeds_ctrl_c
    def vectors(self) -> tuple[Ids, Vectors]:
        """Return all pictures' ids, (n,) int64 ascending, and unit vectors, (n, d) float32."""
        model = self.model
        lost = lost_ids(self._connection, model)
        ids, vectors = read_vectors(self._connection, model)
        if not len(lost):
            return ids, vectors
        kept = ~np.isin(ids, lost)
        return ids[kept], vectors[kept]

    def __repr__(self) -> str:
        try:
            shown = f"{len(self)} pictures, {self.model.label}"
        except (sqlite3.Error, ClipSearchError) as error:
            # Debuggers and notebooks show a collection that is closed, too.
            shown = str(error)
        return f"<Collection: {visible(shown)}>"

    def _chosen(self) -> tuple[str, Model]:
        # Read at each call, because a model's row gives the state of its vectors.
        return choose_model(self._connection, self._model_id)

    def _search(
        self,
        value: Value,
        k: int,
        where: str | None,
        parameters: Sequence[object] | Mapping[str, object],
        within: Iterable[int] | Ids | None,
    ) -> Hits:
        values = condition_parameters(parameters)
        if where is None and values:
            raise QueryError("parameters are the values of ? or :name in where, but there is none")
        if not isinstance(where, str | None):
            raise QueryError(
                f"where is a {type(where).__name__}. Expected an SQL condition, such as "
                "\"taken >= '2020'\""
            )
        table, model = self._chosen()
        ids = None if within is None else ids_argument(within)
        if where is not None:
            meeting = ids_where(self._connection, table, model, where, values, PYTHON)
            ids = ascending(meeting if ids is None else np.intersect1d(meeting, ids))
        found = nearest.search(self._connection, model, table, value, plain_number(k), ids)
        source = HitSource(self._connection, table)
        return Hits(
            Hit(hit.id, hit.rank, hit.score, hit.z_score, hit.path, source) for hit in found
        )

    def _mixed(self, terms: list[tuple[Value, float]]) -> Vectors:
        table, model = self._chosen()
        return mixed_vector(self._connection, model, table, terms)

    def _value(self, query: "Query") -> Value:
        """Return a query in the form that the SQL functions take."""
        if isinstance(query, str | bytes | float):
            return query
        if isinstance(query, np.ndarray):
            return self._checked(query)
        if hasattr(query, "__index__"):
            return integer_argument("The id of a picture", query)
        if isinstance(query, os.PathLike) or is_image(query):
            return self._picture(query)
        raise QueryError(
            f"The query is a {type(query).__name__}. Expected words, the id of a picture, a Path, "
            "a Pillow image, a vector, or bytes"
        )

    def _picture(self, picture: "Picture") -> bytes:
        """Return the vector of a picture that need not be in the database, as a blob."""
        model = self.model
        if isinstance(picture, bytes):
            return _blob(picture_vector(self._connection, model, picture))
        encoder = picture_encoder_of(self._connection, model)
        return _blob(own_picture_vector(model, encoder, picture))

    def _checked(self, vector: Vectors) -> bytes:
        dimension = self.model.dimension
        if vector.shape != (dimension,) or vector.dtype.kind not in "fiu":
            raise QueryError(
                f"The vector has the shape {vector.shape} and the type {vector.dtype}. Expected "
                f"({dimension},) and float32"
            )
        return _blob(vector)


def _open(path: str) -> sqlite3.Connection:
    if not os.path.isfile(path):
        raise CommandError(f"There is no database {path}. Make one: embed({path!r}, [FOLDER])")
    try:
        return open_database(path)
    except sqlite3.Error as error:
        raise CommandError(f"{path} can't be read: {error}") from error


def _blob(vector: Vectors) -> bytes:
    with np.errstate(over="ignore"):
        return vector.astype("<f4").tobytes()
