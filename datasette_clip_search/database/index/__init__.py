"""FAISS indexes of the vectors in a database, their files, and snapshots that searches use.

Every package that may import `database` may import it.
"""

from ...common.arrays import Ids, Vectors
from .file import index_path, open_index, read_header, write_index
from .header import Header, IndexChoice, IndexUnusable
from .index import Effort, Index, Unindexed, flat

__all__ = [
    "Effort",
    "Header",
    "Ids",
    "Index",
    "IndexChoice",
    "IndexUnusable",
    "Unindexed",
    "Vectors",
    "flat",
    "index_path",
    "open_index",
    "read_header",
    "write_index",
]
