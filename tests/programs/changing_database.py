"""Change a database and rebuild its index in one process; query and check it in others.

In tests/:

python -m programs.changing_database write DATABASE ROUNDS KIND
    adds, changes, deletes and rebuilds
python -m programs.changing_database read DATABASE SEED STOP
    until the file STOP exists; prints the number of right answers, or the first wrong one
"""

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from datasette_clip_search.database.index import IndexChoice, build
from datasette_clip_search.database.index.maintenance import keep_index
from datasette_clip_search.database.model import default_model
from datasette_clip_search.sql import add_functions
from support.indexes import everything
from support.vector_database import clustered, found, put, truth


def write(database: Path, rounds: int, kind: str) -> None:
    build._least_effort = everything
    random = np.random.default_rng(0)
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        for number in range(rounds):
            connection.execute("begin immediate")
            ids = [id for (id,) in connection.execute("select id from images")]
            new = range(max(ids) + 1, max(ids) + 31)
            put(connection, new, clustered(30, seed=number))
            changed = random.choice(ids, 20, replace=False)
            put(connection, changed, clustered(20, seed=1000 + number))
            for id in random.choice(ids, 25, replace=False).tolist():
                connection.execute("delete from images where id = ?", [id])
            connection.execute("rollback" if number % 7 == 6 else "commit")
            if number % 3 == 2:
                _, model = default_model(connection)
                keep_index(connection, database, model, IndexChoice(kind), force=True)


def read(database: Path, seed: int, stop: Path) -> None:
    random = np.random.default_rng(seed)
    queries = clustered(50, seed=50 + seed)
    checked = 0
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        add_functions(connection)
        while not stop.exists() or checked < 20:
            query, k = queries[checked % 50], int(random.integers(1, 30))
            # In one transaction, so that both look at the same state of the database.
            connection.execute("begin")
            expected, scores = truth(connection, query, k)
            if random.random() < 0.3:
                # The changes of others, while this one still looks at the older state.
                time.sleep(0.02)
            ids, ours = found(connection, query, k)
            connection.execute("commit")
            if ids != expected and not np.allclose(ours, scores, atol=1e-6):
                print(f"wrong: {ids} instead of {expected}")
                sys.exit(1)
            checked += 1
    print(checked)


if __name__ == "__main__":
    what, database, *others = sys.argv[1:]
    if what == "write":
        write(Path(database), int(others[0]), others[1])
    else:
        read(Path(database), int(others[0]), Path(others[1]))
