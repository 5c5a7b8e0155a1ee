"""Embed pictures into a database: find, plan, decode, encode and store them.

It imports `models`, `pictures`, `database` and `common`; `cli` imports it, and the top-level
package exports its function `embed`.
"""

from .options import EmbedOptions
from .run import embed_images

__all__ = ["EmbedOptions", "embed_images"]
