"""The commands and files that publish a database: their settings and what they install."""

import itertools
import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.publish.server_folder import REQUIREMENTS, compatible
from support.commands import run
from support.databases import make_database
from support.paths import ROOT

pytest.importorskip("open_clip")

PAGE = (ROOT / "docs/publish.md").read_text("utf-8")
PROTECTING = {
    "allow_download": "off",
    "allow_csv_stream": "off",
    "sql_time_limit_ms": str(CONFIG.published_sql_time_limit_ms),
    "max_returned_rows": str(CONFIG.published_max_returned_rows),
    "facet_time_limit_ms": str(CONFIG.published_facet_time_limit_ms),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_database(tmp_path_factory.mktemp("commands"), 2, tiny_model)


@pytest.fixture(scope="module")
def folder(database: Path) -> Path:
    result = run("clip-publish", database, "--to-folder", database.parent / "site")
    assert result.exit_code == 0, result.output
    return database.parent / "site"


@pytest.fixture(scope="module")
def printed(database: Path) -> str:
    result = run("clip-publish", database, database.parent / "my photos'.db")
    assert result.exit_code == 0, result.output
    return result.stdout


def workflow() -> dict:
    [text] = re.findall(r"```yaml\n(name: .*?)```", PAGE, re.DOTALL)
    # YAML 1.1 reads `on` as a boolean, and GitHub does not.
    return yaml.load(text, yaml.BaseLoader)


def commands(text: str) -> list[list[str]]:
    """Return the commands that serve or publish, each as a list of words with extra options."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(
        r"(?:\S*/)?datasette (?:serve|publish|package) [^\n]+(?:\n +--[^\n]+)*", joined
    )
    words = [shlex.split(command) for command in found]
    return [[part for word in command for part in word.split()] for command in words]


def settings(command: list[str]) -> dict[str, str]:
    """Return the settings of a command."""
    at = [place for place, word in enumerate(command) if word == "--setting"]
    return {command[place + 1]: command[place + 2] for place in at}


def installed(command: list[str]) -> list[str]:
    """Return the packages that a command of `datasette publish` installs."""
    return [after for word, after in itertools.pairwise(command) if word == "--install"]


def test_printed_commands(printed):
    found = commands(printed)
    assert [command[1] for command in found] == ["publish", "publish", "package"]
    assert [command[2] for command in found[:2]] == ["cloudrun", "fly"]
    for command in found:
        assert settings(command) == PROTECTING
        assert installed(command) == list(REQUIREMENTS)


def test_files_of_a_folder(folder):
    dockerfile, readme = (
        (folder / name).read_text("utf-8") for name in ("Dockerfile", "README.txt")
    )
    for text in dockerfile, readme:
        [command] = commands(text)
        assert settings(command) == PROTECTING
        assert "--immutable" in command
    lines = (folder / "requirements.txt").read_text("utf-8").splitlines()[1:]
    assert lines == list(REQUIREMENTS)
    assert "pip install --no-cache-dir --requirement requirements.txt" in dockerfile
    assert "USER nobody" in dockerfile
    for text in readme, run("clip-publish", folder / "pictures.db", "--to-folder", folder).stdout:
        assert "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges" in text


def test_requirements_are_compatible_releases():
    for requirement in REQUIREMENTS:
        assert re.fullmatch(r"[a-z-]+~=\d+\.\d+\.\d+\S*", requirement)
    assert f"datasette-clip-search~={version('datasette-clip-search').split('a')[0]}" in str(
        REQUIREMENTS
    )


@pytest.mark.parametrize(
    ("release", "expected"),
    [("0.1a0", "0.1.0a0"), ("0.2", "0.2.0"), ("1.4.7", "1.4.7"), ("0.3.1.dev2+gabc", "0.3.1.dev2")],
)
def test_compatible(release, expected):
    assert compatible(release) == f"datasette-clip-search~={expected}"


def test_workflow_has_no_more_rights_than_it_needs():
    shown = workflow()
    assert set(shown["on"]) == {"push"}
    assert shown["permissions"] == {}
    assert shown["concurrency"]["group"]
    [job] = shown["jobs"].values()
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert int(job["timeout-minutes"]) <= 360
    assert job["runs-on"] != "ubuntu-latest"


def test_workflow_holds_no_key():
    [job] = workflow()["jobs"].values()
    uses = {step["uses"].partition("@")[0]: step for step in job["steps"] if "uses" in step}
    assert set(uses["google-github-actions/auth"]["with"]) == {
        "workload_identity_provider",
        "service_account",
    }
    assert uses["actions/checkout"]["with"] == {"persist-credentials": "false"}
    assert "secrets." not in str(job)
    assert not any("${{" in step.get("run", "") for step in job["steps"])


def test_workflow_pins_what_it_runs():
    [job] = workflow()["jobs"].values()
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            assert re.search(re.escape(step["uses"]) + r"  # v\d+\.\d+\.\d+\n", PAGE)
    text = "\n".join(step.get("run", "") for step in job["steps"])
    [command] = commands(text)
    assert settings(command) == PROTECTING
    assert installed(command) == list(REQUIREMENTS)
    packages = {word for line in re.findall("pip install (.+)", text) for word in shlex.split(line)}
    assert {re.sub(r"\[.*\]", "", word) for word in packages if "~=" in word} == {
        "torch~=2.4",
        *REQUIREMENTS,
    }
    others = {word for word in packages if "~=" not in word}
    assert others == {"--index-url", "https://download.pytorch.org/whl/cpu"}
