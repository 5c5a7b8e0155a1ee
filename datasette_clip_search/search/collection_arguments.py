"""Check the arguments of `Collection`, and turn NumPy's values into Python's."""

import operator
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np

from ..common.arrays import Ids, ascending
from ..common.config import CONFIG
from ..common.errors import CommandError, QueryError
from ..database.connection import fetch


def connection_of(database: object) -> sqlite3.Connection:
    """Return the connection of a Collection. Raises CommandError for what is none."""
    # A sqlite_utils.Database has its connection as `conn`.
    connection: Any = getattr(database, "conn", database)
    if not hasattr(connection, "execute"):
        raise CommandError(
            f"database is a {type(database).__name__}. Expected a path, a sqlite3.Connection or a "
            "sqlite_utils.Database"
        )
    if fetch(connection, "select 'a'").fetchone() != ("a",):
        raise CommandError(
            "The connection's text_factory makes something else of text. Expected one that makes "
            "str, such as sqlite3's own: connection.text_factory = str"
        )
    return cast(sqlite3.Connection, connection)


def plain_number(number: Any) -> Any:
    """Return a NumPy number as a Python number."""
    return number.item() if isinstance(number, np.generic) else number


def mix_terms(terms: Any) -> list[tuple[Any, Any]]:
    """Return queries with their weights. Raises QueryError for anything else."""
    given = terms.items() if isinstance(terms, Mapping) else terms
    try:
        return [(query, weight) for query, weight in given]
    except (TypeError, ValueError) as error:
        raise QueryError(
            f"The terms of a mix are {terms!r:.40}. Expected queries with their weights, such as "
            "{'zebra': 1, 'stripes': -0.7}"
        ) from error


def condition_parameters(
    parameters: Sequence[object] | Mapping[str, object],
) -> list[object] | dict[str, object]:
    """Return the values of a condition, numpy's as Python's: SQLite takes those for blobs.

    Raises QueryError for anything but a list or a mapping of names.
    """
    if isinstance(parameters, Mapping) and all(isinstance(name, str) for name in parameters):
        return {name: plain_number(value) for name, value in parameters.items()}
    if isinstance(parameters, str | bytes | Mapping) or not isinstance(parameters, Iterable):
        raise QueryError(
            f"parameters is {parameters!r:.40}. Expected a list such as ['Canon%'] for each ?, or "
            "a mapping such as {'camera': 'Canon%'} for each :name"
        )
    return [plain_number(value) for value in parameters]


def integer_argument(name: str, value: object) -> int:
    """Return a Python or NumPy integer for SQL. Raises QueryError for anything else."""
    try:
        # To Python, True is 1; as an id it is a mistake.
        integer = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        integer = None
    if integer is None:
        raise QueryError(f"{name} must be an integer, but it is {value!r:.40}")
    if not -(2**63) <= integer < 2**63:
        raise QueryError(f"{name} must be an integer of 64 bits, but it is {integer!r:.40}")
    return integer


def ids_argument(within: Iterable[int] | Ids) -> Ids:
    """Return ids (n,), ascending. Raises QueryError for too many, and for what are not integers."""
    if not isinstance(within, Iterable) or (isinstance(within, np.ndarray) and not within.ndim):
        raise QueryError(f"within is {within!r:.40}. Expected the ids to search, such as [1, 2, 3]")
    # One more than the limit, because an iterable may be too long for the memory, or endless.
    ids = list(islice(within, CONFIG.max_within_ids + 1))
    if len(ids) > CONFIG.max_within_ids:
        raise QueryError(f"within has more than {CONFIG.max_within_ids} ids")
    return ascending(np.array([integer_argument("An id of within", id) for id in ids], np.int64))
