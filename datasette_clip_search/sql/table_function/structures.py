"""The constants and structs of SQLite's C interface that virtual tables need."""

import ctypes
from ctypes import POINTER, c_double, c_int, c_int64, c_ubyte, c_uint64, c_void_p

SQLITE_OK = 0
SQLITE_ERROR = 1
SQLITE_NOMEM = 7
SQLITE_INTERRUPT = 9
SQLITE_CONSTRAINT = 19
SQLITE_DONE = 101
SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_BLOB = 1, 2, 3, 4
SQLITE_UTF8 = 1
SQLITE_DETERMINISTIC = 0x800
SQLITE_TRANSIENT = -1
SQLITE_INDEX_CONSTRAINT_EQ = 2
SQLITE_INDEX_CONSTRAINT_LIMIT = 73
SQLITE_INDEX_CONSTRAINT_OFFSET = 74


class Module(ctypes.Structure):
    """`sqlite3_module`, version 0; each member is the address of a C function, or NULL."""

    _fields_ = [
        ("iVersion", c_int),
        ("xCreate", c_void_p),
        ("xConnect", c_void_p),
        ("xBestIndex", c_void_p),
        ("xDisconnect", c_void_p),
        ("xDestroy", c_void_p),
        ("xOpen", c_void_p),
        ("xClose", c_void_p),
        ("xFilter", c_void_p),
        ("xNext", c_void_p),
        ("xEof", c_void_p),
        ("xColumn", c_void_p),
        ("xRowid", c_void_p),
        ("xUpdate", c_void_p),
        ("xBegin", c_void_p),
        ("xSync", c_void_p),
        ("xCommit", c_void_p),
        ("xRollback", c_void_p),
        ("xFindFunction", c_void_p),
        ("xRename", c_void_p),
    ]


class VirtualTable(ctypes.Structure):
    """`sqlite3_vtab`, followed by the addresses of the Python connection and its `sqlite3*`."""

    _fields_ = [
        ("pModule", c_void_p),
        ("nRef", c_int),
        ("zErrMsg", c_void_p),
        ("connection", c_void_p),
        ("handle", c_void_p),
    ]


class Cursor(ctypes.Structure):
    """`sqlite3_vtab_cursor`."""

    _fields_ = [("pVtab", c_void_p)]


class Constraint(ctypes.Structure):
    """`sqlite3_index_constraint`."""

    _fields_ = [
        ("iColumn", c_int),
        ("op", c_ubyte),
        ("usable", c_ubyte),
        ("iTermOffset", c_int),
    ]


class OrderBy(ctypes.Structure):
    """`sqlite3_index_orderby`."""

    _fields_ = [("iColumn", c_int), ("desc", c_ubyte)]


class ConstraintUsage(ctypes.Structure):
    """`sqlite3_index_constraint_usage`."""

    _fields_ = [("argvIndex", c_int), ("omit", c_ubyte)]


class IndexInfo(ctypes.Structure):
    """`sqlite3_index_info`, as of SQLite 3.10."""

    _fields_ = [
        ("nConstraint", c_int),
        ("aConstraint", POINTER(Constraint)),
        ("nOrderBy", c_int),
        ("aOrderBy", POINTER(OrderBy)),
        ("aConstraintUsage", POINTER(ConstraintUsage)),
        ("idxNum", c_int),
        ("idxStr", c_void_p),
        ("needToFreeIdxStr", c_int),
        ("orderByConsumed", c_int),
        ("estimatedCost", c_double),
        ("estimatedRows", c_int64),
        ("idxFlags", c_int),
        ("colUsed", c_uint64),
    ]
