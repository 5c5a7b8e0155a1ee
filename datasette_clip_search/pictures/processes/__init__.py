"""Decode pictures in separate processes, so that a broken file can't crash this one.

Imports `common` and the modules of `pictures`. `embedding`, `search` and `web` may import it. This
file contains no code, so that a decoding process starts quickly.
"""
