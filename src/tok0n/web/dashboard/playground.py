"""The playground: try a model in the browser, with the token bound before the request and the receipt after it."""

import json
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.errors import InvalidRequest, LimitReached, NotFound, Overloaded
from tok0n.domain.history import RequestRecord
from tok0n.domain.metered_request import MeteredRequest
from tok0n.services.forms import new_form_id
from tok0n.services.passwords import FormError
from tok0n.services.playground import Playground, PlaygroundResult
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.dashboard.submissions import form_error_of, submission_of
from tok0n.web.rendering.endpoints import GET_POST, POST, page_route
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.pushed_response import PushedResponse

OUTPUT_TOKENS = 500
"""The output limit that the form suggests."""


def playground_routes(context: PageContext, dashboard: DashboardContext, playground: Playground) -> list[Route]:
    """Return the routes of the playground and its bound."""
    pages = _PlaygroundPages(dashboard, playground)
    path = "/dashboard/playground"
    return [
        page_route(context, path, pages.playground, methods=GET_POST),
        page_route(context, f"{path}/bound", pages.bound, methods=POST),
        page_route(context, f"{path}/stream", pages.stream, methods=POST),
    ]


class _PlaygroundPages:
    def __init__(self, dashboard: DashboardContext, playground: Playground) -> None:
        self._dashboard = dashboard
        self._playground = playground

    async def playground(self, page: PageRequest) -> Response:
        if not page.is_post:
            return await self._page(page)
        try:
            body = _body(page.form)
            request = await self._estimate(page, body)
            if "send" not in page.form:
                return await self._page(page, bound=request.bound)
            submission = submission_of(page, "playground", field="user")
            result = await self._playground.send(
                submission, page.form.get("key", ""), body, find_client_ip=page.client_ip
            )
        except InvalidRequest as error:
            return await self._page(page, form_error=form_error_of(error))
        except Overloaded as overload:
            return await self._page(page, status=503, form_error=FormError(overload.message, field="user"))
        return await self._page(page, status=result.status, bound=request.bound, result=result)

    async def stream(self, page: PageRequest) -> Response:
        """Stream the response to the page's script. An error before the stream is the whole page."""
        try:
            body = _body(page.form, stream=True)
            request = await self._estimate(page, body)
            submission = submission_of(page, "playground", field="user")
            result = await self._playground.stream(
                submission, page.form.get("key", ""), body, find_client_ip=page.client_ip
            )
        except InvalidRequest as error:
            return await self._page(page, form_error=form_error_of(error))
        except Overloaded as overload:
            return await self._page(page, status=503, form_error=FormError(overload.message, field="user"))
        if result.stream is None:
            return await self._page(page, status=result.status, bound=request.bound, result=result)
        assert result.call is not None
        headers = {"x-tok0n-request-id": result.call.request_id, "x-tok0n-form-id": new_form_id()}
        return PushedResponse(result.stream.body, headers)

    async def bound(self, page: PageRequest) -> Response:
        """Render only the bound, which the page requests while the user types."""
        try:
            request = await self._estimate(page, _body(page.form))
        except (FormError, Overloaded) as error:
            return page.render("bound.html", bound=None, status_text=error.message)
        return page.render("bound.html", bound=request.bound, status_text="")

    async def _estimate(self, page: PageRequest, body: bytes) -> MeteredRequest:
        """Read and bound the form's request. Raises `FormError` and `Overloaded`."""
        try:
            return await self._playground.estimate(page.account_id, body)
        except InvalidRequest as error:
            raise form_error_of(error, field="user") from None
        except LimitReached as limit:
            raise FormError(limit.message, field="user") from None

    async def _page(
        self,
        page: PageRequest,
        *,
        status: int | None = None,
        bound: int | None = None,
        result: PlaygroundResult | None = None,
        form_error: FormError | None = None,
    ) -> Response:
        result = result or PlaygroundResult(status=200)
        return page.render(
            "playground.html",
            status=status,
            keys=await self._dashboard.api_keys.active(page.account_id),
            models=self._dashboard.catalogue.listed(),
            balance=await self._dashboard.history.balance(page.account_id),
            suggested_output=OUTPUT_TOKENS,
            bound=bound,
            status_text="",
            call=result.call,
            answer=None if result.answer is None else _text_of(result.answer),
            error=result.error,
            repeated_id=result.repeated_id,
            repeated=await self._receipt(page, result.repeated_id),
            form_error=form_error,
        )

    async def _receipt(self, page: PageRequest, request_id: str | None) -> RequestRecord | None:
        """Return the record of a request. None without an id, or if the request was rejected before a reservation."""
        if request_id is None:
            return None
        try:
            return await self._dashboard.history.request(page.account_id, request_id)
        except NotFound:
            return None


def _body(form: dict[str, str], *, stream: bool = False) -> bytes:
    """Return the request body, as an SDK would send it. Raises `FormError`."""
    messages = [{"role": role, "content": form[role]} for role in ("system", "user") if form.get(role, "").strip()]
    if not form.get("user", "").strip():
        raise FormError("Enter a message.", field="user")
    body: dict[str, object] = {"model": form.get("model", ""), "messages": messages}
    limit = form.get("limit", "").strip()
    if limit:
        if not (limit.isascii() and limit.isdecimal()):
            raise FormError("Enter the output limit as a whole number of tokens.", field="limit")
        body["max_completion_tokens"] = int(limit[:20])
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body)


def _text_of(answer: dict[str, Any]) -> str:
    """Return the text of a response, or its message as JSON if it has none. Lone surrogates become question marks."""
    message = answer["choices"][0]["message"]
    content = message.get("content")
    try:
        text = content if isinstance(content, str) else json.dumps(message, indent=2, ensure_ascii=False)
    except RecursionError:
        text = "This response is nested too deeply to display."
    return text.encode(errors="replace").decode()
