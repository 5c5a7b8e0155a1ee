"""Helpers that tests share: makers of pictures, models and databases, servers, a browser."""
