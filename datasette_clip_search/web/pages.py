"""The search page, its JSON, and the thumbnails."""

import hashlib
import logging
import sqlite3
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from datasette import Forbidden, NotFound, Response
from datasette.app import Datasette
from datasette.database import Database, QueryInterrupted
from datasette.utils import add_cors_headers, tilde_decode, tilde_encode
from datasette.utils.asgi import Request
from datasette.utils.sqlite import sqlite3 as driver
from markupsafe import Markup

from ..common.config import CONFIG
from ..common.errors import (
    ClipSearchError,
    EncoderUnavailable,
    NoEmbeddings,
    QueryError,
    TookTooLong,
)
from ..database.schema import Model, choose_model, default_model, images_table, models
from ..database.thumbnails import has_thumbnail, read_thumbnail
from . import datasette_versions as versions
from .datasette_versions import Actor
from .finding import Found, count_pictures, find, question_of_picture
from .lookup import if_quick, look_up
from .question import Question, read_question
from .upload import UploadRefused, received

log = logging.getLogger(__name__)

NEVER_SEARCHED = {"_internal", "_memory"}


@dataclass(frozen=True)
class Place:
    """A database with pictures that the visitor may see."""

    database: Database
    table: str
    model: Model


def page_url(datasette: Datasette, database: Database, **parameters: object) -> str:
    """Returns the address of a database's search page."""
    path: str = datasette.urls.path(f"/-/clip-search/{tilde_encode(database.route)}")
    return f"{path}?{urlencode(parameters)}" if parameters else path


async def place_for(datasette: Datasette, actor: Actor, database: Database) -> Place | None:
    """Returns what an actor can search in a database, or None."""
    if database.name in NEVER_SEARCHED or not (found := await if_quick(database, default_model)):
        return None
    table, model = found
    if not await versions.may_view_table(datasette, actor, database.name, table):
        return None
    return Place(database, table, model)


async def picture_cell(
    datasette: Datasette, database: Database, table: str, image_id: int, path: object
) -> Markup | None:
    """Returns a path of the pictures' table with its thumbnail, which leads to what is like it.

    None is for other tables, for pictures without a thumbnail, and for what is no path, which
    Datasette shows with less of it.
    """
    if not isinstance(path, str) or len(path) > CONFIG.max_path_characters:
        return None

    def is_shown(connection: sqlite3.Connection) -> bool:
        return images_table(connection) == table and has_thumbnail(connection, image_id)

    if not await if_quick(database, is_shown):
        return None
    template = (
        '<a href="{}" title="More like this"><img src="{}" alt="" loading="lazy" '
        'style="display: block; max-width: 12rem; max-height: 12rem"></a>{}'
    )
    like = page_url(datasette, database, like=image_id)
    return Markup(template).format(like, _thumbnail_url(datasette, database, image_id), path)


async def index_page(datasette: Datasette, request: Request) -> Response:
    """Shows the databases that can be searched, or goes to the only one."""
    places = [
        place
        for database in datasette.databases.values()
        if (place := await place_for(datasette, request.actor, database))
    ]
    if not places and not await versions.may_view_instance(datasette, request.actor):
        raise Forbidden("view-instance")
    if len(places) == 1:
        query = f"?{request.query_string}" if request.query_string else ""
        return Response.redirect(page_url(datasette, places[0].database) + query)
    databases = [
        {
            "name": place.database.name,
            "url": page_url(datasette, place.database),
            "model": place.model.label,
            "count": await count_pictures(place.database, place.model),
        }
        for place in places
    ]
    html = await datasette.render_template(
        "clip_search_index.html", {"databases": databases}, request=request
    )
    return Response.html(html)


async def search_page(datasette: Datasette, request: Request) -> Response:
    """Shows the pictures nearest to a query, as a page or JSON; a picture is sent for the JSON."""
    as_json, place = bool(request.url_vars["format"]), None
    try:
        place = await _place(datasette, request)
        question = await _question(request, place)
        if as_json and question.value is None:
            raise QueryError(
                "Give q, words to search for, or like, the id of a picture, or send another one"
            )
        found = await find(place.database, place.table, place.model, question)
        if as_json:
            return _json(datasette, _as_json(datasette, request, place, question, found))
        context = await _as_context(datasette, request, place, question, found)
        return await _html(datasette, request, place, context)
    except (Forbidden, NotFound) as error:
        if not as_json:
            # Datasette has pages for these, from which a plugin may lead on to a login.
            raise
        message, status = str(error), 404
        if isinstance(error, Forbidden):
            message, status = "You may not see the pictures of this database", 403
    except UploadRefused as error:
        message, status = str(error), error.status
    except EncoderUnavailable as error:
        # What it advises is not for visitors to do.
        message, status = f"For whoever runs this site: {error}", 400
        if request.args.get("q"):
            message = f"Words can't be searched for here now, only pictures. {message}"
    except ClipSearchError as error:
        message, status = str(error), _STATUS.get(type(error), 400)
    except QueryInterrupted:
        # Datasette asks the database whether a visitor may see it.
        message, status = "This database takes longer to read than the limit here", 503
    except driver.Error as error:
        message, status = f"This database can't be searched: {error}", 500
        log.warning("%s can't be searched: %s", request.url_vars["database"], error)
    except Exception:
        log.exception("A search failed")
        message, status = "The search failed. The log of the server says why", 500
    if as_json:
        return _json(datasette, {"ok": False, "error": message}, status)
    # What failed for a reason unknown may fail again.
    form = await _form(place) if place and status != 500 else {}
    return await _html(datasette, request, place, {**form, "error": message}, status)


_STATUS: dict[type[ClipSearchError], int] = {NoEmbeddings: 404, TookTooLong: 503}


async def _place(datasette: Datasette, request: Request) -> Place:
    """Returns what the address names, or raises NotFound, Forbidden or a ClipSearchError."""
    takes_pictures = request.url_vars.get("format") == ".json"
    if request.method not in ("GET", "HEAD", *(["POST"] if takes_pictures else [])):
        raise NotFound(f"There is no {request.method} here")
    actor, database = request.actor, _database(datasette, request)
    try:
        table, model = await look_up(database, default_model)
    except (ClipSearchError, driver.Error):
        # What a database lacks is told to those who may see it.
        if not await versions.may_view_database(datasette, actor, database.name):
            raise Forbidden("view-database") from None
        raise
    if not await versions.may_view_table(datasette, actor, database.name, table):
        raise Forbidden("view-table")
    if named := request.args.get("model"):
        _, model = await look_up(database, lambda conn: choose_model(conn, named))
    return Place(database, table, model)


async def _question(request: Request, place: Place) -> Question:
    names = ("q", "like", "vector", "model", "k")
    question = read_question(place.model, *(request.args.get(name) for name in names))
    if request.method != "POST":
        return question
    if question.value is not None:
        raise QueryError("Send either a picture, or one of q, like and vector, but not both")
    async with received(request) as data:
        # A hint at who it is: a proxy's visitors come from one address.
        sender = str((request.scope.get("client") or ["?"])[0])
        return await question_of_picture(place.database, place.model, question, data, sender)


def _database(datasette: Datasette, request: Request) -> Database:
    try:
        return datasette.get_database(route=tilde_decode(request.url_vars["database"]))
    except KeyError:
        raise NotFound("There is no such database") from None


def _thumbnail_url(datasette: Datasette, database: Database, image_id: int) -> str:
    return f"{page_url(datasette, database)}/thumbnail/{image_id}"


def _thumbnail_of(datasette: Datasette, place: Place, picture: dict[str, Any]) -> str | None:
    if not picture["has_thumbnail"]:
        return None
    return _thumbnail_url(datasette, place.database, picture["id"])


def _as_json(
    datasette: Datasette, request: Request, place: Place, question: Question, found: Found
) -> dict[str, Any]:
    def result(picture: dict[str, Any]) -> dict[str, Any]:
        url = _thumbnail_of(datasette, place, picture)
        names = ("rank", "id", "path", "score", "z_score", "width", "height", "taken")
        return {
            **{name: picture[name] for name in names},
            "thumbnail": url and datasette.absolute_url(request, url),
            **{name: picture[name] for name in ("original",) if name in picture},
        }

    return {
        "ok": True,
        "query": {**question.parameters(), "k": question.k},
        "model": place.model.label,
        "results": [result(picture) for picture in found.pictures],
    }


def _json(datasette: Datasette, body: dict[str, Any], status: int = 200) -> Response:
    headers: dict[str, str] = {}
    if datasette.cors:
        add_cors_headers(headers)
    # A path or a date may be a blob where somebody has changed the table.
    return Response.json(body, status=status, headers=headers, default=str)


async def _as_context(
    datasette: Datasette, request: Request, place: Place, question: Question, found: Found
) -> dict[str, Any]:
    database = place.database

    def shown(picture: dict[str, Any]) -> dict[str, Any]:
        folder, _, name = str(picture["path"]).rpartition("/")
        return {
            **picture,
            "name": name,
            "folder": folder,
            "row_url": datasette.urls.row(database.name, place.table, str(picture["id"])),
            "thumbnail_url": _thumbnail_of(datasette, place, picture),
            "like_url": page_url(datasette, database, **question.about(picture["id"])),
        }

    parameters = question.parameters()
    more_k = min(2 * question.k, CONFIG.max_results_per_page)
    more = len(found.pictures) == question.k < more_k
    return {
        **await _form(place),
        "question": question,
        "count": found.count,
        "asked": found.asked and shown(found.asked),
        "pictures": [shown(picture) for picture in found.pictures],
        "sql_url": await _sql_url(datasette, request.actor, database.name, question),
        "json_url": f"{page_url(datasette, database)}.json?{urlencode(parameters)}",
        "more_url": more and page_url(datasette, database, **question.parameters(k=more_k)),
    }


async def _form(place: Place) -> dict[str, Any]:
    """Returns what the form offers besides words."""
    from ..models.image_encoder import takes_pictures

    def offered(connection: sqlite3.Connection) -> dict[str, Any]:
        takes = takes_pictures(connection, place.model)
        return {"models": models(connection), "takes_pictures": takes}

    offers = await look_up(place.database, offered)
    return {**offers, "max_picture_bytes": CONFIG.max_query_image_bytes}


async def _sql_url(
    datasette: Datasette, actor: Actor, database: str, question: Question
) -> str | None:
    if question.value is None or not await versions.may_execute_sql(datasette, actor, database):
        return None
    # Datasette's named parameters are text.
    asked = "cast(:like as integer)" if question.like is not None else ":q"
    if isinstance(question.value, bytes):
        asked = f"x'{question.value.hex()}'"
    of = ", :model" if question.model else ""
    sql = f"select rank, id, path, score from clip_search({asked}, {question.k}{of})"
    parameters = {"q": question.q, "like": question.like, "model": question.model}
    given = {name: value for name, value in parameters.items() if value is not None}
    return versions.sql_url(datasette, database, sql, **given)


async def _html(
    datasette: Datasette,
    request: Request,
    place: Place | None,
    context: dict[str, Any],
    status: int = 200,
) -> Response:
    database = _database(datasette, request)
    context = {
        "database": database.name,
        "page_url": page_url(datasette, database),
        "model": place and place.model,
        "q": request.args.get("q") or "",
        **context,
    }
    html = await datasette.render_template("clip_search.html", context, request=request)
    return Response.html(html, status=status)


async def thumbnail(datasette: Datasette, request: Request) -> Response:
    """Serves the thumbnail of a picture."""
    image_id = int(request.url_vars["id"])
    try:
        place = await _place(datasette, request)
        found = await look_up(place.database, lambda conn: read_thumbnail(conn, image_id))
    except (ClipSearchError, QueryInterrupted, driver.Error) as error:
        raise NotFound(f"There is no thumbnail to show: {error}") from error
    if found is None:
        raise NotFound(f"There is no thumbnail of the picture {image_id}")
    etag = f'"{hashlib.sha256(found.data).hexdigest()[:32]}"'
    unchanged = etag in (request.headers.get("if-none-match") or "")
    headers = {
        # Who may see it can differ from visitor to visitor, so no shared cache may keep it.
        "Cache-Control": "private, max-age=3600",
        "Content-Security-Policy": "default-src 'none'",
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
    }
    if unchanged:
        return Response(b"", status=304, headers=headers, content_type=found.content_type)
    return Response(found.data, headers=headers, content_type=found.content_type)


_DATABASE = r"/-/clip-search/(?P<database>[^/.]+)"
ROUTES = [
    (r"/-/clip-search$", index_page),
    (_DATABASE + r"(?P<format>\.json)?$", search_page),
    (_DATABASE + r"/thumbnail/(?P<id>[0-9]{1,18})$", thumbnail),
]
