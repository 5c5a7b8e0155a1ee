"""Search databases by the ids of pictures, in a process that a hostile index file may crash.

Prints a line of JSON for each database: the result of each statement, and the warnings.
"""

import json
import logging
import sqlite3
import sys

from datasette_clip_search.sql import add_functions

STATEMENTS = {
    "nearest": "select id, score from clip_search(1, 5)",
    "many": "select id, score from clip_search(7, 1000)",
    "within": "select id, score from clip_search(2, 5, null, '[3,5,8,13,21,34,55,89]')",
    "z_score": "select id, z_score from clip_search(3, 4)",
    "duplicates": "select id, group_number from clip_duplicates(0.99)",
}


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


kept = Kept()
logging.getLogger().addHandler(kept)
for path in sys.argv[1:]:
    kept.messages.clear()
    answers = {}
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    add_functions(connection)
    for name, sql in STATEMENTS.items():
        try:
            answers[name] = [
                [id, round(value, 5)] for id, value in connection.execute(sql).fetchall()
            ]
        except sqlite3.Error as error:
            answers[name] = str(error)
    connection.close()
    print(json.dumps({"path": path, "answers": answers, "told": kept.messages}), flush=True)
