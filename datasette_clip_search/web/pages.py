"""The search page, its JSON, and the list of databases that can be searched."""

import logging
import sqlite3
from typing import Any
from urllib.parse import urlencode

from datasette import Forbidden, NotFound, Response
from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.utils import add_cors_headers
from datasette.utils.asgi import Request
from datasette.utils.sqlite import sqlite3 as driver

from ..common.config import CONFIG
from ..common.errors import (
    ClipSearchError,
    EncoderUnavailable,
    NoEmbeddings,
    QueryError,
    TookTooLong,
)
from ..database.model import models
from . import datasette_versions as versions
from .access import Place, place_for, requested_database, requested_place
from .addresses import page_url, thumbnail_url
from .answer import Answer, answer_question, count_pictures, question_with_picture
from .datasette_versions import Actor
from .lookup import look_up
from .question import Question, read_question
from .upload import UploadRefused, received

log = logging.getLogger(__name__)


async def index_page(datasette: Datasette, request: Request) -> Response:
    """List the databases that can be searched, or redirect to the only one."""
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
    """Show the pictures nearest to a query, as a page or as JSON.

    Only the JSON takes a picture, in the body of a POST request.
    """
    as_json, place = bool(request.url_vars["format"]), None
    try:
        place = await requested_place(datasette, request)
        question = await _question(request, place)
        if as_json and question.value is None:
            raise QueryError(
                "Say what to search for: q=WORDS, like=ID for a picture of this database, or a "
                "picture in the body of a POST request"
            )
        found = await answer_question(place.database, place.table, place.model, question)
        if as_json:
            return _json(datasette, _as_json(datasette, request, place, question, found))
        context = await _as_context(datasette, request, place, question, found)
        return await _html(datasette, request, place, context)
    except (Forbidden, NotFound) as error:
        if not as_json:
            # Datasette has pages for these, which a plugin may turn into a login.
            raise
        message, status = str(error), 404
        if isinstance(error, Forbidden):
            message, status = (
                "You may not view the pictures of this database",
                403,
            )
    except UploadRefused as error:
        message, status = str(error), error.status
    except EncoderUnavailable as error:
        # Its advice is for the person who runs the server.
        message, status = f"For the administrator of this site: {error}", 400
        if request.args.get("q"):
            message = f"Search by words is not available here, only by pictures. {message}"
    except ClipSearchError as error:
        message, status = str(error), _STATUS.get(type(error), 400)
    except QueryInterrupted:
        # Datasette's permission checks query the database.
        message, status = "Reading this database takes longer than the time limit here", 503
    except driver.Error as error:
        message, status = f"This database can't be searched: {error}", 500
        log.warning("%s can't be searched: %s", request.url_vars["database"], error)
    except Exception:
        log.exception("A search failed")
        message, status = "The search failed. The reason is in the log of the server", 500
    if as_json:
        return _json(datasette, {"ok": False, "error": message}, status)
    # After an unexpected error, reading the database again may fail too.
    form = await _form(place) if place and status != 500 else {}
    return await _html(datasette, request, place, {**form, "error": message}, status)


_STATUS: dict[type[ClipSearchError], int] = {NoEmbeddings: 404, TookTooLong: 503}


async def _question(request: Request, place: Place) -> Question:
    names = ("q", "like", "vector", "model", "k")
    question = read_question(place.model, *(request.args.get(name) for name in names))
    if request.method != "POST":
        return question
    if question.value is not None:
        raise QueryError("Send either a picture, or one of q, like and vector, but not both")
    async with received(request) as data:
        # Only a hint: visitors behind a proxy share one address.
        sender = str((request.scope.get("client") or ["?"])[0])
        return await question_with_picture(place.database, place.model, question, data, sender)


def _thumbnail_of(datasette: Datasette, place: Place, picture: dict[str, Any]) -> str | None:
    if not picture["has_thumbnail"]:
        return None
    return thumbnail_url(datasette, place.database, picture["id"])


def _as_json(
    datasette: Datasette, request: Request, place: Place, question: Question, found: Answer
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
    # `default`, because in a table that someone has changed a path or a date may be a blob.
    return Response.json(body, status=status, headers=headers, default=str)


async def _as_context(
    datasette: Datasette, request: Request, place: Place, question: Question, found: Answer
) -> dict[str, Any]:
    database = place.database

    def with_urls(picture: dict[str, Any]) -> dict[str, Any]:
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
        "asked": found.asked and with_urls(found.asked),
        "pictures": [with_urls(picture) for picture in found.pictures],
        "sql_url": await _sql_url(datasette, request.actor, database.name, question),
        "json_url": f"{page_url(datasette, database)}.json?{urlencode(parameters)}",
        "more_url": more and page_url(datasette, database, **question.parameters(k=more_k)),
    }


async def _form(place: Place) -> dict[str, Any]:
    """Return the values that the form needs: the models, and whether it accepts pictures."""
    from ..models.queries.picture_encoder import takes_pictures

    def read(connection: sqlite3.Connection) -> dict[str, Any]:
        takes = takes_pictures(connection, place.model)
        return {"models": models(connection), "takes_pictures": takes}

    form = await look_up(place.database, read)
    return {**form, "max_picture_bytes": CONFIG.max_query_image_bytes}


async def _sql_url(
    datasette: Datasette, actor: Actor, database: str, question: Question
) -> str | None:
    if question.value is None or not await versions.may_execute_sql(datasette, actor, database):
        return None
    # Datasette passes named parameters as text.
    asked = "cast(:like as integer)" if question.like is not None else ":q"
    if isinstance(question.value, bytes):
        asked = f"x'{question.value.hex()}'"
    of = ", :model" if question.model else ""
    sql = f"select rank, id, path, score from clip_search({asked}, {question.k}{of})"
    parameters = {"q": question.q, "like": question.like, "model": question.model}
    bound = {name: value for name, value in parameters.items() if value is not None}
    return versions.sql_url(datasette, database, sql, **bound)


async def _html(
    datasette: Datasette,
    request: Request,
    place: Place | None,
    context: dict[str, Any],
    status: int = 200,
) -> Response:
    database = requested_database(datasette, request)
    context = {
        "database": database.name,
        "page_url": page_url(datasette, database),
        "model": place and place.model,
        "q": request.args.get("q") or "",
        **context,
    }
    html = await datasette.render_template("clip_search.html", context, request=request)
    return Response.html(html, status=status)
