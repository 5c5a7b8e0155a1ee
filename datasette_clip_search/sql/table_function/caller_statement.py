"""Finds the statement that a call of a table function belongs to.

SQLite hands a virtual table no statement. But while it compiles one, that is the head of the
connection's list of statements; and what it chose goes along with the plan, in the memory of
`idxStr`, which lives as long as the statement does. The rules, because a pointer to a statement
that is gone would end the process:

- A statement's address is used only where it was found in the connection's list a moment ago, or
  where it is sure to be that of the statement whose plan is being run.
- It is sure where no other statement of the connection is running.
- A trigger is compiled as a statement of its own, which is gone before the first run, and so is
  each statement that SQLite compiles again because the schema changed.
"""

import ctypes
from ctypes import c_ubyte, c_uint32, c_uint64, c_void_p, sizeof
from itertools import count

from .library import Library
from .structures import IndexInfo

SQLITE_STMTSTATUS_RUN = 6
RUNS_ARE_COUNTED = 3_020_000

serials = count(1)
"""Of plans, and of what is kept for them, in the order in which they are made."""


class Note(ctypes.Structure):
    """What a plan says to the calls that follow it."""

    _fields_ = [
        # EXPLAIN shows it as text: an empty one.
        ("nothing", c_ubyte),
        ("called", c_ubyte),
        ("sure", c_ubyte),
        ("trigger", c_ubyte),
        ("ordered", c_ubyte),
        ("decided", c_ubyte),
        ("mode", c_ubyte),
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


def add_note(library: Library, handle: int, info: IndexInfo) -> Note:
    """Puts a note into a plan that is being made for the statement being compiled."""
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
    # One being compiled has no text yet, and doesn't run as that of an open blob does.
    note.trigger = bool(behind and not library.sql(behind) and not library.stmt_busy(behind))
    return note


def running(library: Library, handle: int, note: Note) -> list[int]:
    """Returns the statement that a plan is being run for, or all that it may be."""
    if note.sure:
        return [note.statement]
    statement = library.next_stmt(handle, None)
    # Most are run once, right after they were compiled, and the list may be long.
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
    """Returns how often a running statement has been started, or None before SQLite 3.20."""
    if library.version < RUNS_ARE_COUNTED:
        return None
    runs: int = library.stmt_status(statement, SQLITE_STMTSTATUS_RUN, 0)
    return runs
