"""Send a signed-in user's request with one of the account's keys. The key's limits apply, and the charge is the same.

Each form sends at most one request. The gateway sends the text to the upstream and never stores it.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any

import msgspec

from tok0n.domain.accounts import ApiKey
from tok0n.domain.answer_json import decode
from tok0n.domain.answers import Answer
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.text_stream import with_text_stream
from tok0n.domain.errors import AlreadySubmitted, InvalidRequest, LimitReached, Tok0nError
from tok0n.domain.forms import Submission
from tok0n.domain.metered_request import MeteredRequest
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms
from tok0n.services.api_keys import ApiKeys
from tok0n.services.attempts import AttemptLimiter
from tok0n.services.call import Call, known_error
from tok0n.services.caller_cache import CallerCache
from tok0n.services.pipeline import Pipeline
from tok0n.services.rejections import Rejections
from tok0n.services.relay import StreamedAnswer
from tok0n.services.request_log import RequestLog
from tok0n.services.requests_in_progress import RequestsInProgress

FindClientIp = Callable[[], str]

READS_MAX = 120
READS_SECONDS = 60.0
"""The period in which an account gets at most `READS_MAX` bounds. Its form requests one after each typing pause."""


class PlaygroundResult(msgspec.Struct, frozen=True, kw_only=True):
    """The call of a form, with its response or error. `repeated_id` is the request id if the form was sent before.

    `stream` is the response of a form that asked for a stream, unless it failed before the stream began.
    """

    status: int
    call: Call | None = None
    answer: dict[str, Any] | None = None
    stream: StreamedAnswer | None = None
    error: Tok0nError | None = None
    repeated_id: str | None = None


class Playground:
    """Bounds and sends requests. `status_of` maps an error to its HTTP status, for the request log."""

    def __init__(
        self,
        *,
        api_keys: ApiKeys,
        pipeline: Pipeline,
        caller_cache: CallerCache,
        forms: Forms,
        request_log: RequestLog,
        requests_in_progress: RequestsInProgress,
        clock: Clock,
        status_of: Callable[[Tok0nError], int],
        rejections: Rejections | None = None,
    ) -> None:
        self._api_keys = api_keys
        self._pipeline = pipeline
        self._caller_cache = caller_cache
        self._forms = forms
        self._request_log = request_log
        self._requests_in_progress = requests_in_progress
        self._clock = clock
        self._status_of = status_of
        self._rejections = rejections
        self._running: dict[Submission, asyncio.Future[PlaygroundResult]] = {}
        self._reads = AttemptLimiter(clock, attempts_max=READS_MAX, seconds=READS_SECONDS)

    async def estimate(self, account_id: str, endpoint: Endpoint, body: bytes) -> MeteredRequest:
        """Read and bound a request without sending it.

        Raises `LimitReached` beyond `READS_MAX` calls of the account in `READS_SECONDS`, `InvalidRequest` and
        `Overloaded`.
        """
        if seconds := self._reads.count_attempt(account_id):
            raise LimitReached(f"Too many requests. Try again in {math.ceil(seconds)} seconds.")
        return await self._pipeline.read(endpoint, body)

    async def send(
        self,
        submission: Submission,
        endpoint: Endpoint,
        key_id: str,
        body: bytes,
        *,
        find_client_ip: FindClientIp | None = None,
    ) -> PlaygroundResult:
        """Send the request of a form. A repeated submission waits for the first one and returns the same result.

        The key must allow the network of the browser. Raises `InvalidRequest` unless `key_id` is an active key of the
        account.
        """
        key = await self._active_key(account_id=submission.account_id, key_id=key_id)
        running = self._running.get(submission)
        if running is None:
            running = self._running[submission] = asyncio.ensure_future(
                self._send(submission, endpoint, key, body, find_client_ip)
            )
            running.add_done_callback(lambda _: self._running.pop(submission))
        return await asyncio.shield(running)

    async def stream(
        self,
        submission: Submission,
        endpoint: Endpoint,
        key_id: str,
        body: bytes,
        *,
        find_client_ip: FindClientIp | None = None,
    ) -> PlaygroundResult:
        """Send a request with `stream: true`, and stream only texts and the receipt: see `with_text_stream`.

        A repeated submission returns at once. Raises `InvalidRequest` unless `key_id` is an active key of the account.
        """
        key = await self._active_key(account_id=submission.account_id, key_id=key_id)
        return await self._send(submission, with_text_stream(endpoint), key, body, find_client_ip)

    async def _active_key(self, *, account_id: str, key_id: str) -> ApiKey:
        for key in await self._api_keys.active(account_id):
            if key.id == key_id:
                return key
        raise InvalidRequest("Choose an active key.", param="key")

    async def _send(
        self,
        submission: Submission,
        endpoint: Endpoint,
        key: ApiKey,
        body: bytes,
        find_client_ip: FindClientIp | None,
    ) -> PlaygroundResult:
        call = self._pipeline.new_call("playground")
        call.find_client_ip = find_client_ip
        error: Tok0nError | None = None
        answer: Answer | StreamedAnswer | None = None
        with contextlib.ExitStack() as in_progress:
            in_progress.enter_context(self._requests_in_progress)
            try:
                await self._forms.claim(submission, result=call.request_id, now_us=self._clock.now_us())
            except AlreadySubmitted as first:
                return PlaygroundResult(status=200, repeated_id=first.result)
            try:
                caller = await self._pipeline.caller_of(account_id=key.account_id, key_id=key.id)
                answer = await self._pipeline.serve(endpoint, call, caller, body)
                if isinstance(answer, StreamedAnswer):
                    streaming = in_progress.pop_all()
                    answer.task.add_done_callback(lambda task: self._end_stream(call, task.result(), streaming))
            except Exception as raised:  # noqa: BLE001  the page shows an error, and the log the traceback
                error = known_error(call, raised)
        self._caller_cache.mark_used(key.caller)
        if isinstance(answer, StreamedAnswer):
            return PlaygroundResult(status=200, call=call, stream=answer)
        status = 200 if error is None else self._status_of(error)
        self._log(call, status=status, error=error)
        if error is not None and self._rejections is not None:
            error.key = (key.account_id, key.id)
            self._rejections.add(call, error, status=status, endpoint=endpoint.name)
        return PlaygroundResult(
            status=status, call=call, answer=None if answer is None else decode(answer.body), error=error
        )

    def _end_stream(self, call: Call, error: Tok0nError | None, in_progress: contextlib.ExitStack) -> None:
        in_progress.close()
        self._log(call, status=200, error=error)

    def _log(self, call: Call, *, status: int, error: Tok0nError | None) -> None:
        seconds = self._clock.monotonic() - call.started_seconds
        self._request_log.write(call, status=status, error=error, seconds=seconds)
