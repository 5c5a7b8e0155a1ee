"""Datasette servers in processes of their own."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from support.paths import TESTS
from support.waiting import wait_until


def wait_until_up(url: str, server: subprocess.Popen[str]) -> None:
    """Wait until a Datasette answers at an address."""

    def answers() -> bool:
        try:
            urlopen(f"{url}/-/versions.json").close()
        except OSError:
            return False
        return True

    wait_until(answers, server, f"No answer from {url}")


@contextmanager
def served(database: Path) -> Iterator[str]:
    """Serve a database, with every plugin that is installed; yield the server's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--setting", "sql_time_limit_ms", "60000"]
    command = [sys.executable, "-m", "programs.patient_datasette", str(database), *options]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=TESTS, stdout=quiet, stderr=quiet, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(url, server)
        yield url
    finally:
        server.terminate()
        server.wait()
