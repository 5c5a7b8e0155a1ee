"""From pictures to rows: `embed_images` and what it takes."""

from .options import EmbedOptions
from .run import embed_images

__all__ = ["EmbedOptions", "embed_images"]
