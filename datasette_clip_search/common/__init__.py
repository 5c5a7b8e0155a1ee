"""What every package shares: configuration, errors, array types, caches. Imports nothing of ours.

Any package may import it. It stays without code, so that a decoding process starts light.
"""
