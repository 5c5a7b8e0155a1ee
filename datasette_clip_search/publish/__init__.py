"""From a database at home to one for the world: `publish`, and what it takes and tells."""

from .options import PublishOptions, PublishProgress, PublishReport
from .published_file import publish_file
from .server_folder import publish_folder

__all__ = ["PublishOptions", "PublishProgress", "PublishReport", "publish_file", "publish_folder"]
