"""Turn a question into hits: the nearest pictures, mixed queries, labels and duplicates.

It imports `models`, `pictures`, `database` and `common`; `sql`, `web` and `cli` import it.
"""
