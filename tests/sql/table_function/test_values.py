"""Values between Python and SQLite."""

import ctypes
import math
import sqlite3
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_clip_search.sql.table_function import ScalarFunction, register
from support.drivers import error_of, rows_of
from support.table_functions import VALUES, connect


class Index:
    def __index__(self):
        return 7


class Subclass(str):
    pass


GOOD_VALUES = [
    (None, None),
    (True, 1),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    (1.5, 1.5),
    (math.inf, math.inf),
    (math.nan, None),
    ("", ""),
    ("caf\u00e9 \U0001f42b", "caf\u00e9 \U0001f42b"),
    ("a\0b", "a\0b"),
    (Subclass("s"), "s"),
    (b"", b""),
    (b"\0\xff", b"\0\xff"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"abcdef")[::2], b"ace"),
    (Index(), 7),
    (Decimal("0.5"), 0.5),
    (ctypes.sizeof(ctypes.c_int64), 8),
]
BAD_VALUES = [
    (2**63, "an integer does not fit in the 64 bits that SQLite stores"),
    (-(2**63) - 1, "an integer does not fit in the 64 bits that SQLite stores"),
    ("\udce9.jpg", "text with a lone surrogate is not Unicode: '\\udce9.jpg'"),
    ([1], "expected NULL, int, float, str or bytes but received list"),
    (object, "expected NULL, int, float, str or bytes but received type"),
    (1j, "expected NULL, int, float, str or bytes but received complex"),
]


@pytest.mark.parametrize(("value", "expected"), GOOD_VALUES)
@pytest.mark.parametrize("sql", ["select value from value_of('it')", "select give('it')"])
def test_value(db, monkeypatch, sql, value, expected):
    monkeypatch.setitem(VALUES, "it", value)
    ((received,),) = rows_of(db, sql)
    assert received == expected
    assert type(received) is type(expected)


@pytest.mark.parametrize(("value", "message"), BAD_VALUES)
@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("select value from value_of('it')", "value_of(), column value"),
        ("select give('it')", "give()"),
    ],
)
def test_value_that_sqlite_cannot_hold(db, monkeypatch, sql, where, value, message):
    monkeypatch.setitem(VALUES, "it", value)
    assert error_of(db, sql) == f"{where}: {message}"


def test_numpy_values(db, monkeypatch):
    numpy = pytest.importorskip("numpy")
    for value, expected in [
        (numpy.int64(3), 3),
        (numpy.uint8(255), 255),
        (numpy.float64(0.5), 0.5),
        (numpy.float32(0.5), 0.5),
        (numpy.float32("nan"), None),
        (numpy.str_("a"), "a"),
    ]:
        monkeypatch.setitem(VALUES, "it", value)
        assert rows_of(db, "select give('it')") == [(expected,)]
    monkeypatch.setitem(VALUES, "it", numpy.zeros(3))
    assert error_of(db, "select give('it')").endswith("but received ndarray")


@given(
    st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(),
    )
)
def test_any_value_round_trips(value):
    db = connect(sqlite3)
    VALUES["argument"] = value
    identity = ScalarFunction("identity", 1, 1, identity_of)
    register(db, [identity])
    assert rows_of(
        db, "select identity(?), value, a from value_of('argument'), echo(?)", value, value
    ) == [(value, value, value)]
    db.close()


def identity_of(connection, value):
    return value


def test_a_value_longer_than_sqlites_limit(db, monkeypatch):
    monkeypatch.setitem(VALUES, "long", "x" * 1_000_001)
    if not hasattr(db, "setlimit"):
        pytest.skip("this driver cannot set limits")
    db.setlimit(0, 1_000_000)
    with pytest.raises(Exception, match="too big"):
        rows_of(db, "select value from value_of('long')")
