"""One metered endpoint over HTTP: a request becomes a call of the pipeline, its result a response and a log line."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable

from tok0n.api.cors import Cors
from tok0n.api.errors import BodiesTooLarge, RequestTooLarge, error_response
from tok0n.domain.accounts import Caller
from tok0n.domain.answers import Answer
from tok0n.domain.api_key import authorization_of
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import InvalidApiKey, InvalidRequest, Overloaded, Tok0nError
from tok0n.domain.json_text import JsonText
from tok0n.http.message import Headers, Response
from tok0n.http.request import UNCOUNTED_BODY_BYTES, Request, RequestAborted
from tok0n.http.request_ids import client_id_headers, client_request_id
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import RateState
from tok0n.services.call import Call, known_error
from tok0n.services.pipeline import Pipeline
from tok0n.services.rejections import Rejections
from tok0n.services.relay import StreamedAnswer
from tok0n.services.request_log import RequestLog

DISCARDED_BYTES_MAX = 64 * 1024 * 1024
"""A body that is too large is read and dropped up to here, and then gets its 413. Many clients read no response until
they have sent all."""

DROPPED_BYTES_MAX = 1_024
"""The length of the header that names what was dropped. Clients choose these names, and can send many."""

ClientIp = Callable[[Request], str]
"""Returns the client IP of a request."""

CLIENT_LEFT_STATUS = 499
"""The status in the log if the client closed the connection before its request was complete."""


class EndpointHandler:
    """Handles the requests to one endpoint. A client that leaves after sending its request doesn't stop it."""

    def __init__(
        self,
        endpoint: Endpoint,
        pipeline: Pipeline,
        clock: Clock,
        request_log: RequestLog,
        rejections: Rejections | None = None,
        *,
        body_bytes_max: int,
        cors: Cors,
        client_ip: ClientIp,
    ) -> None:
        self._endpoint = endpoint
        self._pipeline = pipeline
        self._clock = clock
        self._request_log = request_log
        self._rejections = rejections
        self._body_bytes_max = body_bytes_max
        self._cors = cors
        self._client_ip = client_ip
        self._key_header = endpoint.key_header
        self.request_id_header = endpoint.request_id_header

    async def handle(self, request: Request) -> Response:
        """Respond to one request. Raises `RequestAborted`."""
        call = self._pipeline.new_call(
            self._endpoint.name, client_request_id=client_request_id(request.headers_by_name)
        )
        if request.is_overloaded or not self._pipeline.has_room():
            return self._reject_overload(call, request)
        call.find_client_ip = functools.partial(self._client_ip, request)
        try:
            answer = await self._serve(call, request)
        except RequestAborted:
            self._log(call, status=request.rejected_as or CLIENT_LEFT_STATUS)
            raise
        except Exception as raised:  # noqa: BLE001  the client gets a 500, and the log the traceback
            error = known_error(call, raised)
            error.__traceback__ = None  # It refers to this frame: the cycle would keep the body until a collection.
        else:
            if isinstance(answer, StreamedAnswer):
                return self._stream(request, call, answer)
            seconds = self._log(call, status=200)
            return Response(200, self._headers(call, request), answer.body, _whole_response_head(call, seconds))
        await self._pipeline.find_rate(call)
        response = self._error_response(error, call, request)
        if self._rejections is not None:
            self._rejections.add(call, error, status=response.status)
        self._log(call, status=response.status, error=error)
        return response

    def _reject_overload(self, call: Call, request: Request) -> Response:
        error = Overloaded(queue="reservations")
        self._request_log.count_rejected()
        if self._rejections is not None:
            with contextlib.suppress(InvalidApiKey):
                self._pipeline.cached_caller(call, self._authorization(request))
            self._rejections.add(call, error, status=503)
        return self._error_response(error, call, request)

    def _error_response(self, error: Tok0nError, call: Call, request: Request) -> Response:
        response = error_response(error, self._endpoint.render_error, request_id=call.request_id)
        if call.rate is not None:
            response.headers.extend(rate_headers(call.rate))
        response.headers.append((b"x-request-id", call.request_id.encode()))
        response.headers.extend(self._headers(call, request))
        return response

    def _headers(self, call: Call, request: Request) -> Headers:
        """Return the headers of every response that depend on the request or the endpoint."""
        headers = [] if call.client_request_id is None else client_id_headers(call.client_request_id)
        if self.request_id_header:
            headers.append((self.request_id_header, call.request_id.encode()))
        if call.dropped:
            headers.append((b"x-tok0n-dropped", ", ".join(call.dropped).encode()[:DROPPED_BYTES_MAX]))
        if self._cors.is_on:
            headers += self._cors.headers(request.headers_by_name.get(b"origin"))
        return headers

    def _stream(self, request: Request, call: Call, answer: StreamedAnswer) -> Response:
        """Return the response whose body `answer` pushes. The log line is written at its end."""

        def on_end(task: "asyncio.Task[Tok0nError | None]") -> None:
            self._log(call, status=200, error=task.result())

        answer.task.add_done_callback(on_end)
        return Response(200, self._headers(call, request), answer.body, _stream_head(call))

    def _serve(self, call: Call, request: Request) -> Awaitable[Answer | StreamedAnswer]:
        """Return the answer. Raises the errors of `domain.errors`, some of them before the first await."""
        if request.is_complete:
            authorization = (
                self._authorization(request) if self._key_header else request.headers_by_name.get(b"authorization")
            )
            caller = self._pipeline.cached_caller(call, authorization)
            if caller is not None:  # Most requests come here. They are served without the cost of two coroutines.
                self._check_size_and_encoding(request)
                return self._serve_body(call, caller, request, request.body)
        return self._authenticate_and_serve(call, request)

    async def _authenticate_and_serve(self, call: Call, request: Request) -> Answer | StreamedAnswer:
        """Serve a request whose caller isn't cached, or whose body isn't complete. Also raises `RequestAborted`."""
        body = request.body if request.is_complete else None  # before the await, in which more can arrive
        caller = await self._pipeline.authenticate(call, self._authorization(request))
        self._check_size_and_encoding(request)
        if body is None:
            self._pipeline.check_access(self._endpoint, call, caller)  # before it sends a body for nothing
            body = await self._receive(request, account_id=caller.account_id)
        return await self._serve_body(call, caller, request, body)

    def _serve_body(
        self, call: Call, caller: Caller, request: Request, body: JsonText
    ) -> Awaitable[Answer | StreamedAnswer]:
        on_admitted = request.admit if len(body) > UNCOUNTED_BODY_BYTES else None
        return self._pipeline.serve(
            self._endpoint,
            call,
            caller,
            body,
            headers=request.headers_by_name,
            on_admitted=on_admitted,
            on_stream=request.track,
        )

    def _authorization(self, request: Request) -> bytes | None:
        """Return the Authorization header, or one with the key of the endpoint's own header. Raises `InvalidApiKey`."""
        authorization = request.headers_by_name.get(b"authorization")
        key = request.headers_by_name.get(self._key_header) if self._key_header else None
        return authorization if key is None else authorization_of(key, authorization)

    def _check_size_and_encoding(self, request: Request) -> None:
        """Raise `RequestTooLarge` if the body is known to be too large, or `InvalidRequest`."""
        if request.is_complete:
            size, size_max = request.body_bytes, self._body_bytes_max
        else:
            size = request.head.content_length or 0
            size_max = self._body_bytes_max if request.awaits_continue else DISCARDED_BYTES_MAX
        if size > size_max:
            raise self._too_large()
        if request.headers_by_name.get(b"content-encoding", b"identity") != b"identity":
            raise InvalidRequest("A compressed body is not supported: send it without content-encoding.")

    async def _receive(self, request: Request, *, account_id: str) -> bytearray:
        """Return the whole body, counted for the account.

        Raises `RequestTooLarge`, `BodiesTooLarge` or `RequestAborted`.
        """
        if request.count_for(account_id) is not None:
            raise BodiesTooLarge
        body = bytearray()  # grows in place: joining the parts at the end would block the event loop for milliseconds
        size = 0
        while piece := await request.receive():
            size += len(piece)
            if size <= self._body_bytes_max:
                body += piece
            elif size > DISCARDED_BYTES_MAX:
                raise self._too_large()
            else:
                request.stop_counting()  # the rest is dropped as it arrives
                body.clear()
        if size > self._body_bytes_max:
            raise self._too_large()
        return body

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The request body must have at most {self._body_bytes_max} bytes.")

    def _log(self, call: Call, *, status: int, error: Tok0nError | None = None) -> float:
        """Write the log line. Returns how many seconds the request took."""
        seconds = self._clock.monotonic() - call.started_seconds
        self._request_log.write(call, status=status, error=error, seconds=seconds)
        return seconds


def _whole_response_head(call: Call, seconds: float) -> bytes:
    """Return the header lines of a whole response, because rendering a list of pairs takes four times as long."""
    rate, receipt = call.rate, call.receipt
    assert rate is not None
    if receipt is None:
        return _unbilled_head(call, rate, seconds)
    return (
        b"content-type: application/json\r\n"
        b"x-ratelimit-limit-requests: %d\r\n"
        b"x-ratelimit-remaining-requests: %d\r\n"
        b"x-ratelimit-reset-requests: %b\r\n"
        b"x-tok0n-reserved: %d\r\n"
        b"x-tok0n-charged: %d\r\n"
        b"x-tok0n-available: %d\r\n"
        b"openai-processing-ms: %d\r\n"
        b"x-request-id: %b\r\n"
    ) % (
        rate.limit,
        rate.remaining,
        duration(rate.reset_seconds),
        receipt.reserved,
        receipt.charged,
        receipt.balance.available,
        round(seconds * 1000),
        call.request_id.encode(),
    )


def _unbilled_head(call: Call, rate: RateState, seconds: float) -> bytes:
    """Return the header lines of an answer that costs nothing."""
    lines = [
        (b"content-type", b"application/json"),
        *rate_headers(rate),
        (b"x-tok0n-reserved", b"%d" % (call.reserved or 0)),
        (b"x-tok0n-charged", b"0"),
        (b"openai-processing-ms", b"%d" % round(seconds * 1000)),
        (b"x-request-id", call.request_id.encode()),
    ]
    return b"".join(b"%b: %b\r\n" % line for line in lines)


def _stream_head(call: Call) -> bytes:
    """Return the header lines of a stream."""
    assert call.rate is not None
    assert call.reserved is not None
    lines = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        *rate_headers(call.rate),
        (b"x-tok0n-reserved", b"%d" % call.reserved),
        (b"x-request-id", call.request_id.encode()),
    ]
    return b"".join(b"%b: %b\r\n" % line for line in lines)


def rate_headers(rate: RateState) -> Headers:
    """Return the rate limit headers of an authenticated response, named and formatted as OpenAI's."""
    return [
        (b"x-ratelimit-limit-requests", b"%d" % rate.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % rate.remaining),
        (b"x-ratelimit-reset-requests", duration(rate.reset_seconds)),
    ]


@functools.lru_cache(maxsize=1024)
def duration(seconds: float) -> bytes:
    """Format a duration as OpenAI does in these headers: "6m0s", "1.5s", "20ms"."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    text = b"%gs" % (rest / 1000)
    return b"%dm%b" % (minutes, text) if minutes else text
