"""Virtual environments of every Python on this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

ENVIRONMENTS = ROOT / ".venvs"


def find_python(version: str) -> str | None:
    """Return an interpreter of a version: this one, one on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [
        sys.executable,
        shutil.which(f"python{version}"),
        *map(str, sorted(pyenv.glob(f"{version}.*/bin/python"))),
    ]
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        result = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if result.stdout.strip() == version:
            return candidate
    return None
