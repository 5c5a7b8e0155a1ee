"""Glyphs of Noto Color Emoji as pictures with transparency."""

from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DEBIAN_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
BITMAP_SIZE = 109  # the one size that the font's bitmaps (CBDT) come in


class FontMissing(Exception):
    """The emoji font cannot be opened."""


class Glyphs:
    """Draws glyphs of one font, and caches the bitmap of each."""

    def __init__(self, font: str) -> None:
        if not Path(font).is_file():
            raise FontMissing(
                f"Noto Color Emoji is not at {font}. Install Debian's package"
                " fonts-noto-color-emoji, or give the font's path with --font."
            )
        self._font = ImageFont.truetype(font, BITMAP_SIZE)
        self._bitmap = lru_cache(maxsize=None)(self._draw)

    def sprite(self, glyph: str, side: int, mirrored: bool, degrees: float) -> Image.Image:
        """Return a glyph whose longest side is about `side` pixels, as RGBA."""
        bitmap = self._bitmap(glyph)
        if mirrored:
            bitmap = bitmap.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = side / max(bitmap.size)
        size = (max(1, round(bitmap.width * scale)), max(1, round(bitmap.height * scale)))
        # Premultiplied, so that the colour of transparent pixels does not bleed into the edges.
        sprite = bitmap.convert("RGBa").resize(size, Image.Resampling.BICUBIC)
        return sprite.rotate(degrees, Image.Resampling.BILINEAR, expand=True).convert("RGBA")

    def _draw(self, glyph: str) -> Image.Image:
        canvas = Image.new("RGBA", (160, 160))
        draw = ImageDraw.Draw(canvas)
        draw.text((10, 10), glyph, font=self._font, embedded_color=True)
        box = canvas.getbbox()
        if box is None:
            raise FontMissing(f"The font draws nothing for {glyph!r}.")
        return canvas.crop(box)
