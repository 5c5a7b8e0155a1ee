"""From a database at home to one for the world: `publish`, and what it takes and tells."""

from .folder import publish_folder
from .options import Options, Progress, Report
from .run import publish

__all__ = ["Options", "Progress", "Report", "publish", "publish_folder"]
