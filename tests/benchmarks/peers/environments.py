"""The environments that contestants run in, made by pip, and the weights that they load."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Not resolved: the link's own folder is what holds this environment's commands.
OUR_BIN = Path(sys.executable).parent


class Unusable(Exception):
    """What keeps a contestant from taking part."""


def bin_folder(cache: Path, environment: str) -> Path:
    """Return where the commands of an environment are; the one called "" is ours."""
    return cache / "venvs" / environment / "bin" if environment else OUR_BIN


def set_up(
    cache: Path, environment: str, packages: tuple[str, ...], weights: dict[str, tuple[str, str]]
) -> None:
    """Make an environment of packages, and weights, unless an earlier run did.

    `weights` says of each file's or folder's name of what kind it is for weights.py, and which
    environment makes it; the environment called "" is ours.

    Raises Unusable for what can't be installed or made.
    """
    if environment:
        _make_environment(cache / "venvs" / environment, packages)
    for name, (kind, maker) in weights.items():
        target = cache / "weights" / name
        if target.exists():
            continue
        # Made in a folder of its own, so that nothing half made is taken for done; what it
        # reads lies beside it.
        part = target.with_name(f"making-{name}")
        _remove(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        python = bin_folder(cache, maker) / "python" if maker else sys.executable
        _do([python, HERE / "weights.py", kind, part], _exporter(cache) if kind == "rclip" else {})
        part.rename(target)


def _make_environment(folder: Path, packages: tuple[str, ...]) -> None:
    done = folder / "packages.txt"
    wanted = "\n".join(packages)
    if done.exists() and done.read_text() == wanted:
        return
    _remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _do([sys.executable, "-m", "venv", folder])
    _do([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages])
    done.write_text(wanted)


def _exporter(cache: Path) -> dict[str, str]:
    """Return the variables that give our environment the package `onnx`, to export with."""
    folder = cache / "exporter"
    if not folder.exists():
        packages = ("onnx", "protobuf", "ml_dtypes", "typing_extensions")
        part = folder.with_name("making-exporter")
        _remove(part)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        _do([*pip, "--target", part, *packages])
        part.rename(folder)
    return {"PYTHONPATH": str(folder)}


def _do(command: list[str | os.PathLike[str]], variables: dict[str, str] | None = None) -> None:
    print("    " + " ".join(map(str, command[1:])), flush=True)
    done = subprocess.run(
        command, env={**os.environ, **(variables or {})}, capture_output=True, text=True
    )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        wrong = [line for line in lines if line.startswith("ERROR:")] or lines
        what = " ".join(Path(part).name for part in command[1:4])
        raise Unusable(f"python {what} failed: {wrong[-1][:300] if wrong else ''}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def versions(cache: Path, environment: str, packages: tuple[str, ...]) -> str:
    """Return the versions of those of the packages that an environment has."""
    python = bin_folder(cache, environment) / "python" if environment else sys.executable
    code = (
        "import sys\n"
        "from importlib.metadata import PackageNotFoundError, version\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, version(name))\n"
        "    except PackageNotFoundError: pass\n"
    )
    try:
        done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True)
    except OSError:
        # It could not be made.
        return ""
    return ", ".join(done.stdout.split("\n")[:-1])
