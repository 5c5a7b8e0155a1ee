"""The models that have embedded the pictures of a database."""

import sqlite3
from dataclasses import dataclass
from functools import lru_cache

from ..common.config import CONFIG
from ..common.errors import DatabaseError, NoEmbeddings, QueryError
from .connection import fetch
from .recognition import (
    APPLIED_MIGRATIONS,
    are_known_migrations,
    images_table,
    known_images_table,
)
from .schema import MODELS


@dataclass(frozen=True)
class Model:
    """A row of clip_models.

    `revision` is a random 64-bit number, a new one after every change of the model's vectors: an
    index or a snapshot with the same number holds the same vectors.
    """

    id: int
    name: str
    pretrained: str
    dimension: int
    fingerprint: str
    preprocess: str
    revision: int

    @property
    def has_path(self) -> bool:
        """Whether the pretraining is a file or folder of the owner's rather than a tag."""
        return any(separator in self.pretrained for separator in "/\\")

    @property
    def label(self) -> str:
        """The model with its pretraining, unless that is a file of the owner's."""
        is_tag = self.pretrained and not self.has_path
        return f"{self.name} ({self.pretrained})" if is_tag else self.name


def models(connection: sqlite3.Connection) -> list[Model]:
    """Return the models that have embedded pictures here, the default first.

    Where no model or several are marked as the default, the first one added comes first. Raises
    DatabaseError for rows that no release wrote.
    """
    sql = f"select {_MODEL} from main.{MODELS} {_IN_ORDER}"
    return _read_models(fetch(connection, sql).fetchall())


# Anyone may have made a database: nothing is read from it without a bound.
_MODEL = f"""id, substr(name, 1, {CONFIG.max_name_characters + 1}),
    substr(pretrained, 1, {CONFIG.max_path_characters + 1}), dimension,
    substr(fingerprint, 1, {CONFIG.max_name_characters + 1}),
    substr(preprocess, 1, {CONFIG.max_path_characters + 1}), revision"""
_IN_ORDER = f"order by is_default desc, id limit {CONFIG.max_models + 1}"


def _read_models(rows: list[tuple[object, ...]]) -> list[Model]:
    if len(rows) > CONFIG.max_models:
        raise DatabaseError(
            f"{MODELS} has more than {CONFIG.max_models} models, the limit of this release"
        )
    return [_read_model(row) for row in rows]


@lru_cache(64)
def _read_model(row: tuple[object, ...]) -> Model:
    """Read a row of clip_models; raises DatabaseError for impossible values."""
    id, name, pretrained, dimension, fingerprint, preprocess, revision = row
    if not (isinstance(id, int) and isinstance(revision, int)):
        raise _no_model("id or revision is not an integer")
    if not (isinstance(dimension, int) and 1 <= dimension <= CONFIG.max_dimension):
        raise _no_model(f"dimension is not an integer from 1 to {CONFIG.max_dimension}")
    short, long = CONFIG.max_name_characters, CONFIG.max_path_characters
    if not (isinstance(name, str) and isinstance(pretrained, str)):
        raise _no_model("name or pretrained is not text")
    if not (isinstance(fingerprint, str) and isinstance(preprocess, str)):
        raise _no_model("fingerprint or preprocess is not text")
    if max(len(name), len(fingerprint)) > short or max(len(pretrained), len(preprocess)) > long:
        raise _no_model(f"name or fingerprint is longer than {short} characters, or another {long}")
    return Model(id, name, pretrained, dimension, fingerprint, preprocess, revision)


def _no_model(how: str) -> DatabaseError:
    return DatabaseError(f"The table {MODELS} has a row that embed-images did not write: its {how}")


def default_model(connection: sqlite3.Connection) -> tuple[str, Model]:
    """Return the pictures' table and the default model.

    Raises NoEmbeddings for a database without models.
    """
    return choose_model(connection, None)


def _usual_models(connection: sqlite3.Connection) -> tuple[str, list[Model]] | None:
    """Return what images_table() and models() return, with fewer statements.

    None means that the caller must look more closely: there may be an error.
    """
    table = known_images_table(connection)
    if table is None:
        return None
    sql = f"select ({APPLIED_MIGRATIONS}), {_MODEL} from main.{MODELS} {_IN_ORDER}"
    rows = fetch(connection, sql).fetchall()
    if not rows or not are_known_migrations(rows[0][0]):
        return None
    return table, _read_models([row[1:] for row in rows])


def choose_model(connection: sqlite3.Connection, wanted: object) -> tuple[str, Model]:
    """Return the pictures' table and a model of the database: the default one for None.

    `wanted` is a model's id, its name, or its label (`Model.label`). The id may be text, because
    Datasette's named parameters are.

    Raises NoEmbeddings for a database without models, and QueryError for a model that does not
    exist or a name that several models share.
    """
    table, known = _usual_models(connection) or (images_table(connection), [])
    if table and not known:
        known = models(connection)
    if not table or not known:
        raise NoEmbeddings(
            "This database holds no embeddings to search. "
            "Make some with: sqlite-utils embed-images DATABASE FOLDER"
        )
    if wanted is None:
        return table, known[0]
    names = [(model.id, str(model.id), model.name, model.label) for model in known]
    found = [model for model, own in zip(known, names, strict=True) if wanted in own]
    if len(found) == 1:
        return table, found[0]
    which = ", ".join(f"{model.id} {model.label}" for model in sorted(known, key=lambda m: m.id))
    shown = repr(wanted)[:80]
    if found:
        what = f"Several models are called {shown} in this database; give the id of one"
    else:
        what = f"There is no model {shown} in this database"
    raise QueryError(f"{what}. It has, by id and name: {which}")
