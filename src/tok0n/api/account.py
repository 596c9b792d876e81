"""GET /v1/key, /v1/balance, /v1/requests, /v1/requests/{id} and /v1/usage: read an account with its API key."""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n.api.account_bodies import (
    Balance,
    Budget,
    ClassBalance,
    DayUsage,
    Key,
    Receipt,
    ReceiptUsage,
    RejectedReceipt,
    RequestList,
    UsageList,
)
from tok0n.api.account_queries import day_of, read_request_query, read_usage_query
from tok0n.api.endpoint import rate_headers
from tok0n.api.errors import error_response
from tok0n.api.routes import error
from tok0n.domain.accounts import Caller
from tok0n.domain.client_ip import ClientAddresses
from tok0n.domain.errors import NotFound, Tok0nError
from tok0n.domain.history import BudgetUse, DayOfUse, RequestRecord, UseBy, UseFilter
from tok0n.domain.ledger import STANDARD
from tok0n.domain.rejections import RejectedRequest
from tok0n.domain.token_classes import TokenClasses
from tok0n.http.message import Headers
from tok0n.ports.accounts import History
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter
from tok0n.services.call import Call
from tok0n.services.caller_cache import CallerCache
from tok0n.services.rejections import Rejections
from tok0n.services.request_history import HistoryEntry, RequestHistory

ReadBody = Callable[[Request, Caller], Awaitable[msgspec.Struct]]


def account_routes(
    caller_cache: CallerCache,
    limiter: Limiter,
    history: History,
    token_classes: TokenClasses,
    addresses: ClientAddresses,
    clock: Clock,
    rejections: Rejections | None,
) -> list[Route]:
    """Return the routes. Each one reads only the account of the API key in the request, from an allowed network."""
    bodies = _Bodies(history, token_classes, clock)

    def route(path: str, read_body: ReadBody) -> Route:
        async def endpoint(request: Request) -> Response:
            client_ip = addresses.client(
                request.client.host if request.client else "", request.headers.getlist("x-forwarded-for")
            )
            return await _respond(request, read_body, caller_cache, limiter, rejections, client_ip=client_ip)

        return Route(path, endpoint, methods=["GET"])

    return [
        route("/v1/key", bodies.key),
        route("/v1/balance", bodies.balance),
        route("/v1/requests", bodies.requests),
        route("/v1/requests/{request_id}", bodies.receipt),
        route("/v1/usage", bodies.usage),
    ]


class _Bodies:
    """Reads the body of each response, for the account of a caller."""

    def __init__(self, history: History, token_classes: TokenClasses, clock: Clock) -> None:
        self._history = history
        self._request_history = RequestHistory(history)
        self._token_classes = token_classes
        self._clock = clock

    async def key(self, _: Request, caller: Caller) -> Key:
        key = await self._history.key(caller.account_id, caller.api_key_id)
        uses = await self._history.budget_uses(caller.account_id, key.id, now_us=self._clock.now_us())
        used = await self._history.totals(caller.account_id, UseFilter(api_key_id=key.id))
        expires_at_us = key.limits.expires_at_us
        return Key(
            id=key.id,
            name=key.name,
            shown_as=key.shown_as,
            created_at=key.created_at_us // 1_000_000,
            expires_at=None if expires_at_us is None else expires_at_us // 1_000_000,
            models=key.limits.models,
            budget=key.limits.total_budget,
            spent=used.charged,
            budgets=tuple(map(_budget, uses)),
        )

    async def balance(self, _: Request, caller: Caller) -> Balance:
        wallets = self._token_classes.wallets(await self._history.wallets(caller.account_id))
        standard = next(wallet.balance for wallet in wallets if wallet.token_class == STANDARD)
        return Balance(
            posted=standard.posted,
            pending=standard.pending,
            available=standard.available,
            classes=[
                ClassBalance(
                    token_class=wallet.token_class,
                    title=wallet.title,
                    posted=wallet.balance.posted,
                    pending=wallet.balance.pending,
                    available=wallet.balance.available,
                )
                for wallet in wallets
            ],
        )

    async def receipt(self, request: Request, caller: Caller) -> Receipt | RejectedReceipt:
        return _entry(await self._request_history.find(caller.account_id, request.path_params["request_id"]))

    async def requests(self, request: Request, caller: Caller) -> RequestList:
        query = read_request_query(request.query_params)
        entries = await self._request_history.newest(
            caller.account_id, query.filters, before=query.after, rows_max=query.limit + 1
        )
        page = entries[: query.limit]
        return RequestList(
            data=[_entry(entry) for entry in page],
            has_more=len(entries) > len(page),
            last_id=page[-1].id if page else None,
        )

    async def usage(self, request: Request, caller: Caller) -> UsageList:
        query = read_usage_query(request.query_params, now_us=self._clock.now_us())
        days = await self._history.daily_use(
            caller.account_id, by=query.by, first_day=query.first_day, until_day=query.until_day
        )
        return UsageList(data=[_day_usage(day, query.by) for day in days])


def _budget(use: BudgetUse) -> Budget:
    budget, resets_at_us = use.budget, use.resets_at_us
    return Budget(
        tokens=budget.tokens,
        period=budget.period,
        token_class=budget.token_class,
        spent=use.spent,
        pending=use.pending,
        resets_at=None if resets_at_us is None else resets_at_us // 1_000_000,
    )


def _entry(entry: HistoryEntry) -> Receipt | RejectedReceipt:
    return _receipt(entry) if isinstance(entry, RequestRecord) else _rejected_receipt(entry)


def _rejected_receipt(rejected: RejectedRequest) -> RejectedReceipt:
    return RejectedReceipt(
        id=rejected.id,
        api_key_id=rejected.api_key_id,
        model=rejected.model,
        http_status=rejected.http_status,
        code=rejected.code,
        param=rejected.param,
        message=rejected.message,
        endpoint=rejected.endpoint,
        created_at=rejected.created_at_us / 1_000_000,
    )


def _day_usage(use: DayOfUse, by: UseBy | None) -> DayUsage:
    return DayUsage(
        day=day_of(use.day),
        model=use.series if by is UseBy.MODEL else None,
        api_key_id=use.series if by is UseBy.KEY else None,
        requests=use.totals.requests,
        prompt_tokens=use.totals.prompt_tokens,
        completion_tokens=use.totals.completion_tokens,
        charged=use.totals.charged,
    )


def _receipt(record: RequestRecord) -> Receipt:
    usage = None
    if record.total_tokens is not None:
        assert record.prompt_tokens is not None
        assert record.completion_tokens is not None
        usage = ReceiptUsage(
            prompt_tokens=record.prompt_tokens,
            completion_tokens=record.completion_tokens,
            total_tokens=record.total_tokens,
            details=record.details,
        )
    return Receipt(
        id=record.id,
        api_key_id=record.api_key_id,
        model=record.model,
        status=record.status.lower(),
        billed=record.is_billed,
        code=record.code,
        reserved=record.reserved,
        charged=record.charged,
        released=record.released,
        usage=usage,
        upstream_ms=record.upstream_ms,
        endpoint=record.endpoint,
        stream=record.is_stream,
        first_event_ms=record.first_event_ms,
        ended=record.stream_end,
        created_at=record.created_at_us / 1_000_000,
        resolved_at=None if record.resolved_at_us is None else record.resolved_at_us / 1_000_000,
    )


async def _respond(
    request: Request,
    read_body: ReadBody,
    caller_cache: CallerCache,
    limiter: Limiter,
    rejections: Rejections | None,
    *,
    client_ip: str,
) -> Response:
    call: Call = request.state.call
    authorization = request.headers.get("authorization")
    try:
        caller = call.caller = await caller_cache.authenticate_now(
            None if authorization is None else authorization.encode("latin-1")
        )
        caller.check_network(client_ip)
        body = await read_body(request, caller)
    except NotFound as missing:
        return error("not_found", missing.message)
    except Tok0nError as failure:
        rendered = error_response(failure)
        if rejections is not None:
            rejections.add(call, failure, status=rendered.status)
        assert isinstance(rendered.body, bytes)
        return Response(rendered.body, rendered.status, _decoded(rendered.headers))
    response = Response(msgspec.json.encode(body), media_type="application/json")
    response.headers["cache-control"] = "no-store"
    try:
        rate = await limiter.state(caller)
    except Tok0nError:
        return response
    response.headers.update(_decoded(rate_headers(rate)))
    return response


def _decoded(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
