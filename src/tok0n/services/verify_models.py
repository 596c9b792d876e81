"""Verify with tiny real requests that a model responds on each of its endpoints and reports usage that can be charged.

An endpoint that passes is then verified with a stream, if models may stream on it (`verify_streams`). Each request is
bounded, sent and read like a customer's, and counts toward the global limit.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from tok0n.domain import ids
from tok0n.domain.answer_json import decode
from tok0n.domain.answers import Answer, read_answer
from tok0n.domain.catalogue import (
    VERIFICATION_RETRY_OUTPUT_TOKENS,
    EndpointCheck,
    Model,
    ModelState,
    Route,
    StreamCheck,
    Verification,
)
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import (
    ADMISSION_EXPIRED,
    LimiterUnavailable,
    RejectedByUpstream,
    Tok0nError,
    UpstreamFailed,
)
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.usage import Usage
from tok0n.ports.catalogue import Models
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter
from tok0n.ports.upstream import Upstream
from tok0n.services.verify_streams import StreamOutcome, routes_to_try, stream_request, try_stream, was_sent

CONCURRENT_MAX = 8
"""The most models that `VerifyModels.verify_all` verifies at the same time."""

CHECKS = ("answered", "shape_and_usage", "output_limit", "bound")
"""The upstream responded in time. The response is valid, with consistent usage. The usage is within the output limit.
It is within the bound."""

_LIMIT_REACHED = re.compile(
    r"(?i)\bcould not finish the message|\boutput limit (?:was|has been) reached"
    r"|\bmax_(?:completion_)?tokens\b[^.]{0,80}\b(?:was reached|too (?:small|low)|minimum|below)"
    r"|\bmax_(?:completion_)?tokens\b[^.]{0,80}\b(?:must|should) be (?:at least|greater|>)"
)
"""Matches upstream errors that the output limit left no room for a response, or is below the minimum.

OpenAI: "Could not finish the message because max_tokens or model output limit was reached." Anthropic: "`max_tokens`
must be greater than `thinking.budget_tokens`". OpenAI for small limits: "Expected a value >= 16".
"""

_REASONING_TOKENS = frozenset({"completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens"})


class _Sent(Protocol):
    """The result of sending a request. `was_sent` is False only if the gateway sent nothing of it."""

    @property
    def was_sent(self) -> bool: ...


_T = TypeVar("_T", bound=_Sent)


class VerifyModels:
    """Verifies models and stores the results."""

    def __init__(
        self,
        *,
        endpoints: Sequence[Endpoint],
        stream_endpoints: Sequence[str] = (),
        models: Models,
        upstreams: Mapping[str, Upstream],
        limiter: Limiter,
        clock: Clock,
        timeout_seconds: float,
        exclusive_seconds: float = 0.0,
    ) -> None:
        """`stream_endpoints` names those on which models may stream.

        `exclusive_seconds` is how long a process that starts to verify a model excludes the others.
        """
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._stream_endpoints = stream_endpoints
        self._models = models
        self._upstreams = upstreams
        self._limiter = limiter
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._exclusive_us = round(exclusive_seconds * 1_000_000)

    async def verify(self, model: Model) -> ModelState:
        """Verify one model. Raises the errors of the limiter and the database. An upstream failure is a result."""
        state = await self._verify(model, exclusive_us=0)
        assert state is not None
        return state

    async def verify_all(self, models: Sequence[Model]) -> list[ModelState]:
        """Verify several models, at most `CONCURRENT_MAX` at the same time. Raises the same errors."""
        free = asyncio.Semaphore(CONCURRENT_MAX)

        async def verify_one(model: Model) -> ModelState:
            async with free:
                return await self.verify(model)

        return await asyncio.gather(*map(verify_one, models))

    async def verify_if_unclaimed(self, model: Model) -> ModelState | None:
        """Verify one model. None if another process started to verify it within `exclusive_seconds`."""
        return await self._verify(model, exclusive_us=self._exclusive_us)

    async def _verify(self, model: Model, *, exclusive_us: int) -> ModelState | None:
        """Verify a model on each of its endpoints, and record the results. None if another process verifies it."""
        checks: dict[str, EndpointCheck] = {}
        streams: dict[str, StreamCheck] = {}
        for name in model.endpoints:
            endpoint = self._endpoints[name]
            checked = await self._verify_endpoint(endpoint, model, exclusive_us=exclusive_us)
            if checked is None:
                return None
            exclusive_us = 0  # the claim of the first request is our own
            checks[name], output_tokens = checked
            if checks[name].passed and name in self._stream_endpoints:
                streams[name] = await self._verify_stream(endpoint, model, output_tokens)
        return await self._models.record(
            Verification(
                model=model.id,
                fingerprint=model.fingerprint,
                checked_at_us=self._clock.now_us(),
                endpoints=checks,
                streams=streams,
            )
        )

    async def _verify_endpoint(
        self, endpoint: Endpoint, model: Model, *, exclusive_us: int
    ) -> tuple[EndpointCheck, int] | None:
        """Try each output limit until one suffices. Returns the last result and its limit. None as `_verify` does."""
        for output_tokens in output_limits(model):
            started = self._clock.monotonic()
            outcome = await self._attempt(endpoint, model, output_tokens, exclusive_us=exclusive_us)
            if outcome is None:
                return None
            exclusive_us = 0
            latency_ms = round((self._clock.monotonic() - started) * 1000)
            check = EndpointCheck(
                checks=outcome.checks, latency_ms=latency_ms, detail=outcome.detail, code=outcome.code
            )
            if not outcome.needs_more_output:
                break
        return check, output_tokens

    async def _verify_stream(self, endpoint: Endpoint, model: Model, output_tokens: int) -> StreamCheck:
        """Send one small stream, and another one with fewer options if the upstream rejects the options."""
        for route in routes_to_try(endpoint, model):
            outcome = await self._attempt_stream(endpoint, model, route, output_tokens)
            if not outcome.rejects_options:
                break
        return StreamCheck(
            passed=not outcome.detail,
            continuous_usage=route.continuous_usage,
            stream_options=route.stream_options,
            continuous_usage_stats=route.continuous_usage_stats,
            detail=outcome.detail,
            code=outcome.code,
            latency_ms=outcome.latency_ms,
            first_event_ms=outcome.first_event_ms,
        )

    async def _attempt_stream(
        self, endpoint: Endpoint, model: Model, route: Route, output_tokens: int
    ) -> StreamOutcome:
        request = stream_request(endpoint, model, route, output_tokens=output_tokens)
        upstream = self._upstreams[request.route.upstream]
        outcome = await self._dispatch(
            model,
            lambda: try_stream(endpoint, upstream, request, timeout_seconds=self._timeout_seconds, clock=self._clock),
            exclusive_us=0,
        )
        assert outcome is not None, "no process is excluded"
        if outcome.usage is None:
            return outcome
        fault = _find_usage_fault(request, outcome.usage)
        return outcome if fault is None else msgspec.structs.replace(outcome, detail=fault.detail)

    async def _attempt(
        self, endpoint: Endpoint, model: Model, output_tokens: int, *, exclusive_us: int
    ) -> "_Outcome | None":
        """Send one request, which counts toward the global limit. None if another process verifies the model."""
        request = verification_request(endpoint, model, output_tokens)
        return await self._dispatch(model, lambda: self._send_and_check(endpoint, request), exclusive_us=exclusive_us)

    async def _dispatch(self, model: Model, send: Callable[[], Awaitable[_T]], *, exclusive_us: int) -> _T | None:
        """Admit a request, store it, and send it. Returns None if another process is verifying the model."""
        request_id = ids.request_id(self._clock.now_us(), os.urandom(ids.RANDOM_BYTES))
        async with self._limiter.admit_operator(request_id=request_id) as admission:
            if not await self._models.claim_verification(
                model=model.id, request_id=request_id, now_us=self._clock.now_us(), exclusive_us=exclusive_us
            ):
                return None
            if not admission.is_still_valid():
                raise LimiterUnavailable(detail=ADMISSION_EXPIRED)
            admission.dispatched = True
            outcome = await send()
            admission.dispatched = outcome.was_sent
            return outcome

    async def _send_and_check(self, endpoint: Endpoint, request: MeteredRequest) -> "_Outcome":
        upstream = self._upstreams[request.route.upstream]
        checks = dict.fromkeys(CHECKS, False)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await upstream.send(
                    endpoint.upstream_path, request.upstream_body, headers=request.upstream_headers
                )
            checks["answered"] = True
            answer = read_answer(
                endpoint,
                response.status,
                response.body,
                request=request,
                scrub=upstream.scrub,
            )
        except TimeoutError:
            return _Outcome(checks=checks, detail=f"no response within {self._timeout_seconds:g} s")
        except RejectedByUpstream as error:
            needs_more_output = _LIMIT_REACHED.search(error.message) is not None
            return _Outcome(checks=checks, detail=error.message, code=error.code, needs_more_output=needs_more_output)
        except Tok0nError as error:
            return _Outcome(
                checks=checks, detail=error.detail or error.message, code=error.code, was_sent=was_sent(error)
            )
        checks["shape_and_usage"] = True
        return _judge(endpoint, checks, request, answer)


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one attempt. `needs_more_output`: the output limit was too small for a complete response."""

    checks: dict[str, bool]
    detail: str = ""
    code: str = UpstreamFailed.code
    needs_more_output: bool = False
    was_sent: bool = True


class _UsageFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why usage is more than a request may use. `check` is the one of `CHECKS` that failed."""

    check: str
    detail: str


def output_limits(model: Model) -> list[int]:
    """Return the output limits to try, ascending. A reasoning model may need more than the first one to respond."""
    limits = [min(model.verify_output_tokens, model.max_output_tokens)]
    for limit in VERIFICATION_RETRY_OUTPUT_TOKENS:
        capped = min(limit, model.max_output_tokens)
        if capped > limits[-1]:
            limits.append(capped)
    return limits


def verification_request(endpoint: Endpoint, model: Model, output_tokens: int) -> MeteredRequest:
    """Return the verification request of an endpoint, read and bounded like a customer's."""
    body = endpoint.verification_request(model, output_tokens)
    return endpoint.read_request(msgspec.json.encode(body), find_model=lambda _: model)


def _judge(endpoint: Endpoint, checks: dict[str, bool], request: MeteredRequest, answer: Answer) -> _Outcome:
    """Check the usage against the output limit and the bound of the request."""
    fault = _find_usage_fault(request, answer.usage)
    checks["output_limit"] = fault is None or fault.check != "output_limit"
    checks["bound"] = answer.usage.total_tokens <= request.bound
    if fault is not None:
        return _Outcome(checks=checks, detail=fault.detail)
    return _Outcome(checks=checks, needs_more_output=_needs_more_output(endpoint, request, answer))


def _find_usage_fault(request: MeteredRequest, usage: Usage) -> _UsageFault | None:
    """Return how usage breaks the output limit or the bound of the request, or None."""
    output_tokens = usage.total_tokens - usage.prompt_tokens
    if output_tokens > request.output_bound:
        detail = (
            f"{output_tokens} tokens beyond the prompt, above the output limit of {request.output_limit}:"
            f" set reasoning_tokens_max of this model to at least {output_tokens - request.output_limit}"
            f" (now {request.model.reasoning_tokens_max})"
        )
        return _UsageFault(check="output_limit", detail=detail)
    if usage.total_tokens > request.bound:
        detail = f"{usage.total_tokens} tokens used, above the bound of {request.bound}"
        return _UsageFault(check="bound", detail=detail)
    return None


def _needs_more_output(endpoint: Endpoint, request: MeteredRequest, answer: Answer) -> bool:
    """Whether the output limit cut the response before any output, or reasoning used up the limit."""
    if not request.n:
        return False
    if any(answer.usage.details.get(name, 0) >= request.output_limit for name in _REASONING_TOKENS):
        return True
    return endpoint.ended_before_output(decode(answer.body))
