"""Read the SQL arguments that are JSON arrays, and explain what is wrong with a bad one."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..common.errors import QueryError
from .query import Value, describe_value


@dataclass(frozen=True)
class JSONArray:
    """An argument that must be a JSON array; `items` names its items, and `example` shows one."""

    name: str
    items: str
    example: str

    def check_text(self, value: Value, max_characters: int) -> str:
        """Return the JSON text of an argument, not yet parsed.

        Raises QueryError for a value that is not text, or is longer than `max_characters`.
        """
        if not isinstance(value, str):
            raise self.error(f"it is {describe_value(value)}")
        if len(value) > max_characters:
            raise QueryError(
                f"{self.name} has {len(value)} characters of JSON and the limit is {max_characters}"
            )
        return value

    def parse(self, text: str, parse_int: Callable[[str], Any] | None = None) -> list[Any]:
        """Return the items of an array; raise QueryError for text that is not a JSON array."""
        try:
            items = json.loads(text, parse_int=parse_int)
        except (ValueError, RecursionError) as error:
            raise self.error(f"{describe_value(text)} is not JSON") from error
        if not isinstance(items, list):
            raise self.error(f"{describe_value(text)} is not an array")
        return items

    def error(self, reason: str) -> QueryError:
        """Return the error that an argument is not such an array, with the reason."""
        return QueryError(
            f"{self.name} must be a JSON array of {self.items}, such as {self.example}, "
            f"but {reason}"
        )
