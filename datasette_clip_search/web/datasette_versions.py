"""The differences between Datasette 0.65 and 1.0, all in one place."""

from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette

Actor = dict[str, Any] | None


def _is_one(datasette: Datasette) -> bool:
    return hasattr(datasette, "allowed")


async def may_view_instance(datasette: Datasette, actor: Actor) -> bool:
    """Return whether the actor may view this Datasette at all."""
    if _is_one(datasette):
        return bool(await datasette.allowed(action="view-instance", actor=actor))
    return await _visible(datasette, actor, "view-instance")


async def may_view_database(datasette: Datasette, actor: Actor, database: str) -> bool:
    """Return whether the actor may view a database."""
    if _is_one(datasette):
        return await _allowed(datasette, actor, "view-database", database)
    return await _visible(datasette, actor, ("view-database", database), "view-instance")


async def may_view_table(datasette: Datasette, actor: Actor, database: str, table: str) -> bool:
    """Return whether the actor may view a table."""
    if _is_one(datasette):
        return await _allowed(datasette, actor, "view-table", database, table)
    return await _visible(
        datasette,
        actor,
        ("view-table", (database, table)),
        ("view-database", database),
        "view-instance",
    )


async def may_execute_sql(datasette: Datasette, actor: Actor, database: str) -> bool:
    """Return whether the actor may run their own SQL against a database."""
    if _is_one(datasette):
        return await _allowed(datasette, actor, "execute-sql", database)
    allowed = await datasette.permission_allowed(actor, "execute-sql", database, default=True)
    return bool(allowed) and await may_view_database(datasette, actor, database)


def sql_url(datasette: Datasette, database: str, sql: str, **parameters: object) -> str:
    """Return the address of Datasette's own page for a statement."""
    page = datasette.urls.database(database) + ("/-/query" if _is_one(datasette) else "")
    return f"{page}?{urlencode({'sql': sql, **parameters})}"


async def _allowed(datasette: Datasette, actor: Actor, action: str, *resource: str) -> bool:
    from datasette.resources import DatabaseResource, TableResource

    of = TableResource(*resource) if len(resource) == 2 else DatabaseResource(*resource)
    return bool(await datasette.allowed(action=action, resource=of, actor=actor))


async def _visible(datasette: Datasette, actor: Actor, *permissions: Any) -> bool:
    """Ask 0.65 for permissions from the most to the least specific; the first answer counts."""
    visible, _ = await datasette.check_visibility(actor, permissions=list(permissions))
    return bool(visible)
