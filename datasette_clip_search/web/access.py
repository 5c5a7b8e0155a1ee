"""Who may search which database."""

from dataclasses import dataclass

from datasette import Forbidden, NotFound
from datasette.app import Datasette
from datasette.database import Database
from datasette.utils import tilde_decode
from datasette.utils.asgi import Request
from datasette.utils.sqlite import sqlite3 as driver

from ..common.errors import ClipSearchError
from ..database.model import Model, choose_model, default_model
from . import datasette_versions as versions
from .datasette_versions import Actor
from .lookup import if_quick, look_up

NEVER_SEARCHED = {"_internal", "_memory"}


@dataclass(frozen=True)
class Place:
    """A database with pictures that the visitor may see."""

    database: Database
    table: str
    model: Model


async def place_for(datasette: Datasette, actor: Actor, database: Database) -> Place | None:
    """Return what an actor can search in a database, or None."""
    if database.name in NEVER_SEARCHED or not (found := await if_quick(database, default_model)):
        return None
    table, model = found
    if not await versions.may_view_table(datasette, actor, database.name, table):
        return None
    return Place(database, table, model)


async def requested_place(datasette: Datasette, request: Request) -> Place:
    """Return the place that a request names.

    Raises NotFound, Forbidden or a ClipSearchError.
    """
    takes_pictures = request.url_vars.get("format") == ".json"
    if request.method not in ("GET", "HEAD", *(["POST"] if takes_pictures else [])):
        raise NotFound(f"This address does not accept {request.method}")
    actor, database = request.actor, requested_database(datasette, request)
    try:
        table, model = await look_up(database, default_model)
    except (ClipSearchError, driver.Error):
        # Only those who may see a database learn what it lacks.
        if not await versions.may_view_database(datasette, actor, database.name):
            raise Forbidden("view-database") from None
        raise
    if not await versions.may_view_table(datasette, actor, database.name, table):
        raise Forbidden("view-table")
    if named := request.args.get("model"):
        _, model = await look_up(database, lambda conn: choose_model(conn, named))
    return Place(database, table, model)


def requested_database(datasette: Datasette, request: Request) -> Database:
    """Return the database that a request names, or raise NotFound."""
    try:
        return datasette.get_database(route=tilde_decode(request.url_vars["database"]))
    except KeyError:
        raise NotFound("There is no such database") from None
