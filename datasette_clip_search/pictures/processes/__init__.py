"""Decode pictures in separate processes, so that a broken file can't crash this one.

Imports `common` and the modules of `pictures`. `embedding`, `search` and `web` may import it. This
file stays without code, so that a decoding process starts quickly.
"""
