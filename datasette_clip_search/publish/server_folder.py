"""Write a folder with everything that a server needs: the database, and how to serve it."""

import json
import os
import re
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from ..common.config import CONFIG
from ..common.errors import CommandError
from ..common.whole_file import sync
from ..database.connection import connect
from ..database.index.maintenance import keep_index
from ..database.model import models
from ..database.schema import OWN_TABLES
from ..database.vectors import count_vectors
from .options import PublishOptions, PublishProgress, PublishReport
from .published_file import publish_file
from .target import is_published_file, replace_whole, scratch_folder

DATABASE = "pictures.db"
# The release series of Datasette that published pages are tested with. The next series has other
# permissions, and rebuilding an image must not switch to it. Datasette's own Dockerfiles don't
# quote the packages to install, and `~=` needs no quotes.
DATASETTE = "datasette~=0.65.2"


def compatible(release: str) -> str:
    """Return a requirement for a release of this package, or a later one with the same tables."""
    major, minor, patch, rest = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?([^+]*).*", release).groups()  # type: ignore[union-attr]
    return f"datasette-clip-search~={major}.{minor}.{patch or 0}{rest}"


REQUIREMENTS = (DATASETTE, compatible(version("datasette-clip-search")))
# Downloads of the database, whole tables as CSV, and endless SQL cost a small server the most.
SETTINGS = (
    "--setting allow_download off --setting allow_csv_stream off "
    f"--setting sql_time_limit_ms {CONFIG.published_sql_time_limit_ms} "
    f"--setting max_returned_rows {CONFIG.published_max_returned_rows} "
    f"--setting facet_time_limit_ms {CONFIG.published_facet_time_limit_ms}"
)
_MARK = (
    "Written by sqlite-utils clip-publish, which replaces this file; remove this line to keep it."
)

_DOCKERFILE = f"""\
# {_MARK}
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt
COPY {DATABASE}* metadata.yaml ./
RUN datasette inspect {DATABASE} --inspect-file inspect-data.json
# Only /tmp is written to, so the container can be read-only.
USER nobody
ENV HOME=/tmp PORT=8080
EXPOSE 8080
CMD exec datasette serve --immutable {DATABASE} --inspect-file inspect-data.json \\
    --metadata metadata.yaml --host 0.0.0.0 --port $PORT \\
    {SETTINGS}
"""

_REQUIREMENTS = "\n".join((f"# {_MARK}", *REQUIREMENTS, ""))

# 0.65 reads this as metadata; 1.0 takes from it what it calls configuration.
_METADATA = f"""\
# {_MARK}
# Titles, descriptions and licences: https://docs.datasette.io/en/stable/metadata.html
title: Pictures
databases:
  {DATABASE.removesuffix(".db")}:
    tables:
"""

_README = f"""\
{_MARK}

Search these pictures by their content, with Datasette and datasette-clip-search.

With a container engine, in this folder:

    docker build --tag pictures .
    docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \\
        --publish 8080:8080 pictures

On Fly:

    fly launch

On Cloud Run:

    gcloud run deploy pictures --source . --memory 1Gi --max-instances 1 --allow-unauthenticated

Without a container:

    python3 -m venv venv
    venv/bin/pip install --requirement requirements.txt
    venv/bin/datasette serve --immutable {DATABASE} --metadata metadata.yaml \\
        {SETTINGS}

Visitors can read the path of the database file by SQL. Put this folder where its path reveals
nothing, such as /srv/pictures.

Then open /-/clip-search. To publish a newer state, run the same clip-publish command again: it
replaces the database, and every other file that still has its first line.
"""


def publish_folder(
    source: Path,
    folder: Path,
    connection: sqlite3.Connection,
    options: PublishOptions,
    progress: PublishProgress | None = None,
) -> PublishReport:
    """Write a folder that a server can be built from, a new one completely or not at all.

    In a folder that was written before, replace each file by itself, the database last, and leave
    other files alone. Raise CommandError for a folder with any other content.
    """
    exists = _check_folder(folder)
    with scratch_folder(folder) as place:
        new = place / folder.name if folder.name else place / "new"
        new.mkdir()
        report = publish_file(source, new / DATABASE, connection, options, progress)
        _add_indexes(new / DATABASE)
        for name, text in _files(report.table).items():
            (new / name).write_text(text, "utf-8")
        try:
            if exists:
                names = {file.name for file in new.iterdir()} - {DATABASE}
                for name in sorted(names):
                    if name not in _files(report.table) or _is_ours(folder / name):
                        replace_whole(new / name, folder / name)
                replace_whole(new / DATABASE, folder / DATABASE)
                for index in folder.glob(f"{DATABASE}.clip-*.faiss"):
                    if index.name not in names:
                        index.unlink()
            else:
                for file in new.iterdir():
                    sync(file)
                sync(new)
                if folder.is_dir():
                    folder.rmdir()
                os.rename(new, folder)
                sync(Path(os.path.abspath(folder)).parent)
        except OSError as error:
            raise CommandError(f"{folder} can't be written: {error.strerror}") from error
    report.database = folder / DATABASE
    return report


def _add_indexes(database: Path) -> None:
    """Build the index files of models with many pictures, which make the server start faster."""
    with closing(connect(database)) as connection:
        for model in models(connection):
            if count_vectors(connection, model) >= CONFIG.index_at_least:
                keep_index(connection, database, model)


def _check_folder(folder: Path) -> bool:
    """Return whether our folder already exists; raise CommandError if it is someone else's."""
    if not Path(os.path.abspath(folder)).parent.is_dir():
        parent = Path(os.path.abspath(folder)).parent
        raise CommandError(
            f"There is no folder {parent} to write {folder.name} in. Create it first"
        )
    if folder.is_dir():
        held = sorted(file.name for file in folder.iterdir())
        if held and not is_published_file(folder / DATABASE):
            raise CommandError(
                f"{folder} contains {held[0]}{' and more' if len(held) > 1 else ''}, and was not "
                "written by clip-publish. Give a new or an empty folder"
            )
        return bool(held)
    if os.path.lexists(folder):
        raise CommandError(f"{folder} is a file. Expected a folder")
    return False


def _is_ours(file: Path) -> bool:
    """Return whether a file does not exist, or still has the first line that we wrote."""
    if not file.exists():
        return True
    with file.open(encoding="utf-8", errors="replace") as lines:
        return _MARK in next(lines, "")


def _files(table: str) -> dict[str, str]:
    hidden = "".join(
        f"      {json.dumps(name)}:\n        hidden: true\n"
        for name in (*OWN_TABLES, "_sqlite_migrations")
    )
    return {
        "Dockerfile": _DOCKERFILE,
        "requirements.txt": _REQUIREMENTS,
        "metadata.yaml": _METADATA
        + f"      {json.dumps(table)}:\n        description: One row for each picture\n"
        + hidden,
        "README.txt": _README,
        ".dockerignore": f"# {_MARK}\n*\n!{DATABASE}*\n!metadata.yaml\n!requirements.txt\n",
    }
