"""From what a person asks to one unit vector."""

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
    """Returns a value of SQL as an error message names it."""
    if value is None:
        return "NULL"
    return "a blob" if isinstance(value, bytes) else repr(value)[:40]


def query_vector(connection: sqlite3.Connection, model: Model, table: str, query: Value) -> Vectors:
    """Returns the unit vector (d,) float32 of a query; its SQL type tells what it is.

    TEXT is words, INTEGER the id of an embedded picture, BLOB an embedding (4 x d bytes,
    little-endian float32, or the half of it as `database.vectors` has them) or else the bytes of a
    picture file.

    Raises QueryError for one that can't be searched for.
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
    """Tells whether a query is a vector of the model's, by its length."""
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
        # What was encoded before is kept, so that asking again gets further.
        heed_if_due(connection)
        encoder = text_encoder_of(connection, model)
        [vector] = encoder.encode_texts([text], lambda: heed_time_limit(connection))
        _texts.put(key, vector)
    # Another model may have the same encoder.
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
    # The squares of the largest float32 are finite only in float64.
    vector = given.astype(np.float64)
    length = math.sqrt(vector.dot(vector))
    if not math.isfinite(length):
        raise QueryError("The embedding holds a number that is not finite")
    if length == 0:
        raise QueryError("The embedding is all zeros, which has no direction to search in")
    unit: Vectors = (vector / length).astype(np.float32)
    return unit


def picture_vector(connection: sqlite3.Connection, model: Model, data: bytes) -> Vectors:
    """Returns the unit vector (d,) float32 of the bytes of a picture file.

    Raises NotAPicture where they are none, QueryError where it is too large or takes too long,
    TooBusy where too many slow ones wait, and EncoderUnavailable where others than the embedded
    pictures can't be searched with.
    """
    from .query_decoder import decode_query_picture

    encoder, settings = picture_encoder(connection, model, data)
    outcome = decode_query_picture(connection, data, settings)
    return encoded_picture(model, encoder, outcome, lambda: heed_time_limit(connection))


def picture_encoder(
    connection: sqlite3.Connection, model: Model, data: bytes
) -> tuple[PictureEncoder, "Settings"]:
    """Returns what encodes the pictures of queries for a model, and how they are to be decoded.

    Raises QueryError for one of too many bytes, and EncoderUnavailable as picture_vector() does.
    """
    from ..pictures.formats import WEB_FORMATS
    from ..pictures.processes.pool import Settings

    if len(data) > CONFIG.max_query_image_bytes:
        raise QueryError(
            f"The query image has {len(data)} bytes and the limit is {CONFIG.max_query_image_bytes}"
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
    """Returns the unit vector (d,) float32 of a decoded picture.

    `heed` is called again and again where that takes long, and may raise to end it.

    Raises NotAPicture and QueryError as picture_vector() does.
    """
    from ..pictures.processes.pool import DecodeFailure

    if isinstance(outcome, DecodeFailure):
        if outcome.too_large:
            raise QueryError(f"The query image is too large: {outcome.reason}")
        if outcome.too_slow:
            raise QueryError(
                f"The query image takes longer than {CONFIG.query_decode_seconds:g} seconds to "
                "decode. Give a smaller one, or save it anew without progressive passes"
            )
        raise NotAPicture(outcome.reason)
    assert outcome.pixels is not None
    vectors = encoder.encode_pixels(outcome.pixels[np.newaxis], heed)
    vector: Vectors = stored.check_query_vectors(vectors, 1, model.dimension)[0]
    return vector
