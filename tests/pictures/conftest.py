"""Fixtures of the tests of decoding."""

import builtins

import pytest
from PIL import Image

from datasette_clip_search.pictures import formats


@pytest.fixture
def without(monkeypatch):
    """Hide a library, as if it were not installed."""
    caches = (formats.has_heif, formats.picture_formats, formats.picture_extensions)
    real = builtins.__import__
    opened = {format: Image.OPEN.get(format) for format in ("HEIF",)}
    hidden = set()

    def hide(name, *arguments, **options):
        if name in hidden:
            raise ImportError(f"No module named '{name}'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", hide)

    def without(name):
        hidden.add(name)
        for cached in caches:
            cached.cache_clear()
        # Another test may already have taught Pillow to open HEIC.
        if name == "pillow_heif":
            monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
            monkeypatch.setattr(Image, "ID", [each for each in Image.ID if each != "HEIF"])

    yield without
    for cached in caches:
        cached.cache_clear()
    for format, opener in opened.items():
        if opener:
            Image.OPEN[format] = opener
