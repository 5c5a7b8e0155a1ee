"""From a question to hits: nearest pictures, mixed queries, tags, duplicates.

It imports `models`, `pictures`, `database` and `common`; `sql`, `web` and `cli` import it.
"""
