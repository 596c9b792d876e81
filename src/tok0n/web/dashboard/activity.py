"""The activity log: who changed a key or the account, and what. It never has a secret."""

import functools
import json
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.key_edits import Activity
from tok0n.domain.table_text import utc_time
from tok0n.web.dashboard.dashboard_context import DashboardContext, before_id, fetch_rows
from tok0n.web.rendering import csv
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route

_TIMES = {"expires_at", "revoked_at"}
"""The members that are times."""

_COLUMNS = ("id", "created_at", "actor", "action", "api_key_id", "key_name", "before", "after")
_ACTIONS = {
    "key_created": "Created",
    "key_edited": "Edited",
    "key_rotated": "Rotated",
    "key_revoked": "Revoked",
    "account_suspended": "Account suspended",
    "account_reopened": "Account reopened",
}


class ChangedMember(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a key or the account that changed, in words."""

    name: str
    before: str
    after: str


def activity_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of the activity log and its CSV."""

    async def activity(page: PageRequest) -> Response:
        fetch = functools.partial(dashboard.history.activity, page.account_id)
        page_rows = await fetch_rows(fetch, before=before_id(page))
        changes = {row.id: changes_of(row) for row in page_rows["rows"]}
        return page.render("activity.html", actions=_ACTIONS, changes=changes, **page_rows)

    async def export(page: PageRequest) -> Response:
        return csv.export("activity", _COLUMNS, functools.partial(dashboard.history.activity, page.account_id), _values)

    return [
        page_route(context, "/dashboard/activity", activity),
        page_route(context, "/dashboard/activity.csv", export),
    ]


def changes_of(row: Activity) -> list[ChangedMember]:
    """Return what changed. A new key has only what is not the default."""
    return [
        ChangedMember(
            name=name.replace("_", " "), before=_member(name, row.before.get(name)), after=_member(name, value)
        )
        for name, value in row.after.items()
        if row.before or not (value is True or value in (None, "", []))
    ]


def _values(row: Activity) -> tuple[object, ...]:
    change = (row.actor, row.action, row.api_key_id, row.key_name, json.dumps(row.before), json.dumps(row.after))
    return (row.id, utc_time(row.created_at_us), *change)


def _member(name: str, value: Any) -> str:
    """Return the value of a member in words."""
    return _time(value) if name in _TIMES and isinstance(value, str) else _text(value)


def _time(value: str) -> str:
    return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M} UTC"


def _text(value: Any) -> str:
    """Return a value in words."""
    match value:
        case None | "" | []:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_text, value))
        case {"tokens": tokens, "period": period}:
            return f"{tokens:,}/{period}" + (f":{value['token_class']}" if value.get("token_class") else "")
        case {"secret": secret, "ends_at": ends_at}:
            return str(secret) if ends_at is None else f"{secret} (ends {_time(ends_at)})"
        case _:
            return str(value)
