"""FAISS indexes, and their files: a cache of the vectors in the database."""

from ...common.arrays import Ids, Vectors
from .file import index_path, open_index, read_facts, write
from .header import Facts, IndexUnusable, Wish
from .index import Base, Effort, Unindexed, flat

__all__ = [
    "Base",
    "Effort",
    "Facts",
    "Ids",
    "IndexUnusable",
    "Unindexed",
    "Vectors",
    "Wish",
    "flat",
    "index_path",
    "open_index",
    "read_facts",
    "write",
]
