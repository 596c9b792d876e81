"""The playground: try a model in the browser, with the token bound before the request and the receipt after it."""

import json

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.example import Example, Output
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
from tok0n.web.rendering.snippets import ServedEndpoint, Snippets, find_served, make_snippets

OUTPUT_TOKENS = 500
"""The output limit that the form suggests."""


def playground_routes(context: PageContext, dashboard: DashboardContext, playground: Playground) -> list[Route]:
    """Return the routes of the playground and its bound."""
    pages = _PlaygroundPages(dashboard, playground)
    path = "/dashboard/playground"
    return [
        page_route(context, path, pages.playground, methods=GET_POST, needs_open_account=True),
        page_route(context, f"{path}/bound", pages.bound, methods=POST, needs_open_account=True),
        page_route(context, f"{path}/stream", pages.stream, methods=POST, needs_open_account=True),
    ]


class _PlaygroundPages:
    def __init__(self, dashboard: DashboardContext, playground: Playground) -> None:
        self._dashboard = dashboard
        self._playground = playground

    async def playground(self, page: PageRequest) -> Response:
        if not page.is_post or "switch" in page.form:
            return await self._page(page)
        try:
            served = self._served(page)
            body = _body(page.form, served.example)
            request = await self._estimate(page, served.endpoint, body)
            if "send" not in page.form:
                return await self._page(page, bound=request.bound)
            submission = submission_of(page, "playground", field="user")
            result = await self._playground.send(
                submission, served.endpoint, page.form.get("key", ""), body, find_client_ip=page.client_ip
            )
        except InvalidRequest as error:
            return await self._page(page, form_error=form_error_of(error))
        except Overloaded as overload:
            return await self._page(page, status=503, form_error=FormError(overload.message, field="user"))
        output = None if result.answer is None else served.example.read_output(result.answer)
        return await self._page(page, status=result.status, bound=request.bound, result=result, output=output)

    async def stream(self, page: PageRequest) -> Response:
        """Stream the response to the page's script. An error before the stream is the whole page."""
        try:
            served = self._served(page)
            body = _body(page.form, served.example, stream=True)
            request = await self._estimate(page, served.endpoint, body)
            submission = submission_of(page, "playground", field="user")
            result = await self._playground.stream(
                submission, served.endpoint, page.form.get("key", ""), body, find_client_ip=page.client_ip
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
            served = self._served(page)
            request = await self._estimate(page, served.endpoint, _body(page.form, served.example))
        except (FormError, Overloaded) as error:
            return page.render("bound.html", bound=None, status_text=error.message)
        return page.render("bound.html", bound=request.bound, status_text="")

    def _served(self, page: PageRequest) -> ServedEndpoint:
        """Return the endpoint of the form, or the first one. Raises `FormError` if no listed model serves it."""
        served = _choose(find_served(self._dashboard.catalogue), page.form.get("endpoint", ""))
        if served is None:
            raise FormError("No model serves this endpoint right now. Choose another endpoint.", field="user")
        return served

    async def _estimate(self, page: PageRequest, endpoint: Endpoint, body: bytes) -> MeteredRequest:
        """Read and bound the form's request. Raises `FormError` and `Overloaded`."""
        try:
            return await self._playground.estimate(page.account_id, endpoint, body)
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
        output: Output | None = None,
        form_error: FormError | None = None,
    ) -> Response:
        result = result or PlaygroundResult(status=200)
        offered = find_served(self._dashboard.catalogue)
        name = page.form.get("switch") or page.form.get("endpoint") or page.query("endpoint")
        served = _choose(offered, name) or next(iter(offered), None)
        return page.render(
            "playground.html",
            status=status,
            keys=await self._dashboard.api_keys.active(page.account_id),
            classes=await self._dashboard.classes(page),
            offered=offered,
            served=served,
            snippets=None if served is None else self._snippets(page, served),
            suggested_output=OUTPUT_TOKENS,
            bound=bound,
            status_text="",
            call=result.call,
            answer=None if output is None else _text_of(output),
            counts=() if output is None else output.counts,
            error=result.error,
            repeated_id=result.repeated_id,
            repeated=await self._receipt(page, result.repeated_id),
            form_error=form_error,
        )

    def _snippets(self, page: PageRequest, served: ServedEndpoint) -> Snippets | None:
        """Return example code with the chosen model, without the texts of the form. None if all models are for chat."""
        if not self._dashboard.catalogue.has_endpoints:
            return None
        ids = [model.id for model in served.models]
        selected = page.form.get("model", "")
        return make_snippets(served.endpoint, page.context.base_url, model=selected if selected in ids else ids[0])

    async def _receipt(self, page: PageRequest, request_id: str | None) -> RequestRecord | None:
        """Return the record of a request. None without an id, or if the request was rejected before a reservation."""
        if request_id is None:
            return None
        try:
            return await self._dashboard.history.request(page.account_id, request_id)
        except NotFound:
            return None


def _choose(offered: list[ServedEndpoint], name: str) -> ServedEndpoint | None:
    """Return the endpoint with a name, or the first one without a name. None if it is not offered."""
    return next((served for served in offered if name in ("", served.name)), None)


def _body(form: dict[str, str], example: Example, *, stream: bool = False) -> bytes:
    """Return the request body, as an SDK would send it. Raises `FormError`."""
    noun = example.form.text_noun
    text = form.get("user", "")
    if not text.strip():
        raise FormError(f"Enter a {noun}.", field="user")
    limit = form.get("limit", "").strip() if example.form.has_limit else ""
    if limit and not (limit.isascii() and limit.isdecimal()):
        raise FormError("Enter the output limit as a whole number of tokens.", field="limit")
    if example.form.needs_limit and not limit:
        raise FormError("Enter an output limit. This endpoint requires one.", field="limit")
    system = form.get("system", "") if example.form.system_label else ""
    body = example.make_request(
        model=form.get("model", ""),
        text=text,
        system=system if system.strip() else "",
        output_tokens=int(limit[:20]) if limit else None,
    )
    return msgspec.json.encode(body | ({"stream": True} if stream else {}))


def _text_of(output: Output) -> str:
    """Return the text of a response, or its JSON if it has none. Lone surrogates become question marks."""
    content = output.content
    try:
        text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
    except RecursionError:
        text = "This response is nested too deeply to display."
    return text.encode(errors="replace").decode()
