"""The request of clip-search: weighted words and pictures, and the search for them."""

import os
import posixpath
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ..common.config import CONFIG
from ..common.errors import CommandError, PictureError
from ..common.terminal_text import visible
from ..database.connection import fetch, quote
from ..database.model import choose_model
from ..database.thumbnails import Thumbnail, read_thumbnail
from ..database.vectors import count_vectors
from ..models.queries.picture_encoder import picture_encoder_of
from ..pictures.sources.source import absolute, is_utf8, printable, stored_path
from ..search.mix import mixed_vector
from ..search.nearest import RankedPicture, check_k, search
from ..search.own_picture import decode_own, encode_own
from ..search.query import Value
from ..search.where import ids_where
from .picture_files import PictureFiles
from .thumbnails import create_thumbnail


@dataclass(frozen=True)
class Term:
    """A weighted part of a request; `query` has the form that search() takes."""

    label: str
    query: Value
    weight: float = 1.0
    thumbnail: Thumbnail | None = None


class SearchRequest:
    """Terms to search for in a database by one of its models.

    `within` holds the ids of the pictures that meet the condition `where`, or None without one.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: str,
        model: Value,
        originals: Sequence[str] = (),
    ):
        """Start without terms; files in the folders `originals` may be opened.

        Raises NoEmbeddings, or QueryError for a model that the database does not have.
        """
        self.connection = connection
        self.database = database
        self.files = PictureFiles(database, originals)
        self.table, self.model = choose_model(connection, model)
        self.terms: list[Term] = []
        self.where: str | None = None
        self.within: list[int] | None = None

    @property
    def count(self) -> int:
        """The number of pictures that are searched."""
        if self.within is None:
            return count_vectors(self.connection, self.model)
        return len(self.within)

    def __str__(self) -> str:
        """Return the terms as text for people."""
        return ", ".join(term.label for term in self.terms)

    def add_texts(self, texts: Iterable[str], called: str = "", weight: float = 1.0) -> None:
        """Add words."""
        self.terms += [Term(called + text, text, weight) for text in texts]

    def add_stored(self, names: Iterable[str]) -> None:
        """Add pictures of the database by their id, stored path, or path on disk.

        Raises CommandError for a path that the database does not have.
        """
        for name in names:
            if not name.strip():
                raise CommandError("--like is empty. Give the id or the path of a picture")
            image_id = int(name) if re.fullmatch("-?[0-9]{1,18}", name) else self._id_of(name)
            thumbnail = read_thumbnail(self.connection, image_id)
            label = f"like {printable(os.path.basename(name))}"
            self.terms.append(Term(label, image_id, thumbnail=thumbnail))

    def add_images(self, files: Iterable[str]) -> None:
        """Add picture files in any format of embed-images; `-` is standard input.

        Raises CommandError for a file that is not a picture.
        """
        for name in files:
            if not name:
                raise CommandError("--image is empty. Give a picture file, or - for standard input")
            called = "standard input" if name == "-" else name
            with click.open_file(name, "rb") as file:
                data = file.read()
            if not data:
                raise CommandError(f"{called} is empty. Expected a picture")
            encoder = picture_encoder_of(self.connection, self.model)
            try:
                picture = decode_own(data, encoder, called)
            except PictureError as error:
                raise CommandError(f"{called}: {error}") from error
            size = picture.width, picture.height
            vector = encode_own(self.model, encoder, picture.image, size)
            query = vector.astype("<f4").tobytes()
            label = f"like {printable(os.path.basename(called))}"
            self.terms.append(Term(label, query, thumbnail=create_thumbnail(picture.image)))

    def restrict(self, where: str, parameters: Iterable[tuple[str, str]]) -> None:
        """Search only pictures that meet a SQL condition with :named parameters.

        Raises CommandError with SQLite's message for an invalid condition.
        """
        self.within = ids_where(self.connection, self.table, self.model, where, dict(parameters))
        self.where = where

    def _id_of(self, name: str) -> int:
        sql = f"select id from main.{quote(self.table)} where path = ?"
        folder = absolute(Path(self.database).parent)
        real = stored_path(os.path.realpath(name), os.path.realpath(folder))
        for path in (name, stored_path(absolute(name), folder), real):
            if is_utf8(path) and (row := fetch(self.connection, sql, path).fetchone()):
                return int(row[0])
        raise CommandError(f"{self.database} has no picture {printable(name)}. {self._hint(name)}")

    def _hint(self, name: str) -> str:
        if os.path.isfile(name):
            return f"To search by a file that is not embedded: --image {printable(name)}"
        part = printable(posixpath.splitext(posixpath.basename(name))[0])
        sql = f"""select path from main.{quote(self.table)}
            where instr(lower(path), lower(?)) order by path limit 3"""
        found = fetch(self.connection, sql, part) if part else ()
        near = [visible(str(path)) for (path,) in found]
        if near:
            return f"Did you mean {' or '.join(near)}?"
        return f"List its paths: sqlite-utils rows {self.database} {self.table} -c id -c path"


def find_hits(request: SearchRequest, k: Value) -> list[RankedPicture]:
    """Return the k nearest pictures, best first, without those that are terms themselves.

    Raises ClipSearchError.
    """
    wanted, connection = check_k(k), request.connection
    model, table = request.model, request.table
    if len(request.terms) == 1:
        return list(search(connection, model, table, request.terms[0].query, k, request.within))
    terms = [(term.query, term.weight) for term in request.terms]
    vector = mixed_vector(connection, model, table, terms).astype("<f4").tobytes()
    asked = {query for query, _ in terms if isinstance(query, int)}
    enough = min(wanted + len(asked), CONFIG.max_k)
    hits = search(connection, model, table, vector, enough, request.within)
    others = [hit for hit in hits if hit.id not in asked][:wanted]
    return [hit._replace(rank=rank) for rank, hit in enumerate(others, 1)]
