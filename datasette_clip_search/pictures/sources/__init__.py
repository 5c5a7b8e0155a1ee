"""Sources: which pictures a person means, and how the bytes of each are read.

`find` looks through folders, files, globs, archives and lists of paths; `find_rows` through what
a select gives. Neither reads a picture: what they return says how to.
"""

from .find import find_pictures
from .found import FoundPictures
from .gone import is_gone
from .rows import find_rows
from .source import DiskFile, Source

__all__ = ["DiskFile", "FoundPictures", "Source", "find_pictures", "find_rows", "is_gone"]
