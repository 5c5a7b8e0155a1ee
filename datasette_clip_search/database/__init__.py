"""The tables of a database, and all SQL that reads or writes them.

It imports `common` alone; every other package may import it, except `pictures`.
"""
