"""Hits of a search in Python, which Jupyter shows as thumbnails.

- A hit reads its row and thumbnail from the database only when they are used.
- A pickled hit keeps what the search found, without row and thumbnail.
- A stranger may have written the database, so everything shown from it is escaped.
"""

import base64
import html
import posixpath
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, overload

from ..common.errors import ClipSearchError, QueryError
from ..common.terminal_text import visible
from ..database.connection import fetch, quote
from ..database.thumbnails import Thumbnail, read_thumbnail

SHOWN = 50
"""The most hits of a search that are shown, because a notebook stores its output."""

_GRID = "display:flex;flex-wrap:wrap;gap:12px"
_FIGURE = "margin:0;width:180px;font-size:12px"
_FRAME = "height:180px;display:flex;align-items:flex-end"
_PICTURE = "max-width:180px;max-height:180px"
_NAME = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"


@dataclass(frozen=True)
class HitSource:
    """The database of a hit, and the name of its pictures' table."""

    connection: sqlite3.Connection
    table: str


@dataclass(frozen=True)
class Hit:
    """A picture that a search found.

    `rank` counts from 1. `score` is the cosine of the picture and the query. `z_score` is how many
    standard deviations it is above the median picture's cosine; None in a collection that is too
    small or too uniform. `path` is relative to the database's folder if the picture is below it.
    `hit["camera"]` is another column of the picture's row.
    """

    image_id: int
    rank: int
    score: float
    z_score: float | None
    path: str
    source: InitVar[HitSource]

    def __post_init__(self, source: HitSource) -> None:
        object.__setattr__(self, "_source", source)

    @property
    def row(self) -> dict[str, Any]:
        """The picture's present row, by column. Raises QueryError if it has been deleted."""
        source = self._hit_source
        sql = f"select * from main.{quote(source.table)} where id = ?"
        cursor = fetch(source.connection, sql, self.image_id)
        row = cursor.fetchone()
        if row is None:
            raise QueryError(f"The picture {self.image_id} has been deleted from {source.table}")
        return dict(zip([name for name, *_ in cursor.description], row, strict=True))

    def __getitem__(self, column: str) -> Any:
        return self.row[column]

    @property
    def thumbnail(self) -> bytes | None:
        """The picture's thumbnail, a JPEG, PNG or WebP file; None if the database has none."""
        found = read_thumbnail(self._hit_source.connection, self.image_id)
        return found.data if found else None

    def __contains__(self, column: object) -> bool:
        return column in self.row

    # Python would ask for the columns 0, 1, 2 and so on.
    __iter__ = None

    @property
    def _hit_source(self) -> HitSource:
        source: HitSource | None = self.__dict__.get("_source")
        if source is None:
            raise QueryError(
                "This hit was pickled, which leaves its database behind. Search again for its row "
                "and thumbnail"
            )
        return source

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_source"}

    # Nothing in a hit changes, and a copy by its state would lose the database.
    def __copy__(self) -> "Hit":
        return self

    def __deepcopy__(self, _: object) -> "Hit":
        return self

    def _repr_html_(self) -> str:
        return _grid([self])


class Hits(Sequence[Hit]):
    """The hits of a search, best first."""

    def __init__(self, hits: Iterable[Hit]):
        self._hits = list(hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> "Hits": ...

    def __getitem__(self, index: int | slice) -> "Hit | Hits":
        if isinstance(index, slice):
            return Hits(self._hits[index])
        return self._hits[index]

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __eq__(self, other: object) -> bool:
        return self._hits == other._hits if isinstance(other, Hits) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        more = ", …" if len(self) > SHOWN else ""
        return f"Hits([{', '.join(map(repr, self._hits[:SHOWN]))}{more}])"

    def _repr_html_(self) -> str:
        if not self._hits:
            return "<p>No hits</p>"
        more = len(self) - SHOWN
        note = f"<p>and {more} more</p>" if more > 0 else ""
        return _grid(self._hits[:SHOWN]) + note


def _grid(hits: Iterable[Hit]) -> str:
    return f'<div style="{_GRID}">{"".join(map(_figure, hits))}</div>'


def _figure(hit: Hit) -> str:
    # A notebook may be sent to anyone, so only the file name of an absolute path is shown.
    shown = posixpath.basename(hit.path) if posixpath.isabs(hit.path) else hit.path
    path = html.escape(visible(shown))
    name = html.escape(visible(posixpath.basename(shown)))
    z_score = "" if hit.z_score is None else f" · {hit.z_score:.1f}\N{GREEK SMALL LETTER SIGMA}"
    return (
        f'<figure style="{_FIGURE}"><div style="{_FRAME}">{_image(hit, name)}</div>'
        f'<figcaption><div style="{_NAME}" title="{path}">{name}</div>'
        f"{hit.image_id} · {hit.score:.3f}{z_score}</figcaption></figure>"
    )


def _image(hit: Hit, name: str) -> str:
    thumbnail = _thumbnail(hit)
    if thumbnail is None:
        return name
    data = base64.b64encode(thumbnail.data).decode()
    source = f"data:{thumbnail.content_type};base64,{data}"
    return f'<img style="{_PICTURE}" src="{source}" alt="{name}">'


def _thumbnail(hit: Hit) -> Thumbnail | None:
    try:
        return read_thumbnail(hit._hit_source.connection, hit.image_id)
    except (sqlite3.Error, ClipSearchError):
        # The collection is closed or belongs to another thread, the database is locked or has other
        # tables now, or the hit was pickled.
        return None
