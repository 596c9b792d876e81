"""The landing page with models, prices and limits, and /llms.txt."""

from collections.abc import Iterable, Sequence

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.packs import Pack
from tok0n.domain.rate_limit import RateLimits
from tok0n.domain.token_classes import TokenClasses
from tok0n.services.catalogue import Catalogue, ListedModel
from tok0n.web.public.guide import guide_of
from tok0n.web.rendering.pack_groups import packs_by_class
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route
from tok0n.web.rendering.snippets import snippets_of

_LLMS = """\
# {name}

> A prepaid, {sdks}-compatible LLM gateway. Base URL: {base_url}. Send `Authorization: Bearer $TOK0N_API_KEY`.
> {endpoints} One purchased token pays for one token that the model reports. Tokens are reserved before each
> request. Tokens that the model reports are billed, and the rest are released. Failed requests aren't billed.

{models}

## Docs

{docs}

## Interfaces

- [OpenAPI]({public_url}/openapi.json)
- [Models]({base_url}/models), and [a page about them]({public_url}/models)
"""
_CHAT_ALONE = "Chat completions only."
_ENDPOINTS = "A model serves only the endpoints that are listed with it."


def landing_routes(
    context: PageContext,
    *,
    catalogue: Catalogue,
    token_classes: TokenClasses,
    endpoints: Sequence[Endpoint],
    packs: Sequence[Pack],
    limits: RateLimits,
    sells: bool,
) -> list[Route]:
    """Return the routes of / and /llms.txt. `endpoints` are those whose paths exist."""
    classes = token_classes.titles() if token_classes.are_several() else {}

    async def landing(page_request: PageRequest) -> Response:
        snippets = snippets_of(catalogue, context.base_url)
        return page_request.render(
            "landing.html",
            models=catalogue.listed(),
            has_endpoints=catalogue.has_endpoints,
            snippets=snippets,
            sdks=_sdks(snippet.sdk for snippet in snippets),
            packs_by_class=packs_by_class(packs, token_classes),
            classes=classes,
            limits=limits,
            sells=sells,
            is_open=context.sign_in.is_open,
        )

    async def llms(page_request: PageRequest) -> Response:
        del page_request
        guide = guide_of(endpoints)
        docs = "\n".join(f"- [{page.title}]({context.public_url}/docs/{page.slug}.md): {page.about}" for page in guide)
        text = _LLMS.format(
            name=context.brand.name,
            sdks="- and ".join(_sdks(snippet.sdk for snippet in snippets_of(catalogue, context.base_url))),
            base_url=context.base_url,
            public_url=context.public_url,
            endpoints=_ENDPOINTS if catalogue.has_endpoints else _CHAT_ALONE,
            models=_describe_models(catalogue, endpoints) + (_classes(catalogue.listed()) if classes else ""),
            docs=docs,
        )
        return PlainTextResponse(text, media_type="text/plain; charset=utf-8")

    return [page_route(context, "/", landing), page_route(context, "/llms.txt", llms)]


def _describe_models(catalogue: Catalogue, endpoints: Sequence[Endpoint]) -> str:
    """Return the listed models, those that stream, and, if some serve more than chat, the same for each endpoint."""
    models = catalogue.listed()
    streaming = _ids(model for model in models if model.streaming_endpoints)
    if not catalogue.has_endpoints:
        return (
            f"Available models: {_ids(models)}. `stream: true` works with: {streaming}."
            " With any other model, it is rejected."
        )
    lines = [f"Available models: {_ids(models)}.", "", "## Endpoints", ""]
    for endpoint in endpoints:
        serving = catalogue.models_serving(endpoint)
        if serving:
            lines.append(f"- `POST {endpoint.path}`: {_ids(serving)}.{_describe_streams(endpoint, serving)}")
    return "\n".join(lines)


def _describe_streams(endpoint: Endpoint, models: Sequence[Model]) -> str:
    if endpoint.read_stream is None:
        return ""
    streaming = _ids(model for model in models if endpoint.name in model.streaming_endpoints)
    return f" `stream: true` works with: {streaming}."


def _ids(models: Iterable[ListedModel | Model]) -> str:
    return ", ".join(f"`{model.id}`" for model in models) or "none"


def _classes(models: Iterable[ListedModel]) -> str:
    """Return a paragraph that says which tokens pay for which models."""
    by_class: dict[str, list[ListedModel]] = {}
    for model in models:
        by_class.setdefault(model.token_class, []).append(model)
    pairs = "; ".join(f"`{token_class}` for {_ids(group)}" for token_class, group in by_class.items())
    return f"\n\nA request pays with tokens of its model's class: {pairs}." if pairs else ""


def _sdks(names: Iterable[str]) -> list[str]:
    """Return each name once, in this order."""
    return list(dict.fromkeys(names))
