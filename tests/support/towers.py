"""Helpers for the tests of towers: encoders, and programs without torch."""

import re
import subprocess
import sys

# Hides torch and OpenCLIP, as if they were not installed.
WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
def find_others(name, path=None, target=None):
    return None if name in ("torch", "open_clip") else find_spec(name, path, target)
PathFinder.find_spec = staticmethod(find_others)
"""
EMBED = (
    "from click.testing import CliRunner; from sqlite_utils.cli import cli\n"
    "result = CliRunner().invoke(cli, ['embed-images', *sys.argv[1:]])\n"
    "print(result.output)\n"
    "assert 'torch' not in sys.modules\n"
)


def torch_encoder(folder):
    from datasette_clip_search.models.checkpoint import resolve
    from datasette_clip_search.models.torch_model import TorchModel

    return TorchModel(resolve("model", str(folder)))


def without_torch(code, *arguments):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result


def open_text_tower(connection):
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.models.queries.text_encoder import text_encoder_of

    return text_encoder_of(connection, default_model(connection)[1])


def text_line(result):
    """Return the line of a run's output about text queries."""
    assert result.exit_code == 0, result.output
    return re.search("Text queries: (.*)\n", result.stdout)[1]
