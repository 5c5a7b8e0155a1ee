"""Decodes pictures in processes of their own, so that a broken file cannot end ours.

It stays without code, so that a decoding process starts light.
"""
