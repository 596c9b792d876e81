"""Verify with one small stream that a model streams completely and reports usage that can be charged."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec

from tok0n.domain.catalogue import (
    STREAM_VERIFICATION_PROMPT,
    VERIFICATION_PROMPT,
    VERIFICATION_RETRY_OUTPUT_TOKENS,
    Model,
    Route,
)
from tok0n.domain.continuous_usage import ContinuousUsage
from tok0n.domain.endpoints.endpoint import Endpoint, StreamReader
from tok0n.domain.errors import Overloaded, Tok0nError, UpstreamFailed
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.upstream_failures import read_failure
from tok0n.domain.usage import Usage
from tok0n.ports.clock import Clock
from tok0n.ports.upstream import StreamedResponse, Upstream
from tok0n.services.relay import COMPLETE_SECONDS

_INPUT_STATUSES = frozenset({400, 422})
_OPTION_NAMES = (b"stream_options", b"include_usage", b"continuous_usage")


class StreamOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one stream. `usage` is None if the stream failed, and `detail` says why.

    `code` is the error code of a failure. `rejects_options`: the upstream rejected the request because of
    `stream_options`.
    """

    usage: Usage | None = None
    detail: str = ""
    code: str = UpstreamFailed.code
    latency_ms: int | None = None
    first_event_ms: int | None = None
    rejects_options: bool = False
    was_sent: bool = True


def routes_to_try(endpoint: Endpoint, model: Model) -> Iterator[Route]:
    """Yield the model's route with fewer and fewer options of streams, until the upstream accepts them.

    An endpoint without `stream_options` has one way to stream.
    vLLM and SGLang report continuous usage only if they are asked to. Mistral rejects `stream_options`, and reports
    usage.
    """
    route = model.routes[0]
    if not endpoint.has_stream_options:
        yield route
        return
    if route.continuous_usage:
        yield msgspec.structs.replace(route, continuous_usage_stats=True)
    yield route
    yield msgspec.structs.replace(route, stream_options=False)


def stream_request(endpoint: Endpoint, model: Model, route: Route, *, output_tokens: int) -> MeteredRequest:
    """Return the request for a small stream, read and bounded like a customer's."""
    streaming = msgspec.structs.replace(model, routes=(route,), streaming_endpoints=(endpoint.name,))
    prompt = VERIFICATION_PROMPT
    if route.continuous_usage and endpoint.has_stream_options:
        prompt = STREAM_VERIFICATION_PROMPT
        output_tokens = min(max(output_tokens, VERIFICATION_RETRY_OUTPUT_TOKENS[0]), model.max_output_tokens)
    body = endpoint.verification_request(model, output_tokens, prompt) | {"stream": True}
    return endpoint.read_request(msgspec.json.encode(body), find_model=lambda _: streaming, is_streaming=True)


async def try_stream(
    endpoint: Endpoint, upstream: Upstream, request: MeteredRequest, *, timeout_seconds: float, clock: Clock
) -> StreamOutcome:
    """Send the request, and read its stream to the end. A failure of the upstream is a result."""
    assert endpoint.read_stream is not None, "only endpoints that stream are verified"
    started = clock.monotonic()
    bytes_max = upstream.body_bytes_max
    reader = endpoint.read_stream(request, event_bytes_max=bytes_max, scrub=upstream.scrub)
    continuous = ContinuousUsage(endpoint.read_usage, event_bytes_max=bytes_max)
    failure: Tok0nError | None = None
    first_event_ms = None
    try:
        async with upstream.stream(
            endpoint.upstream_path,
            request.upstream_body,
            timeout_seconds=timeout_seconds,
            headers=request.upstream_headers,
        ) as response:
            if response.status != 200:
                return _rejection(upstream, request, response.status, await response.read_all())
            async for _ in _pieces(response, reader, continuous):
                if first_event_ms is None and reader.has_content:
                    first_event_ms = round((clock.monotonic() - started) * 1000)
    except Tok0nError as error:
        failure = error
    latency_ms = round((clock.monotonic() - started) * 1000)
    if not reader.is_complete or reader.usage is None:
        sent = failure is None or was_sent(failure)
        return _failure(reader.failure or failure, was_sent=sent)
    is_continuous = request.route.continuous_usage and endpoint.has_stream_options
    fault = continuous.find_fault(reader.usage) if is_continuous else None
    if fault is not None:
        return StreamOutcome(detail=fault)
    return StreamOutcome(usage=reader.usage, latency_ms=latency_ms, first_event_ms=first_event_ms)


def _failure(error: Tok0nError | None, *, was_sent: bool) -> StreamOutcome:
    if error is None:
        return StreamOutcome(was_sent=was_sent)
    return StreamOutcome(detail=error.detail or error.message, code=error.code, was_sent=was_sent)


def was_sent(error: Tok0nError) -> bool:
    """Return whether the gateway sent any of the request that failed with this error."""
    return not isinstance(error, Overloaded) and not (isinstance(error, UpstreamFailed) and not error.reached)


async def _pieces(response: StreamedResponse, reader: StreamReader, continuous: ContinuousUsage) -> AsyncIterator[None]:
    """Read until the stream is over or can't be charged. Waits briefly for the end of one that is complete.

    Yields after each piece.
    """
    while not reader.has_ended and reader.failure is None:
        try:
            async with asyncio.timeout(COMPLETE_SECONDS if reader.is_complete else None):
                piece = await response.read()
        except TimeoutError:
            return
        if not piece:
            reader.end()
            return
        reader.feed(piece)
        continuous.feed(piece)
        yield


def _rejection(upstream: Upstream, request: MeteredRequest, status: int, body: bytes) -> StreamOutcome:
    error = read_failure(
        status,
        body,
        public_model=request.model.id,
        upstream_model=request.route.upstream_model,
        scrub=upstream.scrub,
    )
    rejects_options = status in _INPUT_STATUSES and any(name in body for name in _OPTION_NAMES)
    return StreamOutcome(detail=error.detail or error.message, code=error.code, rejects_options=rejects_options)
