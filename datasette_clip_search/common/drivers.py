"""The SQLite driver behind a connection: Python's own `_sqlite3`, or that of pysqlite3."""

import sys
from types import ModuleType
from typing import Any


def driver_of(connection_type: type) -> tuple[ModuleType, Any] | None:
    """Return the C extension, and its Connection class, that a connection's class derives from."""
    extensions = {
        getattr(module, "Connection", None): module
        for name, module in list(sys.modules.items())
        if name.rpartition(".")[2] == "_sqlite3" and module is not None
    }
    for base in connection_type.__mro__:
        if base in extensions:
            return extensions[base], base
    return None
