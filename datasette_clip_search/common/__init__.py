"""Configuration, errors, array types, caches and other tools that every package shares.

Every package may import it, and it imports none of ours. This file stays without code, so that a
decoding process starts light.
"""
