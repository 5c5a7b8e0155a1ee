"""The tables of a database, the SQL that reads and writes them, and the index of their vectors.

It imports only `common`. Every other package may import it, except `pictures`.
"""
