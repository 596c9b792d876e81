"""The landing page with models, prices and limits, and /llms.txt."""

from collections.abc import Iterable, Sequence

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tok0n.domain.packs import Pack
from tok0n.domain.rate_limit import Limits
from tok0n.domain.token_classes import TokenClasses
from tok0n.services.catalogue import Catalogue, ListedModel
from tok0n.web.public.docs import GUIDE
from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.pack_groups import packs_by_class
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

_LLMS = """\
# Tok0n

> A prepaid, OpenAI-compatible LLM gateway. Base URL: {base_url}. Send `Authorization: Bearer $TOK0N_API_KEY`.
> Chat completions only. One purchased token pays for one token that the model reports. Tokens are reserved before each
> request. Tokens that the model reports are billed, and the rest are released. Failed requests aren't billed.

Available models: {models}. `stream: true` works with: {streaming}. With any other model, it is rejected.{classes}

## Docs

{docs}

## Interfaces

- [OpenAPI]({public_url}/openapi.json)
- [Models]({base_url}/models)
"""


def landing_routes(
    context: PageContext,
    *,
    catalogue: Catalogue,
    token_classes: TokenClasses,
    packs: Sequence[Pack],
    limits: Limits,
    sells: bool,
) -> list[Route]:
    """Return the routes of / and /llms.txt."""
    classes = token_classes.titles() if token_classes.are_several() else {}

    async def landing(page_request: PageRequest) -> Response:
        models = catalogue.listed()
        return page_request.render(
            "landing.html",
            models=models,
            packs_by_class=packs_by_class(packs, token_classes),
            classes=classes,
            limits=limits,
            sells=sells,
            is_open=context.sign_in.is_open,
        )

    async def llms(page_request: PageRequest) -> Response:
        del page_request
        models = catalogue.listed()
        docs = "\n".join(f"- [{page.title}]({context.public_url}/docs/{page.slug}.md): {page.about}" for page in GUIDE)
        base_url = f"{context.public_url}/v1"
        text = _LLMS.format(
            base_url=base_url,
            public_url=context.public_url,
            models=_ids(models),
            classes=_classes(models) if classes else "",
            streaming=_ids(model for model in models if model.streaming_endpoints),
            docs=docs,
        )
        return PlainTextResponse(text, media_type="text/plain; charset=utf-8")

    return [page_route(context, "/", landing), page_route(context, "/llms.txt", llms)]


def _ids(models: Iterable[ListedModel]) -> str:
    return ", ".join(f"`{model.id}`" for model in models) or "none"


def _classes(models: Iterable[ListedModel]) -> str:
    """Return a sentence that says which tokens pay for which models."""
    by_class: dict[str, list[ListedModel]] = {}
    for model in models:
        by_class.setdefault(model.token_class, []).append(model)
    pairs = "; ".join(f"`{token_class}` for {_ids(group)}" for token_class, group in by_class.items())
    return f" A request pays with tokens of its model's class: {pairs}." if pairs else ""
