"""POST /v1/chat/completions: an HTTP request becomes a call of `CompleteChat`, its result a response and a log line."""

import functools

import structlog

from tok0n.api.cors import Cors
from tok0n.api.errors import BodiesTooLarge, RequestTooLarge, error_response
from tok0n.domain.completion import Completion
from tok0n.domain.errors import AccountingFailed, InvalidRequest, Overloaded, Tok0nError
from tok0n.http.message import Headers, Response
from tok0n.http.request import UNCOUNTED_BODY_BYTES, ClientLeft, Request
from tok0n.http.request_ids import client_request_id, id_headers
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import RateState
from tok0n.services.complete_chat import Call, CompleteChat
from tok0n.services.request_log import RequestLog
from tok0n.services.requests_in_progress import RequestsInProgress

log = structlog.get_logger()

CHAT_PATH = "/v1/chat/completions"

DISCARDED_BYTES_MAX = 64 * 1024 * 1024
"""A body that is too large is read and dropped up to here. Many clients read no response until they have sent all."""

CLIENT_LEFT_STATUS = 499
"""The status in the log if the client closed the connection before its request was complete."""

_JSON = (b"content-type", b"application/json")


class ChatEndpoint:
    """Handles chat completions. A client that leaves after its request is complete doesn't stop the call."""

    def __init__(
        self,
        complete_chat: CompleteChat,
        clock: Clock,
        request_log: RequestLog,
        requests_in_progress: RequestsInProgress,
        *,
        body_bytes_max: int,
        cors: Cors,
    ) -> None:
        self._complete_chat = complete_chat
        self._clock = clock
        self._request_log = request_log
        self._requests_in_progress = requests_in_progress
        self._body_bytes_max = body_bytes_max
        self._cors = cors
        self._overloaded = error_response(Overloaded(queue="reservations"))

    async def handle(self, request: Request) -> Response:
        """Respond to one request. Raises `ClientLeft`."""
        with self._requests_in_progress:
            call = self._complete_chat.new_call(client_request_id=client_request_id(request.named))
            if request.is_overloaded or not self._complete_chat.has_room():
                self._request_log.count_rejected()
                rejection = self._overloaded
                return Response(rejection.status, self._headers(call, request, [*rejection.headers]), rejection.body)
            error: Tok0nError | None = None
            try:
                completion = await self._complete(call, request)
            except ClientLeft:
                self._log(call, status=request.rejected_as or CLIENT_LEFT_STATUS)
                raise
            except Tok0nError as raised:
                error = raised
            except Exception:
                log.exception("unexpected_error", request=call.request_id)
                error = AccountingFailed(upstream_called=call.upstream_ms is not None, detail="unexpected error")
            if error is None:
                seconds = self._log(call, status=200)
                return Response(200, self._headers(call, request, _receipt(call, seconds)), completion.body)
            rejection = error_response(error)
            rate = await self._complete_chat.find_rate(call)
            if rate is not None:
                rejection.headers.extend(rate_headers(rate))
            self._log(call, status=rejection.status, error=error)
            self._headers(call, request, rejection.headers)
            return rejection

    async def _complete(self, call: Call, request: Request) -> Completion:
        """Return the completion. Raises the errors of `domain.errors`, and `ClientLeft`."""
        body = request.body if request.is_complete else None
        caller = await self._complete_chat.authenticate(call, request.named.get(b"authorization"))
        self._check_headers(request)
        if body is None:
            body = await self._receive(request, account_id=caller.account_id)
        on_admitted = request.admit if len(body) > UNCOUNTED_BODY_BYTES else None
        return await self._complete_chat.complete(call, caller, body, on_admitted=on_admitted)

    def _check_headers(self, request: Request) -> None:
        """Raise `RequestTooLarge` if the body is certainly too large, or `InvalidRequest`."""
        if request.is_complete:
            size, size_max = request.body_bytes, self._body_bytes_max
        else:
            size = request.head.content_length or 0
            size_max = self._body_bytes_max if request.awaits_continue else DISCARDED_BYTES_MAX
        if size > size_max:
            raise self._too_large()
        if request.named.get(b"content-encoding", b"identity") != b"identity":
            raise InvalidRequest("A compressed body is not supported: send it without content-encoding.")

    async def _receive(self, request: Request, *, account_id: str) -> bytearray:
        """Return the whole body, counted for the account. Raises `RequestTooLarge`, `BodiesTooLarge`, `ClientLeft`."""
        if request.assign(account_id) is not None:
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
        seconds = self._clock.monotonic() - call.started
        self._request_log.write(call, status=status, error=error, seconds=seconds)
        return seconds

    def _headers(self, call: Call, request: Request, headers: Headers) -> Headers:
        """Append the headers that every response has, and return the list."""
        headers += id_headers(call.request_id, call.client_request_id)
        if self._cors.is_on:
            headers += self._cors.headers(request.named.get(b"origin"))
        return headers


def _receipt(call: Call, seconds: float) -> Headers:
    """Return the headers of a completion that was charged."""
    rate, receipt = call.rate, call.receipt
    assert rate is not None
    assert receipt is not None
    return [
        _JSON,
        *rate_headers(rate),
        (b"x-tok0n-reserved", b"%d" % receipt.reserved),
        (b"x-tok0n-charged", b"%d" % receipt.charged),
        (b"x-tok0n-available", b"%d" % receipt.balance.available),
        (b"openai-processing-ms", b"%d" % round(seconds * 1000)),
    ]


def rate_headers(rate: RateState) -> Headers:
    """Return the rate limit headers of an authenticated response, named and formatted as OpenAI's."""
    return [
        (b"x-ratelimit-limit-requests", b"%d" % rate.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % rate.remaining),
        (b"x-ratelimit-reset-requests", duration(rate.reset_seconds)),
    ]


def duration(seconds: float) -> bytes:
    """Format a duration as OpenAI does in these headers: "6m0s", "1.5s", "20ms"."""
    return _duration(round(seconds * 1000))


@functools.lru_cache(maxsize=1024)
def _duration(milliseconds: int) -> bytes:
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = b"%gs" % (rest / 1000)
    return b"%dm%b" % (minutes, seconds) if minutes else seconds
