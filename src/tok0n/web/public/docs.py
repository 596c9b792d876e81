"""The documentation for customers: the guide as pages and as Markdown, and its search."""

import asyncio
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.services.catalogue import Catalogue
from tok0n.web.public.guide import BY_SLUG, GUIDE, Guide
from tok0n.web.public.guide_rendering import render
from tok0n.web.public.guide_search import QUERY_CHARACTERS_MAX, GuideSearch
from tok0n.web.public.guide_values import ServerFacts
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route


def docs_routes(
    context: PageContext, *, catalogue: Catalogue, endpoints: Sequence[Endpoint], facts: ServerFacts
) -> list[Route]:
    """Return the routes of /docs, /docs/PAGE, /docs/PAGE.md and /docs/search. `endpoints` are those that exist."""
    guide = Guide(
        site_name=context.brand.name,
        public_url=context.public_url,
        catalogue=catalogue,
        endpoints=endpoints,
        values=facts.values,
        features=facts.features,
    )
    search_index = GuideSearch(guide)

    async def docs(page_request: PageRequest) -> Response:
        slug = page_request.request.path_params.get("slug", GUIDE[0].slug)
        is_markdown = slug.endswith(".md")
        page = BY_SLUG.get(slug.removesuffix(".md"))
        if page is None:
            raise HTTPException(404)
        text = guide.text(page)
        if is_markdown:
            return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")
        rendered = render(text, context.prefix)
        before, after = guide.neighbors(page)
        return page_request.render(
            "docs.html",
            page=page,
            guide=guide.pages,
            content=rendered.html,
            contents=rendered.contents,
            before=before,
            after=after,
            query="",
        )

    async def search(page_request: PageRequest) -> Response:
        query = page_request.query("q")[:QUERY_CHARACTERS_MAX]
        results = await asyncio.to_thread(search_index.find, query)  # the first search builds the index
        return page_request.render("docs_search.html", page=None, guide=guide.pages, query=query, results=results)

    return [
        page_route(context, "/docs", docs),
        page_route(context, "/docs/search", search),
        page_route(context, "/docs/{slug}", docs),
    ]
