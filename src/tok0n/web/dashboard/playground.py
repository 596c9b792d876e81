"""Try a model in the browser: the bound before, the receipt after. The text goes to the upstream and is stored nowhere.

A call is made as one of the account's keys, with its limits and its budget, and is charged like any other.
"""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.accounts import ApiKey
from tok0n.domain.answer_json import decode
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import AccountingFailed, AlreadySubmitted, InvalidRequest, NotFound, Overloaded, Tok0nError
from tok0n.domain.forms import Submission
from tok0n.domain.history import RequestRecord
from tok0n.domain.metered_request import MeteredRequest
from tok0n.services.attempts import AttemptLimiter
from tok0n.services.caller_cache import CallerCache
from tok0n.services.complete_chat import Call, CompleteChat
from tok0n.services.passwords import FormError
from tok0n.services.request_log import RequestLog
from tok0n.services.requests_in_progress import RequestsInProgress
from tok0n.web.dashboard.dashboard_ports import DashboardPorts
from tok0n.web.dashboard.submissions import submission_of
from tok0n.web.pages.endpoints import page_endpoint
from tok0n.web.pages.page_context import PageContext
from tok0n.web.pages.page_request import PageRequest

log = structlog.get_logger()

READS_MAX = 120
READS_SECONDS = 60.0
"""How often an account may have a request bounded: its form asks after each pause in typing."""

OUTPUT_TOKENS = 500
"""What the form suggests as the output limit, or the model's own when that is less."""


class Playground:
    """Its two pages."""

    def __init__(
        self,
        *,
        ports: DashboardPorts,
        complete_chat: CompleteChat,
        caller_cache: CallerCache,
        request_log: RequestLog,
        requests_in_progress: RequestsInProgress,
        status_of: Callable[[Tok0nError], int],
    ) -> None:
        self._ports = ports
        self._complete_chat = complete_chat
        self._caller_cache = caller_cache
        self._request_log = request_log
        self._requests_in_progress = requests_in_progress
        self._status_of = status_of
        self._running: dict[Submission, asyncio.Future[_Sent]] = {}
        self._reads = AttemptLimiter(ports.clock, attempts_max=READS_MAX, seconds=READS_SECONDS)

    def routes(self, context: PageContext) -> list[Route]:
        """Return the routes of the playground and its bound."""
        return [
            Route(
                "/dashboard/playground",
                page_endpoint(context, self._playground, private=True),
                methods=["GET", "POST"],
            ),
            Route("/dashboard/playground/bound", page_endpoint(context, self._bound, private=True), methods=["POST"]),
        ]

    async def _playground(self, page: PageRequest) -> Response:
        if not page.is_post:
            return await self._page(page)
        try:
            body = _body(page.form)
            request = await self._read(page, body)
            if "send" not in page.form:
                return await self._page(page, bound=request.bound)
            key = await self._key(page)
            submission = submission_of(page, "playground", field="user")
        except FormError as form_error:
            return await self._page(page, status=422, form_error=form_error)
        except InvalidRequest as refusal:
            return await self._page(page, status=422, form_error=FormError(refusal.message, field="user"))
        except Overloaded as overload:
            return await self._page(page, status=503, form_error=FormError(overload.message, field="user"))
        sent = await self._send_once(submission, key, body)
        return await self._page(page, status=sent.status, bound=request.bound, sent=sent)

    async def _bound(self, page: PageRequest) -> Response:
        """The bound alone, for a page that asks while the user types."""
        try:
            request = await self._read(page, _body(page.form))
        except FormError as form_error:
            return page.render("bound.html", bound=None, said=form_error.message)
        except (InvalidRequest, Overloaded) as refusal:
            return page.render("bound.html", bound=None, said=refusal.message)
        return page.render("bound.html", bound=request.bound, said="")

    async def _read(self, page: PageRequest, body: bytes) -> MeteredRequest:
        """Read and bound a request, at most `READS_MAX` times in a while. Raises `FormError` beyond, or its faults."""
        if seconds := self._reads.try_count(page.account_id):
            raise FormError(f"Too many requests. Try again in {math.ceil(seconds)} seconds.", field="user")
        return await self._complete_chat.read(CHAT, body)

    async def _send_once(self, submission: Submission, key: ApiKey, body: bytes) -> "_Sent":
        """Send a submitted form's request. A repetition waits for the first request, and shows the same answer."""
        running = self._running.get(submission)
        if running is None:
            running = self._running[submission] = asyncio.ensure_future(self._send(submission, key, body))
            running.add_done_callback(lambda _: self._running.pop(submission))
        return await asyncio.shield(running)

    async def _send(self, submission: Submission, key: ApiKey, body: bytes) -> "_Sent":
        call = self._complete_chat.new_call(endpoint="playground")
        error: Tok0nError | None = None
        answer: dict[str, Any] | None = None
        with self._requests_in_progress:
            try:
                await self._ports.forms.claim(submission, result=call.request_id, now_us=self._ports.clock.now_us())
            except AlreadySubmitted as first:
                return _Sent(status=200, repeated_id=first.result)
            try:
                completion = await self._complete_chat.complete(CHAT, call, key.caller, body)
                answer = decode(completion.body)
            except Tok0nError as failure:
                error = failure
            except Exception:
                log.exception("unexpected_error", request=call.request_id)
                error = AccountingFailed(upstream_called=call.upstream_ms is not None, detail="unexpected error")
        self._caller_cache.mark_used(key.caller)
        status = 200 if error is None else self._status_of(error)
        seconds = self._ports.clock.monotonic() - call.started
        self._request_log.write(call, status=status, error=error, seconds=seconds)
        return _Sent(status=status, call=call, answer=answer, error=error)

    async def _page(
        self,
        page: PageRequest,
        *,
        status: int = 200,
        bound: int | None = None,
        sent: "_Sent | None" = None,
        form_error: FormError | None = None,
    ) -> Response:
        now_us = self._ports.clock.now_us()
        sent = sent or _Sent(status=status)
        return page.render(
            "playground.html",
            status=status,
            keys=[key for key in await self._ports.keys(page) if key.works(now_us)],
            models=self._ports.catalogue.listed(),
            balance=await self._ports.history.balance(page.account_id),
            suggested_output=OUTPUT_TOKENS,
            bound=bound,
            said="",
            call=sent.call,
            answer=None if sent.answer is None else _said(sent.answer),
            error=sent.error,
            repeated_id=sent.repeated_id,
            repeated=await self._receipt(page, sent.repeated_id),
            form_error=form_error,
        )

    async def _receipt(self, page: PageRequest, request_id: str | None) -> RequestRecord | None:
        """The request that the same form sent before; None if it was rejected before anything was reserved."""
        if request_id is None:
            return None
        try:
            return await self._ports.history.request(page.account_id, request_id)
        except NotFound:
            return None

    async def _key(self, page: PageRequest) -> ApiKey:
        """The key that the call is made as. Raises `FormError`."""
        now_us = self._ports.clock.now_us()
        for key in await self._ports.keys(page):
            if key.id == page.form.get("key") and key.works(now_us):
                return key
        raise FormError("Choose an active key.", field="key")


class _Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came of sending a form: the request and its answer, or the id of the request that the form sent before."""

    status: int
    call: Call | None = None
    answer: dict[str, Any] | None = None
    error: Tok0nError | None = None
    repeated_id: str | None = None


def _body(form: dict[str, str]) -> bytes:
    """The request, as an SDK would send it. Raises `FormError`."""
    messages = [{"role": role, "content": form[role]} for role in ("system", "user") if form.get(role, "").strip()]
    if not form.get("user", "").strip():
        raise FormError("Enter a message.", field="user")
    body: dict[str, object] = {"model": form.get("model", ""), "messages": messages}
    limit = form.get("limit", "").strip()
    if limit:
        if not (limit.isascii() and limit.isdecimal()):
            raise FormError("Enter the output limit as a whole number of tokens.", field="limit")
        body["max_completion_tokens"] = int(limit[:20])
    return msgspec.json.encode(body)


def _said(answer: dict[str, Any]) -> str:
    """The text of an answer; what is no text is shown as JSON. Half a surrogate pair is shown as a question mark."""
    message = answer["choices"][0]["message"]
    content = message.get("content")
    try:
        text = content if isinstance(content, str) else json.dumps(message, indent=2, ensure_ascii=False)
    except RecursionError:
        text = "This response is nested too deeply to display."
    return text.encode(errors="replace").decode()
