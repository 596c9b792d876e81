"""Verify with one tiny real completion that a model responds and reports usage that can be charged.

The request is bounded, sent and read like a customer's, and counts toward the global limit.
"""

import asyncio
import os
import re
from collections.abc import Mapping, Sequence

import msgspec

from tok0n.domain import ids
from tok0n.domain.answer_json import decode
from tok0n.domain.answers import Answer, read_answer
from tok0n.domain.catalogue import (
    VERIFICATION_RETRY_OUTPUT_TOKENS,
    Model,
    ModelState,
    Verification,
)
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import (
    ADMISSION_EXPIRED,
    LimiterUnavailable,
    Overloaded,
    RejectedByUpstream,
    Tok0nError,
    UpstreamFailed,
)
from tok0n.domain.metered_request import MeteredRequest
from tok0n.ports.catalogue import Models
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Admission, Limiter
from tok0n.ports.upstream import Upstream

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

_REASONING_TOKENS = "completion_tokens_details.reasoning_tokens"


class VerifyModels:
    """Verifies models and stores the results."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        models: Models,
        upstreams: Mapping[str, Upstream],
        limiter: Limiter,
        clock: Clock,
        timeout_seconds: float,
        exclusive_seconds: float = 0.0,
    ) -> None:
        """`exclusive_seconds` is how long a process that starts to verify a model excludes the others."""
        self._endpoint = endpoint
        self._models = models
        self._upstreams = upstreams
        self._limiter = limiter
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._exclusive_us = round(exclusive_seconds * 1_000_000)

    async def __call__(self, model: Model) -> ModelState:
        """Verify one model. Raises the errors of the limiter and the database. An upstream failure is a result."""
        state = await self._verify(model, exclusive_us=0)
        assert state is not None
        return state

    async def verify_all(self, models: Sequence[Model]) -> list[ModelState]:
        """Verify several models, at most `CONCURRENT_MAX` at the same time. Raises the same errors."""
        free = asyncio.Semaphore(CONCURRENT_MAX)

        async def verify(model: Model) -> ModelState:
            async with free:
                return await self(model)

        return await asyncio.gather(*map(verify, models))

    async def if_unclaimed(self, model: Model) -> ModelState | None:
        """Verify one model. None if another process started to verify it within `exclusive_seconds`."""
        return await self._verify(model, exclusive_us=self._exclusive_us)

    async def _verify(self, model: Model, *, exclusive_us: int) -> ModelState | None:
        """Try each output limit until one suffices, and record the last result. None if another process verifies."""
        for output_tokens in output_limits(model):
            started = self._clock.monotonic()
            outcome = await self._attempt(model, output_tokens, exclusive_us=exclusive_us)
            if outcome is None:
                return None
            verification = Verification(
                model=model.id,
                fingerprint=model.fingerprint,
                checked_at_us=self._clock.now_us(),
                checks=outcome.checks,
                latency_ms=round((self._clock.monotonic() - started) * 1000),
                detail=outcome.detail,
            )
            if not outcome.needs_more_output:
                break
            exclusive_us = 0  # the claim of the previous attempt is our own
        return await self._models.record(verification)

    async def _attempt(self, model: Model, output_tokens: int, *, exclusive_us: int) -> "_Outcome | None":
        """Send one completion, which counts toward the global limit. None if another process verifies the model."""
        request = verification_request(self._endpoint, model, output_tokens)
        request_id = ids.request_id(self._clock.now_us(), os.urandom(ids.RANDOM_BYTES))
        async with self._limiter.admit_operator(request_id=request_id) as admission:
            if not await self._models.claim_verification(
                model=model.id, request_id=request_id, now_us=self._clock.now_us(), exclusive_us=exclusive_us
            ):
                return None
            if not admission.is_still_valid():
                raise LimiterUnavailable(detail=ADMISSION_EXPIRED)
            return await self._try(model, request, admission)

    async def _try(self, model: Model, request: MeteredRequest, admission: Admission) -> "_Outcome":
        upstream = self._upstreams[request.route.upstream]
        checks = dict.fromkeys(CHECKS, False)
        admission.dispatched = True
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await upstream.send(self._endpoint.upstream_path, request.upstream_body)
            checks["answered"] = True
            answer = read_answer(
                self._endpoint,
                response.status,
                response.body,
                public_model=model.id,
                upstream_model=request.route.upstream_model,
                scrub=upstream.scrub,
            )
        except TimeoutError:
            return _Outcome(checks=checks, detail=f"no response within {self._timeout_seconds:g} s")
        except RejectedByUpstream as error:
            needs_more_output = _LIMIT_REACHED.search(error.message) is not None
            return _Outcome(checks=checks, detail=error.message, needs_more_output=needs_more_output)
        except Tok0nError as error:
            if isinstance(error, Overloaded) or (isinstance(error, UpstreamFailed) and not error.reached):
                admission.dispatched = False
            return _Outcome(checks=checks, detail=error.detail or error.message)
        checks["shape_and_usage"] = True
        return _judge(self._endpoint, checks, request, answer)


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one attempt. `needs_more_output`: the output limit was too small for a complete response."""

    checks: dict[str, bool]
    detail: str = ""
    needs_more_output: bool = False


def output_limits(model: Model) -> list[int]:
    """Return the output limits to try, ascending. A reasoning model may need more than the first one to respond."""
    limits = [min(model.verify_output_tokens, model.max_output_tokens)]
    for limit in VERIFICATION_RETRY_OUTPUT_TOKENS:
        capped = min(limit, model.max_output_tokens)
        if capped > limits[-1]:
            limits.append(capped)
    return limits


def verification_request(endpoint: Endpoint, model: Model, output_tokens: int) -> MeteredRequest:
    """Return the verification request, read and bounded like a customer's."""
    body = endpoint.verification_request(model, output_tokens)
    return endpoint.read_request(msgspec.json.encode(body), find_model=lambda _: model)


def _judge(endpoint: Endpoint, checks: dict[str, bool], request: MeteredRequest, answer: Answer) -> _Outcome:
    """Check the usage against the output limit and the bound of the request."""
    usage = answer.usage
    output_tokens = usage.total_tokens - usage.prompt_tokens
    checks["output_limit"] = output_tokens <= request.output_bound
    checks["bound"] = usage.total_tokens <= request.bound
    if not checks["output_limit"]:
        needed = output_tokens - request.output_limit
        return _Outcome(
            checks=checks,
            detail=(
                f"{output_tokens} tokens beyond the prompt, above the output limit of {request.output_limit}:"
                f" set reasoning_tokens_max of this model to at least {needed}"
                f" (now {request.model.reasoning_tokens_max})"
            ),
        )
    if not checks["bound"]:
        detail = f"{usage.total_tokens} tokens used, above the bound of {request.bound}"
        return _Outcome(checks=checks, detail=detail)
    return _Outcome(checks=checks, needs_more_output=_needs_more_output(endpoint, request, answer))


def _needs_more_output(endpoint: Endpoint, request: MeteredRequest, answer: Answer) -> bool:
    """Whether the output limit cut the response before any output, or reasoning used up the limit."""
    if answer.usage.details.get(_REASONING_TOKENS, 0) >= request.output_limit:
        return True
    return endpoint.is_cut_before_output(decode(answer.body))
