"""Raise KeyboardInterrupt at many moments of many queries, for test_threads.py.

An interrupted statement may fail in its own way. Nothing may crash, and the next statement must
be right.
"""

import signal
import sqlite3
import sys
from itertools import count

from datasette_clip_search.sql.table_function import TableFunction, register


def series(connection, stop, limit=None):
    return ((number, "x" * (number % 7)) for number in range(stop))


# Python reports an interrupt at the entry of a callback here, and goes on.
sys.unraisablehook = lambda unraisable: None

SERIES = TableFunction("series", {"value": "INTEGER", "text": "TEXT"}, ("stop",), 1, series)
SQL = "select count(*), sum(a.value + length(b.text)) from series(60) a, series(a.value) b"
connection = sqlite3.connect(":memory:")
register(connection, [SERIES])
expected = connection.execute(SQL).fetchall()

interrupted = 0
for attempt in count():
    if interrupted >= 200 or attempt >= 2000:
        break
    try:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + attempt % 97 * 0.00007)
        connection.execute(SQL).fetchall()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except (KeyboardInterrupt, sqlite3.Error):
        interrupted += 1
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)

assert interrupted, "no interrupt came in time"
assert connection.execute(SQL).fetchall() == expected
sys.stdout.write("still right\n")
