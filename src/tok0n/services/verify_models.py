"""Prove, with one tiny real completion, that a model can be sold: it answers, and its usage can be charged by.

The request takes the same way as a customer's (the same bound, the same reading of the answer), and a global slot.
"""

import asyncio
import os
from collections.abc import Mapping

import msgspec

from tok0n.domain import ids
from tok0n.domain.catalogue import VERIFICATION_OUTPUT_TOKENS, VERIFICATION_PROMPT, Model, ModelState, Verification
from tok0n.domain.chat_request import ChatRequest, read_chat_request
from tok0n.domain.completion import Completion, read_answer
from tok0n.domain.errors import ADMISSION_EXPIRED, LimiterUnavailable, Overloaded, Tok0nError, UpstreamFailed
from tok0n.ports import Admission, Clock, Limiter, Models, Upstream

CHECKS = ("answered", "shape_and_usage", "output_limit", "bound")
"""It answered in time; with the right shape and consistent usage; kept the output limit; and our bound held."""


class VerifyModels:
    """Verifies models and remembers the result."""

    def __init__(
        self,
        *,
        models: Models,
        upstreams: Mapping[str, Upstream],
        limiter: Limiter,
        clock: Clock,
        timeout_seconds: float,
        alone_seconds: float = 0.0,
    ) -> None:
        """`alone_seconds` is how long others leave a model to whoever began to verify it."""
        self._models = models
        self._upstreams = upstreams
        self._limiter = limiter
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._alone_us = round(alone_seconds * 1_000_000)

    async def __call__(self, model: Model) -> ModelState:
        """Verify one model. Raises what the limiter and the database raise; an upstream's failure is a result."""
        state = await self._verify(model, alone_for_us=0)
        assert state is not None
        return state

    async def unless_another_does(self, model: Model) -> ModelState | None:
        """As calling it, but None when another process began to verify this model a moment ago."""
        return await self._verify(model, alone_for_us=self._alone_us)

    async def _verify(self, model: Model, *, alone_for_us: int) -> ModelState | None:
        request = verification_request(model)
        request_id = ids.request_id(self._clock.now_us(), os.urandom(ids.RANDOM_BYTES))
        async with self._limiter.admit_operator(request_id=request_id) as admission:
            started = self._clock.monotonic()
            if not await self._models.asking(
                model=model.id, request_id=request_id, now_us=self._clock.now_us(), alone_for_us=alone_for_us
            ):
                return None
            if not admission.is_still_valid():
                raise LimiterUnavailable(detail=ADMISSION_EXPIRED)
            checks, detail = await self._try(model, request, admission)
        verification = Verification(
            model=model.id,
            fingerprint=model.fingerprint,
            checked_at_us=self._clock.now_us(),
            checks=checks,
            latency_ms=round((self._clock.monotonic() - started) * 1000),
            detail=detail,
        )
        return await self._models.record(verification)

    async def _try(self, model: Model, request: ChatRequest, admission: Admission) -> tuple[dict[str, bool], str]:
        upstream = self._upstreams[model.upstream]
        checks = dict.fromkeys(CHECKS, False)
        admission.dispatched = True
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await upstream.complete(request.upstream_body)
            checks["answered"] = True
            completion = read_answer(
                answer.status,
                answer.body,
                public_model=model.id,
                upstream_model=model.upstream_model,
                scrub=upstream.scrub,
            )
        except TimeoutError:
            return checks, f"no answer within {self._timeout_seconds:g} s"
        except Tok0nError as error:
            if isinstance(error, Overloaded) or (isinstance(error, UpstreamFailed) and not error.reached):
                admission.dispatched = False
            return checks, error.detail or error.message
        checks["shape_and_usage"] = True
        return _compare(checks, request, completion)


def verification_request(model: Model) -> ChatRequest:
    """The tiny request, read and bounded as a customer's would be."""
    output_tokens = min(VERIFICATION_OUTPUT_TOKENS, model.max_output_tokens)
    body = {
        "model": model.id,
        "messages": [{"role": "user", "content": VERIFICATION_PROMPT}],
        "max_completion_tokens": output_tokens,
    }
    return read_chat_request(msgspec.json.encode(body), find_model=lambda _: model)


def _compare(checks: dict[str, bool], request: ChatRequest, completion: Completion) -> tuple[dict[str, bool], str]:
    usage = completion.usage
    checks["output_limit"] = usage.completion_tokens <= request.output_bound
    checks["bound"] = usage.total_tokens <= request.bound
    if not checks["output_limit"]:
        return checks, f"{usage.completion_tokens} completion tokens, although the limit was {request.output_bound}"
    if not checks["bound"]:
        return checks, f"{usage.total_tokens} tokens used, although at most {request.bound} were possible"
    return checks, ""
