"""From pictures to rows: `embed_images` and what it takes."""

from .run import Options, embed_images

__all__ = ["Options", "embed_images"]
