"""Turn a query into one unit vector."""

import math
import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from ..common.arrays import Vectors
from ..common.cache import LRUCache
from ..common.config import CONFIG
from ..common.errors import NotAPicture, QueryError
from ..common.interrupts import heed_if_due, heed_time_limit
from ..database import vectors as stored
from ..database.connection import fetch, quote
from ..database.model import Model
from ..database.schema import EMBEDDINGS, made_from_it
from ..models.encoding import Heed, PictureEncoder
from ..models.queries.picture_encoder import picture_encoder_of
from ..models.queries.text_encoder import text_encoder_of, text_key

if TYPE_CHECKING:
    from ..pictures.processes.pool import Decoded, DecodeFailure, Settings

Value = str | int | float | bytes | None

_texts: LRUCache[tuple[str, str], Vectors] = LRUCache(CONFIG.query_cache_entries)


def describe_value(value: Value) -> str:
    """Return an SQL value in the form that error messages show."""
    if value is None:
        return "NULL"
    return "a blob" if isinstance(value, bytes) else repr(value)[:40]


def query_vector(connection: sqlite3.Connection, model: Model, table: str, query: Value) -> Vectors:
    """Return the unit vector (d,) float32 of a query, by its SQL type.

    TEXT is words. INTEGER is the id of an embedded picture. BLOB is an embedding (d little-endian
    float32, or one of the shorter forms of `database.vectors`) or else the bytes of a picture file.

    `model` and `table` are as choose_model() returns them. Raises QueryError for a query that
    cannot be used.
    """
    if isinstance(query, str):
        return _text_vector(connection, model, query)
    if isinstance(query, int):
        return _stored_vector(connection, model, table, query)
    if isinstance(query, bytes):
        if is_embedding(model, query):
            return _given_vector(model, query)
        try:
            return picture_vector(connection, model, query)
        except NotAPicture as error:
            raise QueryError(
                f"The blob of {len(query)} bytes is neither an embedding of {model.label}, which "
                f"has {4 * model.dimension} bytes, nor a picture: {error}"
            ) from None
    raise QueryError(
        f"The query {query!r} is a {type(query).__name__}. Expected words (text), the id of a "
        "picture (integer), or an embedding or a picture (blob)"
    )


def is_embedding(model: Model, query: Value) -> bool:
    """Tell by its length whether a query is a vector of the model."""
    return stored.is_vector(query, model.dimension)


def _text_vector(connection: sqlite3.Connection, model: Model, text: str) -> Vectors:
    if len(text) > CONFIG.max_query_characters:
        raise QueryError(
            f"The query has {len(text)} characters and the limit is {CONFIG.max_query_characters}"
        )
    if not text.strip():
        raise QueryError("The query is empty. Give it words, such as 'dog on beach'")
    key = (text_key(connection, model), text)
    vector = _texts.get(key)
    if vector is None:
        # Queries are cached one by one, so a repeated statement gets further.
        heed_if_due(connection)
        encoder = text_encoder_of(connection, model)
        [vector] = encoder.encode_texts([text], lambda: heed_time_limit(connection))
        _texts.put(key, vector)
    # A model with another dimension may share the encoder.
    unit: Vectors = stored.check_query_vectors(vector[np.newaxis], 1, model.dimension)[0]
    return unit


def _stored_vector(
    connection: sqlite3.Connection, model: Model, table: str, image_id: int
) -> Vectors:
    sql = f"""select e.embedding from main.{EMBEDDINGS} as e join main.{quote(table)} as i
        on i.id = e.image_id and {made_from_it("e", "i")}
        where e.model_id = ? and e.image_id = ?"""
    row = fetch(connection, sql, model.id, image_id).fetchone()
    if row is None:
        sql = f"select 1 from main.{quote(table)} where id = ?"
        if fetch(connection, sql, image_id).fetchone():
            raise QueryError(f"The picture {image_id} is not embedded by {model.label}")
        raise QueryError(f"There is no picture with the id {image_id} in {table}")
    return _given_vector(model, row[0])


def _given_vector(model: Model, blob: bytes) -> Vectors:
    if not stored.has_length(blob, model.dimension):
        raise QueryError(f"The embedding is not {4 * model.dimension} bytes long")
    [given] = stored.decode_vectors([blob], model.dimension)
    # The squares of large float32 numbers are finite only in float64.
    vector = given.astype(np.float64)
    length = math.sqrt(vector.dot(vector))
    if not math.isfinite(length):
        raise QueryError("The embedding holds a number that is not finite")
    if length == 0:
        raise QueryError("The embedding is all zeros, so it has no direction to search in")
    unit: Vectors = (vector / length).astype(np.float32)
    return unit


def picture_vector(connection: sqlite3.Connection, model: Model, data: bytes) -> Vectors:
    """Return the unit vector (d,) float32 of the bytes of a picture file.

    Raises NotAPicture if they are not a picture, QueryError if it is too large or takes too long,
    TooBusy if too many slow pictures wait, and EncoderUnavailable if there is no picture encoder.
    """
    from .query_decoder import decode_query_picture

    encoder, settings = picture_encoder(connection, model, data)
    outcome = decode_query_picture(connection, data, settings)
    return encoded_picture(model, encoder, outcome, lambda: heed_time_limit(connection))


def picture_encoder(
    connection: sqlite3.Connection, model: Model, data: bytes
) -> tuple[PictureEncoder, "Settings"]:
    """Return the picture encoder of a model, and the settings for decoding a query picture.

    Raises QueryError if it has too many bytes, and EncoderUnavailable as picture_vector() does.
    """
    from ..pictures.formats import WEB_FORMATS
    from ..pictures.processes.pool import Settings

    if len(data) > CONFIG.max_query_image_bytes:
        raise QueryError(
            f"The query picture has {len(data)} bytes and the limit is "
            f"{CONFIG.max_query_image_bytes}"
        )
    encoder = picture_encoder_of(connection, model)
    settings = Settings(
        encoder.preprocess,
        CONFIG.max_query_image_megapixels,
        thumbnails=False,
        max_decoded_megapixels=CONFIG.max_query_image_decoded_megapixels,
        formats=WEB_FORMATS,
        seconds=CONFIG.query_decode_seconds,
    )
    return encoder, settings


def encoded_picture(
    model: Model, encoder: PictureEncoder, outcome: "Decoded | DecodeFailure", heed: Heed
) -> Vectors:
    """Return the unit vector (d,) float32 of a decoded picture.

    `heed` is called now and then, and may raise to end the work. Raises NotAPicture and QueryError
    as picture_vector() does.
    """
    from ..pictures.processes.pool import DecodeFailure

    if isinstance(outcome, DecodeFailure):
        if outcome.too_large:
            raise QueryError(f"The query picture is too large: {outcome.reason}")
        if outcome.too_slow:
            raise QueryError(
                f"The query picture takes longer than {CONFIG.query_decode_seconds:g} seconds to "
                "decode. Give a smaller one, or save it again without progressive passes"
            )
        raise NotAPicture(outcome.reason)
    assert outcome.pixels is not None
    vectors = encoder.encode_pixels(outcome.pixels[np.newaxis], heed)
    vector: Vectors = stored.check_query_vectors(vectors, 1, model.dimension)[0]
    return vector
