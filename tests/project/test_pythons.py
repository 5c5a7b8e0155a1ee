"""The base install without torch, in a new environment of every Python on this machine."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.environments import ENVIRONMENTS, find_python
from support.paths import PROGRAMS, ROOT, TESTS

pytest.importorskip("open_clip")

VERSIONS = ("3.11", "3.12", "3.13")


def python_with_base_install(version: str, source: Path) -> str:
    """Make an environment, or update the one of an earlier run; return its interpreter.

    Installs a copy of the project, as people get it, and not the working tree.
    """
    python = find_python(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    environment = ENVIRONMENTS / version
    own = environment / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", environment], check=True)
    # Compiling what is never imported takes half of the time.
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    pip = [own, "-m", "pip", "install", *options]
    for name in ("pyproject.toml", "README.md", "LICENSE", "datasette_clip_search"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run([*pip, source, "pytest", "hypothesis"], check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", source], check=True)
    # Aside, because Datasette uses it instead of Python's own sqlite3 wherever it is installed.
    if sys.platform == "linux" and not (environment / "pysqlite3").exists():
        aside = ["--target", environment / "pysqlite3", "pysqlite3-binary"]
        subprocess.run([*pip, *aside], check=False)
    return str(own)


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    """The interpreters of all versions, whose environments are made two at a time."""
    with ThreadPoolExecutor(2) as threads:
        yield {
            version: threads.submit(
                python_with_base_install, version, tmp_path_factory.mktemp("source")
            )
            for version in VERSIONS
        }


@pytest.mark.parametrize("version", VERSIONS)
def test_base_install(version, environments, tiny_database, pictures):
    python = environments[version].result()
    script = PROGRAMS / "base_install.py"
    result = subprocess.run(
        [python, script, tiny_database, pictures],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"ok {version}.")
    folder = TESTS / "sql" / "table_function"
    tests = [
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *(file for file in folder.glob("test_*.py") if file.name != "test_hidden_symbols.py"),
    ]
    result = subprocess.run(
        [python, *tests],
        cwd=tiny_database.parent,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ENVIRONMENTS / version / "pysqlite3")},
    )
    assert result.returncode == 0, result.stdout[-3000:]
