"""From a database at home to one for the world: `publish`, and what it takes and tells."""

from .options import Options, Progress, Report
from .publication_run import publish
from .server_folder import publish_folder

__all__ = ["Options", "Progress", "Report", "publish", "publish_folder"]
