"""Check the arguments of embed(), so that each error says what was given and what is expected."""

import math
import os
from collections.abc import Iterable
from numbers import Real
from typing import Any

from ..common.errors import CommandError


def text_of(name: str, value: Any) -> str:
    """Return a text that SQLite can hold. Raises CommandError for anything else."""
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return _checked(name, value, "utf-8", "strict")


def optional_text(name: str, value: Any) -> str | None:
    """Return a text, or None."""
    return None if value is None else text_of(name, value)


def globs_of(name: str, value: Any) -> tuple[str, ...]:
    """Return one text or several, which may be the names of any files."""
    expected = "a glob, or a list of globs"
    globs = _several(name, value, str, expected)
    for glob in globs:
        if not isinstance(glob, str):
            raise _wrong(name, glob, expected)
        _checked(name, glob, "utf-8", "surrogateescape")
    return tuple(globs)


def path_of(name: str, value: Any) -> str:
    """Return a path, with ~ as the home folder. Raises CommandError for what no file can be."""
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise _wrong(name, value, "a path")
    # Names of files hold bytes of any encoding.
    _checked(name, path, "utf-8", "surrogateescape")
    return os.path.expanduser(path)


def paths_of(name: str, value: Any) -> list[str]:
    """Return one path or several, with ~ as the home folder."""
    return [path_of(name, path) for path in _several(name, value, str | os.PathLike, "paths")]


def database_of(name: str, value: Any) -> str:
    """Return the path of a database, which need not exist."""
    path = path_of(name, value)
    try:
        os.stat(path or ".")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise CommandError(f"{path} can't be used: {error.strerror}") from error
    return path


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise CommandError for what is none of the choices."""
    if value not in choices:
        expected = ", ".join(str(choice) for choice in choices if choice is not None)
        raise CommandError(f"{name} is {value!r}. Expected one of {expected}")


def whole_number(name: str, value: Any) -> int | None:
    """Return a whole number above 0, or None. Raises CommandError for anything else."""
    if value is None:
        return None
    if not math.isfinite(number(name, value)) or value != int(value):
        raise _wrong(name, value, "a whole number")
    return int(value)


def number(name: str, value: Any) -> float:
    """Return a number above 0. Raises CommandError for anything else."""
    # numpy's numbers are Real, too; True is an int.
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not value > 0:
        raise _wrong(name, value, "a number above 0")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _several(name: str, value: Any, one: Any, expected: str) -> list[Any]:
    if isinstance(value, one):
        return [value]
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise _wrong(name, value, expected)
    return list(value)


def _checked(name: str, text: str, encoding: str, errors: str) -> str:
    try:
        is_right = b"\0" not in text.encode(encoding, errors)
    except UnicodeEncodeError:
        is_right = False
    if not is_right:
        raise _wrong(name, text, "a text without NUL characters and halves of surrogate pairs")
    return text


def _wrong(name: str, value: object, expected: str) -> CommandError:
    return CommandError(f"{name} is {value!r:.80}. Expected {expected}")
