"""GET /v1/key, /v1/balance and /v1/requests/{id}: read an account with its API key."""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n.api.account_bodies import Balance, Budget, ClassBalance, Key, Receipt, ReceiptUsage
from tok0n.api.endpoint import rate_headers
from tok0n.api.errors import error_response
from tok0n.api.routes import error
from tok0n.domain.accounts import Caller
from tok0n.domain.client_ip import ClientAddresses
from tok0n.domain.errors import NotFound, Tok0nError
from tok0n.domain.history import BudgetUse, RequestRecord
from tok0n.domain.ledger import STANDARD
from tok0n.domain.token_classes import TokenClasses
from tok0n.http.message import Headers
from tok0n.ports.accounts import History
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter
from tok0n.services.caller_cache import CallerCache

ReadBody = Callable[[Request, Caller], Awaitable[msgspec.Struct]]


def account_routes(
    caller_cache: CallerCache,
    limiter: Limiter,
    history: History,
    addresses: ClientAddresses,
    clock: Clock,
    token_classes: TokenClasses,
) -> list[Route]:
    """Return the routes. Each one reads only the account of the API key in the request, from an allowed network."""

    async def key(_: Request, caller: Caller) -> Key:
        key = await history.key(caller.account_id, caller.api_key_id)
        uses = await history.budget_uses(caller.account_id, key.id, now_us=clock.now_us())
        spent = (await history.key_spent(caller.account_id, api_key_id=key.id)).get(key.id, 0)
        expires_at_us = key.limits.expires_at_us
        return Key(
            id=key.id,
            name=key.name,
            shown_as=key.shown_as,
            created_at=key.created_at_us // 1_000_000,
            expires_at=None if expires_at_us is None else expires_at_us // 1_000_000,
            models=key.limits.models,
            budget=key.limits.total_budget,
            spent=spent,
            budgets=tuple(map(_budget, uses)),
        )

    async def balance(_: Request, caller: Caller) -> Balance:
        wallets = token_classes.wallets(await history.wallets(caller.account_id))
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

    async def receipt(request: Request, caller: Caller) -> Receipt:
        return _receipt(await history.request(caller.account_id, request.path_params["request_id"]))

    def route(path: str, read_body: ReadBody) -> Route:
        async def endpoint(request: Request) -> Response:
            client_ip = addresses.client(
                request.client.host if request.client else "", request.headers.getlist("x-forwarded-for")
            )
            return await _respond(request, read_body, caller_cache, limiter, client_ip=client_ip)

        return Route(path, endpoint, methods=["GET"])

    return [route("/v1/key", key), route("/v1/balance", balance), route("/v1/requests/{request_id}", receipt)]


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
        ended=record.ended,
        created_at=record.created_at_us / 1_000_000,
        resolved_at=None if record.resolved_at_us is None else record.resolved_at_us / 1_000_000,
    )


async def _respond(
    request: Request, read_body: ReadBody, caller_cache: CallerCache, limiter: Limiter, *, client_ip: str
) -> Response:
    authorization = request.headers.get("authorization")
    try:
        caller = await caller_cache.authenticate_now(None if authorization is None else authorization.encode("latin-1"))
        caller.check_network(client_ip)
        body = await read_body(request, caller)
    except NotFound as missing:
        return error("not_found", missing.message)
    except Tok0nError as failure:
        rendered = error_response(failure)
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
