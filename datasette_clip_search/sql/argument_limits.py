"""How large the arguments of the SQL functions may be: they come from anyone who can run SQL."""

from dataclasses import replace

from ..common.config import CONFIG
from .table_function.limits import Limit

_OTHER = 10_000
# UTF-8 has at most four bytes for a character.
QUERY = Limit(
    "the query",
    text=4 * CONFIG.max_query_characters,
    blob=CONFIG.max_query_image_bytes,
    characters=CONFIG.max_query_characters,
)
K = Limit("k", _OTHER, _OTHER)
MODEL = Limit("the model", _OTHER, _OTHER)
WITHIN = Limit("within", CONFIG.max_within_characters, _OTHER)
LABELS = Limit("the JSON of labels", 4 * CONFIG.max_labels_characters, _OTHER)
THRESHOLD = Limit("the threshold", _OTHER, _OTHER)
# Queries and weights in turns; the model may come last.
TERM = replace(QUERY, name="an argument")
