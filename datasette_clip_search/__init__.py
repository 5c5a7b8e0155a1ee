"""Search pictures by meaning in SQLite and Datasette, with OpenCLIP and FAISS.

Any module may import this one. It imports each name only when it is first used, because every
command of sqlite-utils, every connection of Datasette and every decoding process imports this
package.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .common.errors import ClipSearchError
    from .embedding.api import embed
    from .embedding.report import EmbedReport
    from .search.collection import Collection
    from .search.hits import Hit, Hits

__all__ = ["ClipSearchError", "Collection", "EmbedReport", "Hit", "Hits", "embed"]

_MODULES = {
    "ClipSearchError": "common.errors",
    "Collection": "search.collection",
    "EmbedReport": "embedding.report",
    "Hit": "search.hits",
    "Hits": "search.hits",
    "embed": "embedding.api",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
