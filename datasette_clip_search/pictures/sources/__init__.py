"""Find the pictures to embed, and read the bytes of each.

`find_pictures` searches folders, files, globs, archives and lists of paths; `find_rows` searches
the rows of a select. Neither reads a picture: they return sources, which read it later.

Imports `common` and the formats of `pictures`. `embedding`, `publish` and `cli` import it.
"""

from .find import find_pictures
from .found import FoundPictures
from .gone import is_gone
from .rows import find_rows
from .source import DiskFile, Source

__all__ = ["DiskFile", "FoundPictures", "Source", "find_pictures", "find_rows", "is_gone"]
