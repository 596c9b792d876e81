"""The playground: a conversation with a model, with the token bound before each request and the receipt after it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.accounts import ApiKey
from tok0n.domain.catalogue import Model
from tok0n.domain.conversation import Exchange, read_conversation, write_conversation
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import InvalidRequest, KeyNotAllowed, LimitReached, NotFound, Overloaded
from tok0n.domain.history import RequestRecord
from tok0n.domain.ledger import RequestStatus
from tok0n.domain.metered_request import MeteredRequest
from tok0n.services.forms import new_form_id
from tok0n.services.passwords import FormError
from tok0n.services.playground import Playground, PlaygroundResult
from tok0n.services.playground_choices import suggest_key, suggest_model
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.dashboard.playground_form import (
    ExchangeView,
    exchanges_of,
    find_selected,
    output_text,
    read_body,
    read_shown_body,
    views_of,
)
from tok0n.web.dashboard.submissions import form_error_of, submission_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, POST, page_route
from tok0n.web.rendering.pushed_response import PushedResponse
from tok0n.web.rendering.snippets import ServedEndpoint, Snippets, find_served, make_snippets

OUTPUT_TOKENS = 500
"""The output limit that the form suggests, unless the model's is lower."""

COSTS_MAX = 100
"""How many exchanges of a page show their cost."""

PATH = "/dashboard/playground"


def playground_routes(context: PageContext, dashboard: DashboardContext, playground: Playground) -> list[Route]:
    """Return the routes of the playground, and of the parts that its script requests."""
    pages = _PlaygroundPages(dashboard, playground)
    return [
        page_route(context, PATH, pages.playground, methods=GET_POST, needs_open_account=True),
        page_route(context, f"{PATH}/bound", pages.bound, methods=POST, needs_open_account=True),
        page_route(context, f"{PATH}/stream", pages.stream, methods=POST, needs_open_account=True),
        page_route(context, f"{PATH}/exchange", pages.exchange, methods=POST),
    ]


class _PlaygroundPages:
    def __init__(self, dashboard: DashboardContext, playground: Playground) -> None:
        self._dashboard = dashboard
        self._playground = playground

    async def playground(self, page: PageRequest) -> Response:
        if not page.is_post:
            return await self._page(page)
        if changed := _without_sending(page.form):
            return await self._page(page, form=changed)
        try:
            served = self._served(page)
            body = msgspec.json.encode(read_body(page.form, served.example))
            request = await self._estimate(page, served.endpoint, body)
            if "send" not in page.form:
                return await self._page(page, bound=request.bound)
            submission = submission_of(page, "playground", field="form")
            result = await self._playground.send(
                submission, served.endpoint, page.form.get("key", ""), body, find_client_ip=page.client_ip
            )
        except InvalidRequest as error:
            return await self._page(page, form_error=form_error_of(error))
        except Overloaded as overload:
            return await self._page(page, status=503, form_error=FormError(overload.message, field="form"))
        return await self._page_of_result(page, served, result)

    async def stream(self, page: PageRequest) -> Response:
        """Stream the response to the page's script. An error before the stream is the whole page."""
        try:
            served = self._served(page)
            body = msgspec.json.encode(read_body(page.form, served.example) | {"stream": True})
            await self._estimate(page, served.endpoint, body)
            submission = submission_of(page, "playground", field="form")
            result = await self._playground.stream(
                submission, served.endpoint, page.form.get("key", ""), body, find_client_ip=page.client_ip
            )
        except InvalidRequest as error:
            return await self._page(page, form_error=form_error_of(error))
        except Overloaded as overload:
            return await self._page(page, status=503, form_error=FormError(overload.message, field="form"))
        if result.stream is None:
            return await self._page_of_result(page, served, result)
        assert result.call is not None
        headers = {
            "x-tok0n-request-id": result.call.request_id,
            "x-tok0n-reserved": str(result.call.reserved),
            "x-tok0n-form-id": new_form_id(),
        }
        return PushedResponse(result.stream.body, headers)

    async def bound(self, page: PageRequest) -> Response:
        """Render only the bound and the code, which the page requests while the user types."""
        bound, status_text = None, ""
        served = None
        try:
            served = self._served(page)
            body = msgspec.json.encode(read_body(page.form, served.example))
            bound = (await self._estimate(page, served.endpoint, body)).bound
        except (FormError, Overloaded) as error:
            status_text = error.message if page.form.get("user", "").strip() else ""
        return page.render(
            "playground_draft.html",
            served=served,
            bound=bound,
            usd_micros=await self._price(page, page.form.get("model", ""), bound),
            available=await self._available(page, None if served is None else page.form.get("model", "")),
            status_text=status_text,
            snippets=None if served is None else _snippets(page, served, page.form),
        )

    async def exchange(self, page: PageRequest) -> Response:
        """Render one exchange for the page's script. If its bill was unknown, look it up."""
        try:
            (exchange,) = read_conversation(page.form.get("exchange", ""))
        except (InvalidRequest, ValueError):
            return page.error(400, "We couldn't read this message.")
        number = page.form.get("number", "")
        is_number = number.isascii() and number.isdecimal() and len(number) <= len("1000")
        costs = await self._costs(page, [exchange])
        view = ExchangeView(
            exchange=await self._with_bill(page, exchange),
            number=int(number) if is_number else 1,
            usd_micros=costs.get(exchange.request_id),
        )
        return page.render("playground_exchange.html", view=view, is_last=True)

    async def _with_bill(self, page: PageRequest, exchange: Exchange) -> Exchange:
        if exchange.charged is not None:
            return exchange
        record = await self._record(page, exchange.request_id)
        if record is None or record.status == RequestStatus.PENDING:
            return exchange
        return msgspec.structs.replace(exchange, charged=record.charged, reserved=record.reserved)

    def _served(self, page: PageRequest) -> ServedEndpoint:
        """Return the endpoint of the form, or the first one. Raises `FormError` if no listed model serves it."""
        served = _choose(find_served(self._dashboard.catalogue), page.form.get("endpoint", ""))
        if served is None:
            raise FormError("No model serves this endpoint right now. Choose another endpoint.", field="model")
        return served

    async def _estimate(self, page: PageRequest, endpoint: Endpoint, body: bytes) -> MeteredRequest:
        """Read and bound the form's request. Raises `FormError` and `Overloaded`."""
        assert endpoint.example is not None
        try:
            return await self._playground.estimate(page.account_id, endpoint, body)
        except InvalidRequest as error:
            raise form_error_of(error, field=endpoint.example.form.input_of(error.param)) from None
        except LimitReached as limit:
            raise FormError(limit.message, field="form") from None

    async def _page_of_result(self, page: PageRequest, served: ServedEndpoint, result: PlaygroundResult) -> Response:
        """Return the page with the response, or with the error and the text that was typed."""
        if isinstance(result.error, KeyNotAllowed):
            return await self._page(page, status=result.status, form_error=FormError(result.error.message, field="key"))
        if result.answer is None or result.call is None or result.call.receipt is None:
            return await self._page(page, status=result.status, result=result)
        output = served.example.read_output(result.answer)
        receipt = result.call.receipt
        exchange = Exchange(
            user=page.form["user"],
            assistant=output_text(output),
            model=page.form.get("model", ""),
            request_id=result.call.request_id,
            reserved=receipt.reserved,
            charged=receipt.charged,
        )
        if not served.example.form.has_turns:
            usd_micros = (await self._costs(page, [exchange])).get(exchange.request_id)
            view = ExchangeView(
                exchange=exchange, number=1, usd_micros=usd_micros, is_markdown=False, counts=output.counts
            )
            return await self._page(page, views=[view])
        conversation = write_conversation([*exchanges_of(page.form), exchange])
        return await self._page(page, form=page.form | {"conversation": conversation, "user": ""})

    async def _page(
        self,
        page: PageRequest,
        *,
        status: int | None = None,
        form: dict[str, str] | None = None,
        bound: int | None = None,
        result: PlaygroundResult | None = None,
        views: Sequence[ExchangeView] | None = None,
        form_error: FormError | None = None,
    ) -> Response:
        form = page.form if form is None else form
        result = result or PlaygroundResult(status=200)
        offered = find_served(self._dashboard.catalogue)
        name = form.get("switch") or form.get("endpoint") or page.query("endpoint")
        served = _choose(offered, name) or next(iter(offered), None)
        keys = await self._dashboard.api_keys.active(page.account_id)
        model = None if served is None else await self._model(page, form, served)
        if served is not None and model is not None:
            form = _with_defaults(form, served, model, keys)
        if views is None:
            has_log = served is not None and served.example.form.has_turns
            exchanges = exchanges_of(form) if has_log else ()
            views = views_of(exchanges, await self._costs(page, exchanges))
        return page.render(
            "playground.html",
            status=status,
            form=form,
            keys=keys,
            classes=await self._dashboard.class_titles(page),
            offered=offered,
            served=served,
            views=views,
            conversation=write_conversation(exchanges_of(form)),
            snippets=None if served is None else _snippets(page, served, form),
            bound=bound,
            usd_micros=None if model is None else await self._price(page, model.id, bound),
            available=await self._available(page, None if model is None else model.id),
            status_text="",
            call=result.call,
            error=result.error,
            repeated_id=result.repeated_id,
            repeated=None if result.repeated_id is None else await self._record(page, result.repeated_id),
            form_error=form_error,
            token_source=await self._dashboard.token_sources.find(None if model is None else model.token_class),
        )

    async def _model(self, page: PageRequest, form: Mapping[str, str], served: ServedEndpoint) -> Model:
        selected = find_selected(form, served) or page.query("model")
        model = next((model for model in served.models if model.id == selected), None)
        return model or await suggest_model(self._dashboard.history, page.account_id, served.models)

    async def _available(self, page: PageRequest, model_id: str | None) -> int | None:
        """Return the tokens that the account has available for a model. None without a listed model."""
        model = None if model_id is None else self._dashboard.catalogue.find(model_id)
        if model is None:
            return None
        wallets = await self._dashboard.history.wallets(page.account_id)
        return wallets[model.token_class].available if model.token_class in wallets else 0

    async def _price(self, page: PageRequest, model_id: str, tokens: int | None) -> int | None:
        """Return the cost of the next tokens for a model in micro-dollars. None if they have no price."""
        model = self._dashboard.catalogue.find(model_id)
        if model is None or tokens is None:
            return None
        return await self._dashboard.costs.estimate(page.account_id, token_class=model.token_class, tokens=tokens)

    async def _costs(self, page: PageRequest, exchanges: Sequence[Exchange]) -> dict[str, int]:
        """Return the costs of the newest exchanges in micro-dollars, by request id."""
        ids = [exchange.request_id for exchange in exchanges[-COSTS_MAX:]]
        return await self._dashboard.costs.request_costs(page.account_id, ids)

    async def _record(self, page: PageRequest, request_id: str) -> RequestRecord | None:
        """Return the record of a request. None if the request was rejected before a reservation."""
        try:
            return await self._dashboard.history.request(page.account_id, request_id)
        except NotFound:
            return None


def _without_sending(form: Mapping[str, str]) -> dict[str, str] | None:
    """Return the form after a button that sends nothing: another endpoint, a new conversation, or the last text."""
    if "switch" in form:
        return dict(form)
    if "new" in form:
        return {**form, "conversation": ""}
    exchanges = exchanges_of(form)
    if "edit" in form and exchanges:
        return {**form, "conversation": write_conversation(exchanges[:-1]), "user": exchanges[-1].user}
    return None


def _with_defaults(
    form: Mapping[str, str], served: ServedEndpoint, model: Model, keys: Sequence[ApiKey]
) -> dict[str, str]:
    """Return the form with a model, a key that may call it, and an output limit where it has none."""
    defaults = {"limit": str(min(OUTPUT_TOKENS, model.max_output_tokens)), "temperature": "", "system": "", "user": ""}
    filled: dict[str, Any] = {**defaults, **form, "model": model.id}
    if not any(key.id == form.get("key") for key in keys):
        key = suggest_key(keys, endpoint=served.name, model=model.id)
        filled["key"] = "" if key is None else key.id
    return filled


def _snippets(page: PageRequest, served: ServedEndpoint, form: Mapping[str, str]) -> Snippets | None:
    """Return the code that sends the conversation of the form. None if a field of it is invalid."""
    try:
        body = read_shown_body(form, served.example)
    except FormError:
        return None
    return make_snippets(served.endpoint, page.context.base_url, body=body)


def _choose(offered: list[ServedEndpoint], name: str) -> ServedEndpoint | None:
    """Return the endpoint with a name, or the first one without a name. None if it is not offered."""
    return next((served for served in offered if name in ("", served.name)), None)
