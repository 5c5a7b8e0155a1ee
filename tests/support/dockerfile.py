"""Build and run an application folder by its own Dockerfile, without a container engine.

A new virtual environment stands for the image. Where root runs the tests, the commands run as
nobody, on a folder that nobody can write to.
"""

import os
import pwd
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.servers import wait_until_up
from support.waiting import PATIENCE


@dataclass
class Dockerfile:
    """The instructions of a Dockerfile that matter here."""

    commands: list[str] = field(default_factory=list)
    start: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    copied: list[str] = field(default_factory=list)


def read(folder: Path) -> Dockerfile:
    """Read a Dockerfile; fail for an instruction that this module does not know."""
    found = Dockerfile()
    text = (folder / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "RUN":
            found.commands.append(rest)
        elif instruction == "CMD":
            found.start = rest
        elif instruction == "USER":
            found.user = rest
        elif instruction == "COPY":
            found.copied += rest.split()[:-1]
        elif instruction == "ENV":
            words = shlex.split(rest)
            pairs = [word.split("=", 1) for word in words] if "=" in words[0] else [words]
            found.environment |= dict(pairs)
        else:
            assert instruction in ("FROM", "WORKDIR", "EXPOSE", "#", ""), line
    return found


def build_environment(folder: Path, environment: Path, wheels: Path) -> None:
    """Run the commands of a folder's Dockerfile, with our package from a folder of wheels."""
    for command in read(folder).commands:
        result = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            capture_output=True,
            text=True,
            env={
                **_bare(environment),
                "PIP_FIND_LINKS": str(wheels),
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "PIP_ROOT_USER_ACTION": "ignore",
                # Wheels that were fetched once; images have no use for them.
                "PIP_NO_CACHE_DIR": "0",
            },
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


@contextmanager
def served_folder(folder: Path, environment: Path, temporary: Path) -> Iterator[str]:
    """Start a folder by its Dockerfile; yield its address once it answers."""
    dockerfile = read(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = _state(folder)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(path.stat().st_mode & 0o555)
    with open(temporary / "log", "w+") as log:
        process = subprocess.Popen(
            f"exec {dockerfile.start.removeprefix('exec ')}",
            shell=True,
            cwd=folder,
            env={
                **_bare(environment),
                **dockerfile.environment,
                "HOME": str(temporary),
                "TMPDIR": str(temporary),
                "PORT": str(port),
            },
            stdout=log,
            stderr=log,
            **as_nobody(),
        )
        try:
            address = f"http://127.0.0.1:{port}"
            try:
                wait_until_up(address, process)
            except AssertionError as error:
                log.seek(0)
                raise AssertionError(log.read()) from error
            yield address
            log.seek(0)
            assert "Traceback" not in log.read()
        finally:
            process.terminate()
            process.wait(PATIENCE)
            folder.chmod(0o755)
    assert _state(folder) == before


def as_nobody() -> dict[str, Any]:
    """Return options with which subprocess runs as nobody, or none where only root could."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _bare(environment: Path) -> dict[str, str]:
    """Return the environment variables of an image: of ours, only the virtual environment."""
    proxies = {
        name: value for name, value in os.environ.items() if re.match("pip_|.*_proxy", name, re.I)
    }
    path = f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return {**proxies, "PATH": path, "LANG": "C.UTF-8"}


def _state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
