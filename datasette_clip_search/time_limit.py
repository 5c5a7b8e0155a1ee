"""Interrupts and time limits of SQL, inside a function that SQL called."""

import sqlite3

from .schema import fetch

# More steps than any limit of a statement's time lets pass between two looks at the clock:
# Datasette looks every 1,000, and a row takes some ten.
_STEPS = """
    with recursive step(n) as (select 1 union all select n + 1 from step limit 400)
    select max(n) from step
"""


def heed_time_limit(connection: sqlite3.Connection) -> None:
    """Lets SQLite end a statement whose function takes long: it can't stop Python, but itself.

    Raises sqlite3.OperationalError "interrupted" when it is to end.
    """
    fetch(connection, _STEPS).fetchone()
