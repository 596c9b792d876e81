"""Serve one request, from the API key to the charge.

The order of the steps is part of the contract (docs/billing.md). A step that fails raises one error. A reservation
is then released, but an admitted request still counts toward the rate of its key.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from tok0n.domain import ids
from tok0n.domain.accounts import Caller
from tok0n.domain.answers import Answer, read_answer
from tok0n.domain.budgets import periods_at
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint
from tok0n.domain.errors import (
    ADMISSION_EXPIRED,
    InsufficientTokens,
    InvalidApiKey,
    KeyBudgetSpent,
    KeyChanged,
    LimiterUnavailable,
    Overloaded,
    Tok0nError,
)
from tok0n.domain.json_text import JsonText
from tok0n.domain.ledger import NewReservation
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.token_classes import EMPTY, TokenClasses
from tok0n.ports.accounts import History
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter
from tok0n.ports.upstream import Upstream
from tok0n.services.call import Call
from tok0n.services.caller_cache import CallerCache, require_usable
from tok0n.services.relay import Relay, StreamedAnswer
from tok0n.services.request_reader import LARGE_BODY_BYTES, RequestReader
from tok0n.services.reservations import Reservation, Reservations
from tok0n.services.streams import Streams
from tok0n.services.token_sources import TokenSources

RANDOM_POOL_IDS = 256
"""How many request ids share one system call for random bytes."""

SETTLE_SECONDS_MAX = 60
"""How long after the upstream's deadline a row may stay PENDING.

A settlement that takes longer can find the row expired: the client then gets an error, and is not charged.
"""


KEY_CHANGES_MAX = 3
"""How often a key may change during one request. Each change starts the request again, before anything is sent."""

_ATTEMPTS = range(1 + KEY_CHANGES_MAX)
"""Made once, because every request iterates over it."""

OnStream = Callable[["asyncio.Task[Tok0nError | None]"], None]
"""Takes the task of a stream when it starts."""


class Pipeline:
    """Serves the requests of all endpoints."""

    def __init__(
        self,
        *,
        caller_cache: CallerCache,
        reader: RequestReader,
        history: History,
        token_classes: TokenClasses,
        token_sources: TokenSources,
        limiter: Limiter,
        reservations: Reservations,
        upstreams: Mapping[str, Upstream],
        streams: Streams,
        clock: Clock,
    ) -> None:
        self._caller_cache = caller_cache
        self.has_room = reservations.ledger.has_room
        """Whether a reservation can be queued now. Rejecting a request before reading it costs next to nothing."""
        self._reader = reader
        self._history = history
        self._token_classes = token_classes
        self._token_sources = token_sources
        self._limiter = limiter
        self._reservations = reservations
        self._upstreams = upstreams
        self._streams = streams
        self._clock = clock
        self._random_bytes: list[bytes] = []

    def new_call(self, endpoint_name: str, *, client_request_id: str | None = None) -> Call:
        """Start a call. Its request id is unique and sorts by time."""
        if not self._random_bytes:
            self._random_bytes = _random_pool()
        request_id = ids.request_id(self._clock.now_us(), self._random_bytes.pop())
        return Call(
            request_id=request_id,
            started_seconds=self._clock.monotonic(),
            endpoint=endpoint_name,
            client_request_id=client_request_id,
        )

    async def authenticate(self, call: Call, authorization: bytes | None) -> Caller:
        """Return the caller whose API key is in `authorization`. Raises as `CallerCache.authenticate`."""
        caller = call.caller = await self._caller_cache.authenticate(authorization)
        return caller

    def cached_caller(self, call: Call, authorization: bytes | None) -> Caller | None:
        """Return the caller without a query, or None: then call `authenticate`."""
        caller = call.caller = self._caller_cache.cached(authorization)
        return caller

    async def caller_of(self, *, account_id: str, key_id: str) -> Caller:
        """Return the caller of a key that a signed-in user chose. Raises `InvalidApiKey` or `AccountSuspended`."""
        caller = await self._history.caller(account_id, key_id)
        if caller is None or caller.has_expired(self._clock.now_us()):
            raise InvalidApiKey("This API key is no longer active.")
        require_usable(caller)
        return caller

    def check_access(self, endpoint: Endpoint, call: Call, caller: Caller) -> None:
        """Raise `KeyNotAllowed` unless the key may be used from the client's network and on the endpoint."""
        if caller.networks is not None:
            caller.check_network(call.client_ip)
        caller.check_endpoint(endpoint.listed_name, endpoint.path)

    async def find_rate(self, call: Call) -> None:
        """Set the rate state of a call that was not admitted, if its caller is known and the limiter responds."""
        if call.rate is None and call.caller is not None:
            with contextlib.suppress(Tok0nError):
                call.rate = await self._limiter.state(call.caller)

    def serve(
        self,
        endpoint: Endpoint,
        call: Call,
        caller: Caller,
        body: JsonText,
        *,
        headers: Mapping[bytes, bytes] = NO_HEADERS,
        on_admitted: Callable[[], None] | None = None,
        on_stream: OnStream | None = None,
    ) -> Awaitable[Answer | StreamedAnswer]:
        """Read, admit, reserve, call the upstream, settle. The charge of a whole answer is committed when this returns.

        Calls `on_admitted` once the limiter has admitted the request. Raises the errors of `domain.errors`, some of
        them before the first await. A stream continues after this returns, even if this is cancelled: `on_stream`
        gets its task when it starts. `headers` are the client's, by lower-case name. If the key changes meanwhile, the
        request starts again with the key as it is now, unless it is reserved already.
        """
        call.caller = caller
        if caller.networks is not None or caller.endpoints is not None:
            self.check_access(endpoint, call, caller)
        if len(body) > LARGE_BODY_BYTES:
            return self._serve_large(endpoint, call, caller, body, headers, on_admitted, on_stream)
        # Most bodies are small. They are read without the cost of a coroutine.
        request = self._reader.read_now(endpoint, body, headers)
        return self._serve_read(endpoint, call, caller, request, on_admitted, on_stream)

    async def _serve_large(
        self,
        endpoint: Endpoint,
        call: Call,
        caller: Caller,
        body: JsonText,
        headers: Mapping[bytes, bytes],
        on_admitted: Callable[[], None] | None,
        on_stream: OnStream | None,
    ) -> Answer | StreamedAnswer:
        request = await self._reader.read(endpoint, body, headers)
        return await self._serve_read(endpoint, call, caller, request, on_admitted, on_stream)

    def _serve_read(
        self,
        endpoint: Endpoint,
        call: Call,
        caller: Caller,
        request: MeteredRequest,
        on_admitted: Callable[[], None] | None,
        on_stream: OnStream | None,
    ) -> Awaitable[Answer | StreamedAnswer]:
        if caller.models is not None:
            caller.check_model(request.model.id)
        call.model = request.model.id
        call.upstream = request.route.upstream
        call.dropped = request.dropped
        upstream = self._upstreams[request.route.upstream]
        if request.stream is None:
            return self._admit_reserve_and_call(endpoint, call, caller, request, upstream, on_admitted, None)
        relay = self._streams.open(endpoint, call, request, upstream)
        request = msgspec.structs.replace(request, upstream_body=b"")  # the relay has it, and drops it once sent
        serving = self._admit_reserve_and_call(endpoint, call, caller, request, upstream, on_admitted, relay)
        task = asyncio.create_task(_serve_stream(relay, serving), name="stream")
        if on_stream is not None:
            on_stream(task)
        return relay.wait_until_begun(task)

    async def _admit_reserve_and_call(
        self,
        endpoint: Endpoint,
        call: Call,
        caller: Caller,
        request: MeteredRequest,
        upstream: Upstream,
        on_admitted: Callable[[], None] | None,
        relay: Relay | None,
    ) -> Answer:
        """Call the upstream with the slots of the limiter and the reserved tokens. With a relay, runs the stream."""
        for _ in _ATTEMPTS:
            try:
                async with self._limiter.admit(
                    caller, request_id=call.request_id, is_concurrent=endpoint.is_billed
                ) as admission:
                    call.rate = admission.rate
                    if on_admitted is not None:
                        on_admitted()
                    if request.inexact_texts:
                        request = await self._bound_exactly(caller, request)
                    new = self._new_reservation(endpoint, call, caller, request, upstream)
                    reservation = Reservation(self._reservations, new)
                    try:
                        async with reservation:
                            call.reserved = new.tokens
                            if not admission.is_still_valid():
                                raise LimiterUnavailable(detail=ADMISSION_EXPIRED)
                            call.find_client_ip = None  # A stream would keep the request in memory.
                            if relay is not None:
                                return await relay.run(reservation)
                            return await self._call_upstream(endpoint, call, request, upstream, reservation)
                    except (InsufficientTokens, KeyBudgetSpent) as error:
                        raise await self._with_advice(error, request, caller, now_us=new.created_at_us) from None
                    except KeyChanged:
                        await admission.undo()
                        raise
                    finally:
                        admission.dispatched = reservation.dispatched
            except KeyChanged:
                caller = await self._read_again(endpoint, call, caller, request)
        raise Overloaded(queue="requests", detail="the API key changed repeatedly during the request")

    async def _read_again(self, endpoint: Endpoint, call: Call, stale: Caller, request: MeteredRequest) -> Caller:
        """Return the caller of a key that has changed, if it still may do what the request asks for.

        Raises `InvalidApiKey`, `AccountSuspended` and `KeyNotAllowed`.
        """
        call.rate = None
        if stale.secret_digest is not None:
            caller = await self._caller_cache.read_again(stale)
        else:
            caller = await self.caller_of(account_id=stale.account_id, key_id=stale.api_key_id)
        call.caller = caller
        self.check_access(endpoint, call, caller)
        caller.check_model(request.model.id)
        return caller

    async def read(self, endpoint: Endpoint, body: JsonText) -> MeteredRequest:
        """Read and bound a request that is not sent yet. Raises `InvalidRequest` or `Overloaded`.

        Doesn't limit how often the account does this: the calling code must.
        """
        return await self._reader.with_exact_bound(await self._reader.read(endpoint, body))

    async def _bound_exactly(self, caller: Caller, request: MeteredRequest) -> MeteredRequest:
        """Compute an expensive bound if the account can pay for the least that it can be.

        Raises `InsufficientTokens` or `Overloaded`.
        """
        wallets = await self._history.wallets(caller.account_id)
        balance = wallets.get(request.model.token_class, EMPTY)
        if balance.available < request.bound:
            raise await self._insufficient(
                request,
                InsufficientTokens(
                    required=request.bound, posted=balance.posted, pending=balance.pending, largest_output_tokens=0
                ),
                is_class_named=self._token_classes.are_several(wallets),
            )
        return await self._reader.with_exact_bound(request)

    async def _with_advice(
        self, error: InsufficientTokens | KeyBudgetSpent, request: MeteredRequest, caller: Caller, *, now_us: int
    ) -> Tok0nError:
        """Add what the ledger doesn't know: the budget, or what the customer can do."""
        if isinstance(error, InsufficientTokens):
            return await self._insufficient(request, error, is_class_named=await self._is_class_named(caller))
        budget = next(budget for budget in caller.budgets if budget.id == error.budget_id)
        return KeyBudgetSpent(
            left=error.left,
            required=error.required,
            budget_id=error.budget_id,
            budget=budget.description,
            resets=budget.resets(now_us),
        )

    async def _insufficient(
        self, request: MeteredRequest, error: InsufficientTokens, *, is_class_named: bool
    ) -> InsufficientTokens:
        """Add the largest output limit that the account can pay for, how to get tokens, and perhaps their class."""
        token_class, advice = request.model.token_class, ""
        with contextlib.suppress(Tok0nError):  # The 402 is right without advice.
            advice = await self._token_sources.advice(token_class, is_named=is_class_named)
        return InsufficientTokens(
            required=error.required,
            posted=error.posted,
            pending=error.pending,
            largest_output_tokens=request.largest_output_tokens(error.available),
            limit_field=request.limit_field,
            token_class=token_class if is_class_named else None,
            advice=advice,
        )

    async def _is_class_named(self, caller: Caller) -> bool:
        """Whether a 402 names the token class, because the settings or the account have several."""
        wallets: Collection[str] = ()
        if not self._token_classes.are_several():
            with contextlib.suppress(Tok0nError):  # The 402 is right without the name.
                wallets = await self._history.wallets(caller.account_id)
        return self._token_classes.are_several(wallets)

    async def _call_upstream(
        self, endpoint: Endpoint, call: Call, request: MeteredRequest, upstream: Upstream, reservation: Reservation
    ) -> Answer:
        sent = self._clock.monotonic()
        try:
            reservation.dispatched = True
            response = await upstream.send(
                endpoint.upstream_path, request.upstream_body, headers=request.upstream_headers
            )
        finally:
            call.upstream_ms = round((self._clock.monotonic() - sent) * 1000)
        answer = read_answer(
            endpoint,
            response.status,
            response.body,
            request=request,
            scrub=upstream.scrub,
            retry_after_seconds=response.retry_after_seconds,
        )
        if endpoint.is_billed:
            call.receipt = await reservation.settle(answer.usage, upstream_ms=call.upstream_ms)
        else:
            await reservation.release_unbilled()
        return answer

    def _new_reservation(
        self, endpoint: Endpoint, call: Call, caller: Caller, request: MeteredRequest, upstream: Upstream
    ) -> NewReservation:
        now_us = self._clock.now_us()
        token_class = request.model.token_class
        is_stream = request.stream is not None
        lifetime_seconds = (upstream.stream_seconds if is_stream else upstream.timeout_seconds) + SETTLE_SECONDS_MAX
        return NewReservation(
            request_id=call.request_id,
            account_id=caller.account_id,
            api_key_id=caller.api_key_id,
            model=request.model.id,
            tokens=request.bound,
            created_at_us=now_us,
            expires_at_us=now_us + round(lifetime_seconds * 1_000_000),
            token_class=token_class,
            key_version=caller.key_version,
            periods=periods_at(caller.budgets, token_class, now_us) if caller.budgets else (),
            is_stream=is_stream,
            endpoint=endpoint.name,
        )


async def _serve_stream(relay: Relay, serving: Awaitable[Answer]) -> Tok0nError | None:
    """Serve a stream in a task of its own, because the client may leave. Returns the error that the client got."""
    try:
        await serving
    except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001  the client gets the error
        return relay.end_response(raised)
    return relay.end_response(None)


def _random_pool() -> list[bytes]:
    """Return the random bytes of the next ids. A system call for each id would release the interpreter's lock."""
    pool = os.urandom(RANDOM_POOL_IDS * ids.RANDOM_BYTES)
    return [pool[start : start + ids.RANDOM_BYTES] for start in range(0, len(pool), ids.RANDOM_BYTES)]
