"""What a new user does first: the checklist and the time zone on the overview, and the first request with a new key."""

import contextlib
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.accounts import ApiKey
from tok0n.domain.history import RequestFilter, RequestRecord
from tok0n.domain.ledger import STANDARD, RequestStatus
from tok0n.domain.rejections import RejectedRequest
from tok0n.domain.users import Hint
from tok0n.services.api_keys import IssuedKey
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import POST, page_route
from tok0n.web.rendering.snippets import snippets_of, with_key

POLLS_MAX = 150
"""How often the page of a new key looks for the first request, every 2 seconds."""

_OVERVIEW = "/dashboard"


def first_step_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes behind the hints on the overview and the page of a new key."""
    pages = _FirstStepPages(dashboard)
    return [
        page_route(context, "/dashboard/hints", pages.dismiss, methods=POST),
        page_route(context, "/dashboard/time-zone", pages.set_time_zone, methods=POST),
        page_route(context, "/dashboard/keys/{key}/first-request", pages.first_request),
    ]


async def find_first_request(
    dashboard: DashboardContext, key: ApiKey
) -> tuple[RequestRecord | None, RejectedRequest | None]:
    """Return the newest request with a key that was just created. Without one, return the newest rejected request."""
    history, filters = dashboard.history, RequestFilter(api_key_id=key.id, since_us=key.created_at_us)
    requests = await history.requests(key.account_id, filters, before=None, rows_max=1)
    if requests:
        return requests[0], None
    rejected = await history.rejected_requests(key.account_id, filters, before=None, rows_max=1)
    return None, rejected[0] if rejected else None


async def issued_key_context(dashboard: DashboardContext, page: PageRequest, issued: IssuedKey) -> dict[str, Any]:
    """Return the template variables of the page with a new key: code that uses it, its balance and first request."""
    key, catalogue = issued.key, dashboard.catalogue
    snippets = snippets_of(catalogue, page.context.base_url, allowed=key.limits.models)
    balances = await dashboard.history.wallets(page.account_id)
    record, rejected = await find_first_request(dashboard, key)
    return {
        "snippets": [with_key(snippet, issued.secret or "") for snippet in snippets],
        "has_tokens": any(balance.available > 0 for balance in balances.values()),
        "token_source": await dashboard.token_sources.find(),
        "first_request": record,
        "rejected": rejected,
        "polls": 0,
        "is_waiting": record is None or record.status is RequestStatus.PENDING,
        "balance": balances.get(STANDARD if record is None else record.token_class),
    }


class _FirstStepPages:
    def __init__(self, dashboard: DashboardContext) -> None:
        self._dashboard = dashboard

    async def dismiss(self, page: PageRequest) -> Response:
        """Hide a hint of the overview for good."""
        hint = page.form.get("hint", "")
        if hint in set(Hint):
            await self._dashboard.users.dismiss_hint(Hint(hint), user_id=page.session.user_id)
        return page.redirect(_OVERVIEW)

    async def set_time_zone(self, page: PageRequest) -> Response:
        """Set the time zone that the browser reports. Doesn't ask again."""
        with contextlib.suppress(FormError):  # A script fills in the field, and the settings have a list of zones.
            await self._dashboard.profile.set_time_zone(page.session, page.form.get("time_zone", ""))
        await self._dashboard.users.dismiss_hint(Hint.TIME_ZONE, user_id=page.session.user_id)
        return page.redirect(_OVERVIEW)

    async def first_request(self, page: PageRequest) -> Response:
        """Return the part of the key's page that waits for the first request. Without htmx, list the key's requests."""
        key_id = page.request.path_params["key"]
        key = await self._dashboard.api_keys.get(account_id=page.account_id, key_id=key_id)
        if "hx-request" not in page.request.headers:
            return page.redirect(f"/dashboard/requests?key={key.id}")
        record, rejected = await find_first_request(self._dashboard, key)
        polls = page.query("polls")
        count = int(polls) if polls.isascii() and polls.isdecimal() and len(polls) <= len(str(POLLS_MAX)) else POLLS_MAX
        return page.render(
            "first_request.html",
            key=key,
            first_request=record,
            rejected=rejected,
            token_source=await self._dashboard.token_sources.find(),
            polls=count + 1,
            is_waiting=count < POLLS_MAX and (record is None or record.status is RequestStatus.PENDING),
            balance=(await self._dashboard.history.wallets(page.account_id)).get(
                STANDARD if record is None else record.token_class
            ),
        )
