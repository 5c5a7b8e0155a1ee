"""Find picture files and decode them: pixels, colour, EXIF facts and thumbnails.

Imports only `common`. Every package except `common` and `database` may import it. This file
contains no code, so that a decoding process starts quickly.
"""
