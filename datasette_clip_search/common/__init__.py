"""Configuration, errors, array types, caches and other tools that every package shares.

Every package may import it, and it imports none of ours. This file contains no code, so that a
decoding process stays small.
"""
