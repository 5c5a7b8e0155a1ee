"""Published databases as they are served: build and start the application folders.

The environment is new and contains only what their Dockerfiles install, so no torch.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import run
from support.databases import rows
from support.dockerfile import as_nobody, build_environment, read, served_folder
from support.environments import ENVIRONMENTS, find_python
from support.paths import ROOT

pytest.importorskip("open_clip")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="images are Linux")

# Stands in for `docker` and `gcloud`: copies the folder that they would receive.
SENT = """\
#!/bin/sh
case "$*" in
    "build "*|*"builds submit"*) cp -r . "$SENT" ;;
    *get-value*) echo project ;;
esac
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that other users may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def environment(place: Path) -> Path:
    """An environment of a Python that other users may run: a new one, or one of an earlier run."""
    candidates = ["/usr/bin/python3", *filter(None, map(find_python, ("3.13", "3.12", "3.11")))]
    code = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    for python in candidates:
        try:
            fits = subprocess.run([python, "-c", code], cwd="/", capture_output=True, **as_nobody())
        except OSError:
            continue
        if fits.returncode == 0:
            break
    else:
        pytest.skip("there is no Python that others may run")
    environment = ENVIRONMENTS / "published"
    if not (environment / "bin" / "pip").exists():
        subprocess.run([python, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    # An earlier run may have installed an older state of this project.
    subprocess.run([*pip, "uninstall", "-q", "-y", "datasette-clip-search"], check=True)
    return environment


@pytest.fixture(scope="module")
def wheels(place: Path) -> Path:
    """A folder with this package's wheel, as the package index will serve it."""
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "datasette_clip_search"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
    subprocess.run([*command, "--no-deps", "-w", place / "wheels", source], check=True)
    return place / "wheels"


@pytest.fixture(scope="module", params=["--to-folder", "package", "publish cloudrun"])
def application(request, place, demo_database, environment, wheels) -> Path:  # type: ignore[no-untyped-def]
    """The folder that a command printed by clip-publish sends to be built, built here."""
    name = request.param.replace(" ", "-").strip("-")
    folder = place / name
    if request.param == "--to-folder":
        result = run("clip-publish", demo_database, "--to-folder", folder)
        assert result.exit_code == 0, result.output
        sent = [file for pattern in read(folder).copied for file in folder.glob(pattern)]
        for other in set(folder.iterdir()) - {*sent, folder / "Dockerfile"}:
            other.unlink()
    else:
        result = run("clip-publish", demo_database, place / f"{name}.db", "--vectors", "fp16")
        assert result.exit_code == 0, result.output
        printed = result.stdout.replace("\\\n", " ")
        [command] = re.findall(rf"datasette {request.param} .+", printed)
        for binary in ("docker", "gcloud"):
            (place / binary).write_text(SENT)
            (place / binary).chmod(0o755)
        path = f"{place}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        subprocess.run(
            command,
            shell=True,
            check=True,
            cwd=place,
            capture_output=True,
            env={**os.environ, "PATH": path, "SENT": str(folder)},
        )
    build_environment(folder, environment, wheels)
    return folder


@pytest.fixture(scope="module")
def site(application: Path, environment: Path, place: Path) -> Iterator[tuple[str, Path]]:
    """The URL of the running server, and its database."""
    temporary = Path(tempfile.mkdtemp(dir=place))
    temporary.chmod(0o777)
    [database] = application.glob("*.db")
    with served_folder(application, environment, temporary) as address:
        yield address, database


def get(address: str, **parameters: object) -> bytes:
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    with urllib.request.urlopen(address + query) as response:
        return response.read()


def test_holds_no_torch(application, environment):
    command = [environment / "bin" / "pip", "list", "--format", "json"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    names = {package["name"] for package in listed}
    assert {"datasette", "datasette-clip-search"} <= names
    assert not names & {"torch", "open_clip_torch", "timm"}


def test_serves_pictures_without_words(site, demo_database, connect):
    address, database = site
    page = get(f"{address}/-/clip-search/{database.stem}").decode()
    assert "160 pictures" in page
    [source, *_] = re.findall(r'<img src="([^"]*)"', page)
    image_id = int(source.rpartition("/")[2])
    sql = "select data from clip_thumbnails where image_id = ?"
    assert rows(demo_database, sql, image_id) == [(get(address + source),)]
    expected = connect(demo_database).execute("select id from clip_search(7, 5)").fetchall()
    body = json.loads(get(f"{address}/-/clip-search/{database.stem}.json", like=7, k=5))
    assert [(result["id"],) for result in body["results"]] == expected
    sql = "select id from clip_search(7, 5) join images using (id)"
    url = f"{address}/{database.stem}.json"
    assert json.loads(get(url, sql=sql, _shape="arrays"))["rows"] == [list(row) for row in expected]
    assert "clip_search" in get(f"{address}/-/plugins.json").decode().replace("-", "_")


def test_costly_settings_are_off(site):
    address, database = site
    for url in (f"/{database.name}", f"/{database.stem}/images.csv?_stream=1"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(address + url)
        assert refused.value.code in (400, 403, 404)


def test_serves_words(site, demo_database, connect):
    address, database = site
    if not rows(database, "select 1 from sqlite_master where name = 'clip_towers'"):
        pytest.skip("there are no text towers yet")
    sql = "select id from clip_search('dog on beach', 5)"
    expected = {image_id for (image_id,) in connect(demo_database).execute(sql)}
    url = f"{address}/-/clip-search/{database.stem}.json"
    results = json.loads(get(url, q="dog on beach", k=5))["results"]
    assert len(expected & {result["id"] for result in results}) >= 4
