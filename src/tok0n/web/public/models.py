"""The public pages of models: /models, and one page for each listed model."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import NotFound
from tok0n.domain.ledger import MICROSECONDS_PER_SECOND
from tok0n.domain.model_days import LATENCY_DAYS, REQUESTS_MIN
from tok0n.domain.token_classes import TokenClasses
from tok0n.ports.clock import Clock
from tok0n.services.public_models import PublicModel, PublicModels
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route
from tok0n.web.rendering.snippets import make_snippets

GOOD_PERMILLE = 995
"""A day with at least this availability counts as good."""


def model_page_routes(
    context: PageContext,
    *,
    models: PublicModels,
    token_classes: TokenClasses,
    endpoints: Sequence[Endpoint],
    clock: Clock,
) -> list[Route]:
    """Return the routes of /models and /models/ID. `endpoints` are those whose paths exist."""
    classes = token_classes.titles() if token_classes.are_several() else {}

    async def all_models(page: PageRequest) -> Response:
        return page.render("models.html", models=await models.list_all(), classes=classes, percent=percent)

    async def one_model(page: PageRequest) -> Response:
        try:
            public_model = await models.get(page.request.path_params["model"])
        except NotFound:
            return page.message("Model not found", "This server doesn't list this model now.", status=404)
        served = [endpoint for endpoint in endpoints if endpoint.name in public_model.model.endpoints]
        paths = {endpoint.name: endpoint.path for endpoint in served}
        return page.render(
            "model.html",
            checks=[(paths[check.endpoint], check) for check in public_model.checks if check.endpoint in paths],
            public_model=public_model,
            model=public_model.model,
            classes=classes,
            endpoints=served,
            snippets=[
                make_snippets(endpoint, context.base_url, model=public_model.model.id)
                for endpoint in served
                if endpoint.example is not None
            ],
            bars=_bars(public_model, today=datetime.fromtimestamp(clock.now_us() / MICROSECONDS_PER_SECOND, UTC)),
            percent=percent,
            latency_days=LATENCY_DAYS,
            requests_min=REQUESTS_MIN,
        )

    return [page_route(context, "/models", all_models), page_route(context, "/models/{model:path}", one_model)]


def percent(permille: int | None) -> str:
    """Format an availability in thousandths, such as 99.8%."""
    return "\N{EN DASH}" if permille is None else f"{permille // 10}.{permille % 10}%"


def _bars(model: PublicModel, *, today: datetime) -> Markup:
    """Draw the availability of each day as a bar, whose height and pattern show which days had failures."""
    label = f"Availability in the last {len(model.days)} days: {percent(model.availability_permille)}"
    parts = [f'<svg class="days" role="img" aria-label="{escape(label)}">']
    slot = 100 / len(model.days)
    for index, permille in enumerate(model.days):
        day = today - timedelta(days=len(model.days) - 1 - index)
        css = "none" if permille is None else "good" if permille >= GOOD_PERMILLE else "bad"
        height = {"none": 8, "good": 100, "bad": 60}[css]
        text = f"{day:%a %d %b %Y}: {'no data' if permille is None else percent(permille)}"
        parts.append(
            f'<rect class="{css}" x="{index * slot:.3f}%" y="{100 - height}%" width="{slot * 0.72:.3f}%"'
            f' height="{height}%"><title>{text}</title></rect>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704  the parts are escaped
