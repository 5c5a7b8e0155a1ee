"""What clip-search is asked: words and pictures with their weights, and the finding of hits."""

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
from ..search.nearest import Hit, check_k, search
from ..search.own_picture import decode_own, encode_own
from ..search.query import Value
from ..search.where import ids_where
from .picture_files import PictureFiles
from .thumbnails import create_thumbnail


@dataclass(frozen=True)
class Term:
    """A part of a request: how it is called, its query as search() takes it, and its weight."""

    label: str
    query: Value
    weight: float = 1.0
    thumbnail: Thumbnail | None = None


class SearchRequest:
    """The terms that are searched for in a database, by one of its models, among its pictures.

    `within` are the ids of those that meet the condition `where`; None, without one, are all.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: str,
        model: Value,
        originals: Sequence[str] = (),
    ):
        """Takes folders with pictures that may be opened, beside the database's own.

        Raises NoEmbeddings, or QueryError for a model that isn't there.
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
        """How many pictures are searched."""
        if self.within is None:
            return count_vectors(self.connection, self.model)
        return len(self.within)

    def __str__(self) -> str:
        """Returns the terms as a person would say them."""
        return ", ".join(term.label for term in self.terms)

    def add_texts(self, texts: Iterable[str], called: str = "", weight: float = 1.0) -> None:
        """Adds words."""
        self.terms += [Term(called + text, text, weight) for text in texts]

    def add_stored(self, names: Iterable[str]) -> None:
        """Adds pictures of the database, named by their id, or their path there or on the disk.

        Raises CommandError for a path that is not there.
        """
        for name in names:
            if not name.strip():
                raise CommandError("--like is empty. Give the id or the path of a picture")
            image_id = int(name) if re.fullmatch("-?[0-9]{1,18}", name) else self._id_of(name)
            thumbnail = read_thumbnail(self.connection, image_id)
            label = f"like {printable(os.path.basename(name))}"
            self.terms.append(Term(label, image_id, thumbnail=thumbnail))

    def add_images(self, files: Iterable[str]) -> None:
        """Adds picture files, in every format that embed-images takes; `-` is standard input.

        Raises CommandError for a file that is no picture.
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
        """Searches only the pictures that meet a condition, SQL with :named parameters.

        Raises CommandError with what SQLite says of one that is none.
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
        raise CommandError(
            f"{printable(name)} is no picture of {self.database}. {self._hint(name)}"
        )

    def _hint(self, name: str) -> str:
        if os.path.isfile(name):
            return f"To search with a file that is not embedded: --image {printable(name)}"
        part = printable(posixpath.splitext(posixpath.basename(name))[0])
        sql = f"""select path from main.{quote(self.table)}
            where instr(lower(path), lower(?)) order by path limit 3"""
        found = fetch(self.connection, sql, part) if part else ()
        near = [visible(str(path)) for (path,) in found]
        if near:
            return f"Did you mean {' or '.join(near)}?"
        return f"See its paths: sqlite-utils rows {self.database} {self.table} -c id -c path"


def find_hits(request: SearchRequest, k: Value) -> list[Hit]:
    """Returns the k nearest pictures, best first, without those that were asked with by id.

    Raises ClipSearchErrors.
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
