"""FAISS indexes, and their files: a cache of the vectors in the database."""

from ..arrays import Ids, Vectors
from .base import Base, Effort, Unindexed, flat
from .facts import Facts, IndexUnusable, Wish
from .file import index_path, open_index, read_facts, write

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
