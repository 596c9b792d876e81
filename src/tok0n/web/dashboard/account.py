"""What a customer sees of the account: overview, keys, requests and their receipts, and the statement."""

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.accounts import KeyLimits
from tok0n.domain.errors import NotFound, OperatorError
from tok0n.domain.history import RequestFilter
from tok0n.domain.ledger import US_AN_HOUR, RequestStatus
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports import Accounts, Clock, History
from tok0n.services.catalogue import Catalogue
from tok0n.services.issue_key import issue_key
from tok0n.services.signing import Refused
from tok0n.web.charts import stacked_hours
from tok0n.web.dashboard.visit import Site, Visit

ROWS_A_PAGE = 50
ROWS_ON_OVERVIEW = 8
HOURS_PLOTTED = 48
US_A_DAY = 24 * US_AN_HOUR


class AccountPages:
    """The pages behind a sign-in. Every query names the visitor's own account."""

    def __init__(self, *, accounts: Accounts, history: History, catalogue: Catalogue, clock: Clock) -> None:
        self._accounts = accounts
        self._history = history
        self._catalogue = catalogue
        self._clock = clock

    def routes(self, site: Site) -> list[Route]:
        """The routes."""
        both = ["GET", "POST"]
        return [
            Route("/dashboard", site.page(self._overview, private=True)),
            Route("/dashboard/keys", site.page(self._keys, private=True), methods=both),
            Route("/dashboard/keys/{key}/revoke", site.page(self._revoke, private=True), methods=both),
            Route("/dashboard/requests", site.page(self._requests, private=True)),
            Route("/dashboard/requests/{request}", site.page(self._request, private=True)),
            Route("/dashboard/statement", site.page(self._statement, private=True)),
        ]

    async def _overview(self, visit: Visit) -> Response:
        account_id = visit.account_id
        until_hour = self._clock.now_us() // US_AN_HOUR + 1
        since_hour = until_hour - HOURS_PLOTTED
        balance = await self._history.balance(account_id)
        hours = await self._history.hours(account_id, since_hour=since_hour, until_hour=until_hour)
        spent = await self._history.key_spent(account_id)
        latest = await self._history.requests(account_id, RequestFilter(), before=None, rows_max=ROWS_ON_OVERVIEW)
        return visit.page(
            "overview.html",
            balance=balance,
            spent=sum(spent.values()),
            chart=stacked_hours(hours, since_hour=since_hour, until_hour=until_hour),
            requests=latest,
            has_keys=bool(await self._keys_of(visit)),
            models=self._catalogue.listed(),
        )

    async def _keys(self, visit: Visit) -> Response:
        if not visit.is_post:
            return await self._key_list(visit, refused=None)
        try:
            limits = self._limits(visit)
            name = visit.form.get("name", "").strip() or "unnamed"
            issued = await issue_key(self._accounts, self._clock, email=_email(visit), name=name, limits=limits)
        except Refused as refused:
            return await self._key_list(visit, refused=refused, status=422)
        except OperatorError as error:
            return await self._key_list(visit, refused=Refused(error.message, field="name"), status=422)
        return visit.page("key_made.html", key=issued.key, secret=issued.secret, models=self._catalogue.listed())

    async def _key_list(self, visit: Visit, *, refused: Refused | None, status: int = 200) -> Response:
        return visit.page(
            "keys.html",
            status=status,
            keys=await self._keys_of(visit),
            spent=await self._history.key_spent(visit.account_id),
            models=self._catalogue.listed(),
            form=visit.form,
            refused=refused,
            now_us=self._clock.now_us(),
        )

    async def _revoke(self, visit: Visit) -> Response:
        try:
            key = await self._history.key(visit.account_id, visit.request.path_params["key"])
        except NotFound as error:
            raise HTTPException(404, error.message) from None
        if not visit.is_post:
            return visit.page("key_revoke.html", key=key)
        await self._accounts.revoke_key(key_id=key.id, now_us=self._clock.now_us())
        return visit.redirect("/dashboard/keys")

    async def _requests(self, visit: Visit) -> Response:
        chosen = RequestFilter(
            model=visit.query("model") or None,
            api_key_id=visit.query("key") or None,
            status=_status(visit.query("status")),
        )
        if searched := visit.query("id").strip():
            return visit.redirect(f"/dashboard/requests/{searched}")
        rows = await self._history.requests(
            visit.account_id, chosen, before=visit.query("before") or None, rows_max=ROWS_A_PAGE + 1
        )
        query = {name: visit.query(name) for name in ("model", "key", "status") if visit.query(name)}
        return visit.page(
            "requests.html",
            requests=rows[:ROWS_A_PAGE],
            older=rows[ROWS_A_PAGE - 1].id if len(rows) > ROWS_A_PAGE else None,
            query=query,
            keys=await self._keys_of(visit),
            models=self._catalogue.listed(),
            statuses=[status.lower() for status in RequestStatus],
        )

    async def _request(self, visit: Visit) -> Response:
        try:
            record = await self._history.request(visit.account_id, visit.request.path_params["request"])
        except NotFound:
            return visit.page(
                "message.html",
                status=404,
                title="There is no such request",
                text="No request of this account has this id. It is the x-request-id of an answer.",
            )
        return visit.page("request.html", record=record)

    async def _statement(self, visit: Visit) -> Response:
        before = visit.query("before")
        rows = await self._history.entries(
            visit.account_id, before=int(before) if before.isdecimal() else None, rows_max=ROWS_A_PAGE + 1
        )
        return visit.page(
            "statement.html",
            balance=await self._history.balance(visit.account_id),
            entries=rows[:ROWS_A_PAGE],
            older=rows[ROWS_A_PAGE - 1].id if len(rows) > ROWS_A_PAGE else None,
        )

    async def _keys_of(self, visit: Visit) -> list[msgspec.Struct]:
        return list(await self._accounts.list_keys(_email(visit)))

    def _limits(self, visit: Visit) -> KeyLimits:
        """What the form says that a key may do. Raises `Refused`."""
        days = _count(visit, "days", most=36_500)
        model = visit.form.get("model", "")
        if model and self._catalogue.find(model) is None:
            raise Refused("There is no such model now.", field="model")
        return KeyLimits(
            expires_at_us=None if days is None else self._clock.now_us() + days * US_A_DAY,
            budget=_count(visit, "budget", most=TOKENS_MAX),
            models=(model,) if model else None,
        )


def _email(visit: Visit) -> str:
    assert visit.session is not None
    return visit.session.email


def _count(visit: Visit, field: str, *, most: int) -> int | None:
    text = visit.form.get(field, "").strip().replace(",", "").replace("_", "")
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text[:20]) <= most:
        raise Refused(f"Write a whole number from 1 to {most:,}, or leave it empty.", field=field)
    return int(text)


def _status(word: str) -> RequestStatus | None:
    try:
        return RequestStatus(word.upper())
    except ValueError:
        return None
