"""Publish a private database: copy the data that visitors need, without private facts.

`publish_file` writes one database file, `publish_folder` a folder that a server can be built from.

Imports `models`, `database`, `pictures` and `common`. Only `cli` may import it.
"""

from .options import PublishOptions, PublishProgress, PublishReport
from .published_file import publish_file
from .server_folder import publish_folder

__all__ = ["PublishOptions", "PublishProgress", "PublishReport", "publish_file", "publish_folder"]
