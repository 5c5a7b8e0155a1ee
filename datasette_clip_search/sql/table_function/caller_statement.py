"""Find the statement that a call of a table function belongs to.

SQLite does not tell a virtual table which statement calls it. But a statement that is being
compiled is the first in the connection's list of statements. And `idxStr`, which xBestIndex
allocates and each xFilter gets back, lives as long as the statement does: it holds a Note.

Invariants, because a pointer to a freed statement would crash the process:

- The address of a statement is used only if it has just been found in the connection's list, or is
  sure to be the statement whose plan is running.
- It is sure if no other statement of the connection is running.
- A trigger is compiled as a statement of its own, which is freed before the first run. So is a
  statement that SQLite compiles again because the schema changed.
"""

import ctypes
from collections.abc import Iterable
from ctypes import c_ubyte, c_uint32, c_uint64, c_void_p, sizeof
from functools import lru_cache
from itertools import count

from .library import Library
from .structures import IndexInfo

SQLITE_STMTSTATUS_RUN = 6
RUNS_ARE_COUNTED = 3_020_000

serials = count(1)
"""Numbers for plans and cached runs, in the order in which they are made."""


class Note(ctypes.Structure):
    """Information from the plan of a statement to the calls that follow.

    Conditions on the restricting column are numbered, lists (`in (...)`) and single values apart.
    C memory can hold no Python set, so a set of them is an integer with one bit for each: see
    bits_of() and places_in().
    """

    _fields_ = [
        # EXPLAIN shows the memory as text, and a zero byte makes that empty.
        ("nothing", c_ubyte),
        # Booleans: a call has been made; `statement` is sure; the statement may be a trigger's.
        ("called", c_ubyte),
        ("sure", c_ubyte),
        ("trigger", c_ubyte),
        # NO_ORDER, ORDERED or DISORDERED.
        ("ordered", c_ubyte),
        # Whether the Meaning is already stored here, in mode, first and the restricting sets.
        ("decided", c_ubyte),
        ("mode", c_ubyte),
        # How many conditions there are, which of them can be passed to a call, and which of the
        # passed ones, in their order, are lists.
        ("lists", c_uint32),
        ("values", c_uint32),
        ("usable_lists", c_uint32),
        ("usable_values", c_uint32),
        ("are_lists", c_uint32),
        ("restricting_lists", c_uint32),
        ("restricting_values", c_uint32),
        ("first", c_uint32),
        ("serial", c_uint64),
        ("statement", c_void_p),
    ]


def bits_of(places: Iterable[int]) -> int:
    """Return a set of small numbers as an integer with one bit for each."""
    return sum({1 << place for place in places})


@lru_cache(256)
def places_in(bits: int) -> frozenset[int]:
    """Return the set that bits_of() turned into an integer."""
    return frozenset(place for place in range(bits.bit_length()) if bits >> place & 1)


def add_note(library: Library, handle: int, info: IndexInfo) -> Note:
    """Add a Note to the plan of the statement that is being compiled."""
    memory = library.malloc(sizeof(Note))
    if not memory:
        raise MemoryError
    ctypes.memset(memory, 0, sizeof(Note))
    info.idxStr = memory
    info.needToFreeIdxStr = 1
    note = Note.from_address(memory)
    note.serial = next(serials)
    note.statement = library.next_stmt(handle, None)
    behind = library.next_stmt(handle, note.statement)
    # An outer statement that is being compiled has no text yet. Nor has that of an open blob,
    # but that one is running.
    note.trigger = bool(behind and not library.sql(behind) and not library.stmt_busy(behind))
    return note


def running(library: Library, handle: int, note: Note) -> list[int]:
    """Return the statement whose plan is running, or all statements that it may be."""
    if note.sure:
        return [note.statement]
    statement = library.next_stmt(handle, None)
    # The list may be long, but most statements run once, right after they were compiled.
    is_head = statement == note.statement and not note.trigger
    if not note.called and is_head and library.stmt_busy(statement):
        return [statement]
    busy = []
    while statement:
        if library.stmt_busy(statement):
            busy.append(statement)
        statement = library.next_stmt(handle, statement)
    if len(busy) == 1:
        note.statement, note.sure = busy[0], 1
    elif note.statement in busy and not note.trigger:
        return [note.statement]
    return busy


def text_of(library: Library, statement: int) -> str:
    text: bytes = library.sql(statement) or b""
    return text.decode("utf-8", "replace")


def runs_of(library: Library, statement: int) -> int | None:
    """Return how often a running statement has been started, or None before SQLite 3.20."""
    if library.version < RUNS_ARE_COUNTED:
        return None
    runs: int = library.stmt_status(statement, SQLITE_STMTSTATUS_RUN, 0)
    return runs
