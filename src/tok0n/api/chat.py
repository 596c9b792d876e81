"""POST /v1/chat/completions, as a plain ASGI function ahead of everything else: it is the hot path."""

import functools
from collections.abc import Mapping

import structlog

from tok0n.api.cors import Cors
from tok0n.api.errors import BodiesTooLarge, RequestTooLarge, error_answer
from tok0n.domain.completion import Completion
from tok0n.domain.errors import AccountingFailed, InvalidRequest, Overloaded, Tok0nError
from tok0n.http.asgi import (
    BODY_HOLD,
    BodyHold,
    FastRequest,
    Headers,
    Receive,
    Scope,
    Send,
    WholeAnswer,
    by_name,
    header_lines,
    headers_in,
    respond,
)
from tok0n.http.exchange import UNCOUNTED_BODY_BYTES
from tok0n.http.request_ids import CLIENT_REQUEST_ID, client_request_id
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter, RateState
from tok0n.services.complete_chat import Call, CompleteChat
from tok0n.services.request_log import RequestLog
from tok0n.services.requests_in_progress import RequestsInProgress

log = structlog.get_logger()

CHAT_PATH = "/v1/chat/completions"

DISCARDED_BYTES_MAX = 64 * 1024 * 1024
"""A body that is too large is read to its end up to here: a client that is still sending would not see our answer."""


CLIENT_LEFT_STATUS = 499
"""The log's status for a client that closed the connection before its request was complete."""

Incoming = tuple[Receive, BodyHold]
"""A body that is still arriving."""


class ClientLeft(Exception):
    """The client closed the connection before its request was complete, or the server rejected the body."""


class ChatEndpoint:
    """Turns an HTTP request into a call of `CompleteChat`, and what comes of it into an answer and a log line."""

    def __init__(
        self,
        complete_chat: CompleteChat,
        limiter: Limiter,
        clock: Clock,
        request_log: RequestLog,
        requests_in_progress: RequestsInProgress,
        *,
        body_bytes_max: int,
        cors: Cors,
    ) -> None:
        self._cors = cors
        self.path = CHAT_PATH.encode()
        self._complete_chat = complete_chat
        self._limiter = limiter
        self._clock = clock
        self._request_log = request_log
        self._body_bytes_max = body_bytes_max
        self._requests_in_progress = requests_in_progress
        status, refusal_headers, body = error_answer(Overloaded(queue="reservations"))
        self._overloaded = status, header_lines(refusal_headers), body

    def refusal(self, named: Mapping[bytes, bytes], *, is_overloaded: bool) -> WholeAnswer | None:
        """See `asgi.FastPath`."""
        if not is_overloaded and self._complete_chat.has_room():
            return None
        call = self._complete_chat.new_call()
        self._request_log.count_refused()
        status, headers, body = self._overloaded
        lines = b"%bx-request-id: %b\r\n" % (headers, call.request_id.encode())
        return status, lines + self._lines_for(call, named), body

    async def answer(self, request: FastRequest) -> WholeAnswer:
        """Answer a request that is here whole: see `asgi.FastPath`. A client that leaves does not stop its call."""
        with self._requests_in_progress:
            call = self._complete_chat.new_call()
            if len(request.body) > UNCOUNTED_BODY_BYTES:
                call.on_admitted = request.admitted
            named = request.named
            more = self._lines_for(call, named)
            outcome = await self._outcome(call, named, request.body)
            if isinstance(outcome, Completion):
                return 200, self._charged(call) + more, outcome.body
            status, refusal_headers, refusal_body = await self._refusal(call, outcome)
            # Nothing of the request is still to come, so that its connection can be kept.
            kept = [header for header in refusal_headers if header[0] != b"connection"]
            return status, header_lines(kept) + more, refusal_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whose body is still coming."""
        with self._requests_in_progress:
            call = self._complete_chat.new_call()
            hold: BodyHold = scope["extensions"][BODY_HOLD]
            call.on_admitted = hold.admitted
            named = by_name(scope["headers"])
            more = headers_in(self._lines_for(call, named))
            try:
                outcome = await self._outcome(call, named, (receive, hold))
            except ClientLeft:
                status = hold.rejection or CLIENT_LEFT_STATUS
                self._request_log.write(call, status=status, error=None, seconds=self._clock.monotonic() - call.started)
                return
            if isinstance(outcome, Completion):
                await respond(send, 200, headers_in(self._charged(call)) + more, outcome.body)
            else:
                status, refusal_headers, refusal_body = await self._refusal(call, outcome)
                await respond(send, status, refusal_headers + more, refusal_body)

    def _lines_for(self, call: Call, named: Mapping[bytes, bytes]) -> bytes:
        """The header lines that depend on the request's headers alone. Notes the client's request id."""
        lines = self._cors.lines(named.get(b"origin")) if self._cors.is_on else b""
        client_id = client_request_id(named)
        if client_id is None:
            return lines
        call.client_request_id = client_id
        return b"%b%b: %b\r\n" % (lines, CLIENT_REQUEST_ID, client_id.encode())

    async def _outcome(
        self, call: Call, headers: Mapping[bytes, bytes], body: bytes | Incoming
    ) -> Completion | Tok0nError:
        """The completion, or why there is none. Raises `ClientLeft`."""
        try:
            authorization = headers.get(b"authorization")
            cache = self._complete_chat.caller_cache
            caller = call.caller = cache.remembered(authorization) or await cache.authenticate(authorization)
            self._check(headers, body)
            whole = body if isinstance(body, bytes) else await self._receive(*body, account_id=caller.account_id)
            return await self._complete_chat.complete(call, caller, whole)
        except Tok0nError as refusal:
            return refusal
        except ClientLeft:
            raise
        except Exception:
            log.exception("unexpected_error", request=call.request_id)
            return AccountingFailed(upstream_called=call.upstream_ms is not None, detail="unexpected error")

    async def _refusal(self, call: Call, error: Tok0nError) -> tuple[int, Headers, bytes]:
        status, headers, body = error_answer(error)
        await self._know_rate(call)
        headers.append((b"x-request-id", call.request_id.encode()))
        if call.rate is not None:
            headers += rate_headers(call.rate)
        self._request_log.write(call, status=status, error=error, seconds=self._clock.monotonic() - call.started)
        return status, headers, body

    def _charged(self, call: Call) -> bytes:
        """The header lines of an answer that was charged, which is logged."""
        seconds = self._clock.monotonic() - call.started
        self._request_log.write(call, status=200, error=None, seconds=seconds)
        return _lines(call, seconds)

    async def _know_rate(self, call: Call) -> None:
        """An authenticated call that was not admitted is told where its key stands all the same, if that is known."""
        if call.rate is None and call.caller is not None:
            try:
                call.rate = await self._limiter.state(call.caller)
            except Tok0nError:
                return

    def _check(self, headers: Mapping[bytes, bytes], body: bytes | Incoming) -> None:
        """Raises `RequestTooLarge`, at once where far too much is announced, or `InvalidRequest`."""
        if isinstance(body, bytes):
            size = len(body)
            size_max = self._body_bytes_max
        else:
            announced = headers.get(b"content-length", b"")
            size = int(announced[:20]) if announced.isdigit() else 0
            size_max = DISCARDED_BYTES_MAX
        if size > size_max:
            raise self._too_large()
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise InvalidRequest("A compressed body is not supported: send it without content-encoding.")

    async def _receive(self, receive: Receive, hold: BodyHold, *, account_id: str) -> bytearray:
        """The whole body, counted for the account. Raises `RequestTooLarge`, `BodiesTooLarge` or `ClientLeft`."""
        if hold.assign(account_id) is not None:
            raise BodiesTooLarge
        body = bytearray()  # grows in place: joining parts at the end would hold up all others for milliseconds
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part = message.get("body", b"")
            size += len(part)
            if size <= self._body_bytes_max:
                body += part
            elif size > DISCARDED_BYTES_MAX or not message.get("more_body"):
                raise self._too_large()
            else:
                hold.admitted()  # the rest is dropped as it arrives
                body.clear()
            if not message.get("more_body"):
                return body

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The body of a request may have {self._body_bytes_max} bytes at the most.")


def _lines(call: Call, seconds: float) -> bytes:
    """The headers of an answer that was charged."""
    rate, receipt = call.rate, call.receipt
    assert rate is not None
    assert receipt is not None
    return (
        "content-type: application/json\r\n"
        f"x-request-id: {call.request_id}\r\n"
        f"x-ratelimit-limit-requests: {rate.limit}\r\n"
        f"x-ratelimit-remaining-requests: {rate.remaining}\r\n"
        f"x-ratelimit-reset-requests: {duration(rate.reset_seconds)}\r\n"
        f"x-tok0n-reserved: {receipt.reserved}\r\n"
        f"x-tok0n-charged: {receipt.charged}\r\n"
        f"x-tok0n-available: {receipt.balance.available}\r\n"
        f"openai-processing-ms: {round(seconds * 1000)}\r\n"
    ).encode()


def rate_headers(rate: RateState) -> Headers:
    """The three headers of an authenticated answer, in the form of OpenAI's."""
    return [
        (b"x-ratelimit-limit-requests", str(rate.limit).encode()),
        (b"x-ratelimit-remaining-requests", str(rate.remaining).encode()),
        (b"x-ratelimit-reset-requests", duration(rate.reset_seconds).encode()),
    ]


def duration(seconds: float) -> str:
    """A duration as OpenAI writes it in these headers: "6m0s", "1.5s", "20ms"."""
    return _duration(round(seconds * 1000))


@functools.lru_cache(maxsize=1024)
def _duration(milliseconds: int) -> str:
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    shown = f"{rest / 1000:g}s"
    return f"{minutes}m{shown}" if minutes else shown
