"""The installed drivers of SQLite, and the rows or the error of a statement."""

import importlib.util

# Where pysqlite3 is installed too, as test_pythons.py has it, everything is run with both.
DRIVERS = ["sqlite3", *(["pysqlite3"] if importlib.util.find_spec("pysqlite3") else [])]


def rows_of(db, sql, *parameters):
    return db.execute(sql, parameters).fetchall()


def error_of(db, sql, *parameters):
    try:
        rows_of(db, sql, *parameters)
    except Exception as error:
        # Each driver has its own class of this name.
        assert type(error).__name__ == "OperationalError"
        return str(error)
    return None
