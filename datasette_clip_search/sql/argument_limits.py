"""Size limits of the arguments of the SQL functions: anyone who can run SQL can send them."""

from dataclasses import replace

from ..common.config import CONFIG
from .table_function.limits import Limit

_OTHER = 10_000
# A character has up to four bytes in UTF-8.
QUERY = Limit(
    "the query",
    text=4 * CONFIG.max_query_characters,
    blob=CONFIG.max_query_image_bytes,
    characters=CONFIG.max_query_characters,
)
K = Limit("k", _OTHER, _OTHER)
MODEL = Limit("the model", _OTHER, _OTHER)
WITHIN = Limit("within", CONFIG.max_within_characters, _OTHER)
LABELS = Limit("labels_json", 4 * CONFIG.max_labels_characters, _OTHER)
THRESHOLD = Limit("the threshold", _OTHER, _OTHER)
# Queries and weights alternate; the last argument may be the model.
TERM = replace(QUERY, name="an argument")
