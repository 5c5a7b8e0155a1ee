"""The pictures that a search is kept to, as JSON says them."""

import json

from .config import CONFIG
from .errors import QueryError
from .query import Value, shown


def read_ids(ids_json: Value) -> set[int] | None:
    """Returns the integers in a JSON array, or None, for all pictures, for SQL's NULL.

    Raises QueryError for anything else, and for arrays too long.
    """
    if ids_json is None:
        return None
    if not isinstance(ids_json, str):
        raise _not_ids(f"it is {shown(ids_json)}")
    limit = CONFIG.max_within_characters
    if len(ids_json) > limit:
        raise QueryError(f"within has {len(ids_json)} characters of JSON and the limit is {limit}")
    # Before it is parsed: an array of ids has as many commas and brackets as ids, and arrays in
    # arrays take many times their characters in memory.
    if sum(map(ids_json.count, ",[{")) > CONFIG.max_within_ids:
        raise QueryError(f"within has more than {CONFIG.max_within_ids} ids")
    try:
        given = json.loads(ids_json)
    except (ValueError, RecursionError) as error:
        raise _not_ids(f"{shown(ids_json)} is not JSON") from error
    if not isinstance(given, list):
        raise _not_ids(f"{shown(ids_json)} is not an array")
    if not set(map(type, given)) <= {int}:
        place, bad = next((n, id) for n, id in enumerate(given, 1) if type(id) is not int)
        kind = "an array" if isinstance(bad, list) else "an object"
        raise _not_ids(f"number {place} is {kind if isinstance(bad, list | dict) else shown(bad)}")
    ids = set(given)
    # No picture has such an id, and an array of 64-bit integers can't hold it.
    if ids and (min(ids) < -(2**63) or max(ids) >= 2**63):
        ids = {id for id in ids if -(2**63) <= id < 2**63}
    return ids


def _not_ids(what: str) -> QueryError:
    return QueryError(
        "within must be a JSON array of ids, such as (select json_group_array(id) from images), "
        f"but {what}"
    )
