"""Picture files: decoding, colour, EXIF facts, thumbnails, and the places they lie in.

It imports `common` alone. Every package except `common` and `database` may import it. It stays
without code, so that a decoding process starts light.
"""
