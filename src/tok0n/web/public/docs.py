"""The documentation for customers: the Markdown of docs/, with this server's URL, models and endpoints."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import tok0n
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.services.catalogue import Catalogue
from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

if TYPE_CHECKING:
    from markdown_it.token import Token

WRITTEN_URL = "http://127.0.0.1:8080"
"""The public URL in the files, which `docs` replaces with this server's."""

WRITTEN_BASE_URL = f"{WRITTEN_URL}/v1"

WRITTEN_MODEL = "demo"
"""The model in the files, which `docs` replaces with a listed one."""

RENDERED_PAGES_MAX = 128
"""How many rendered pages are cached. A page is rendered again when its text changes, with its model."""

_PACKAGE = Path(tok0n.__file__).parent
_FOLDERS = (_PACKAGE / "docs", _PACKAGE.parent.parent / "docs")
"""The paths of docs/ in an installed package and in a checkout."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the guide. `endpoint` names the endpoint that its examples call; `streams`: they ask for streams."""

    slug: str
    title: str
    file: str
    about: str
    endpoint: str = ""
    streams: bool = False


GUIDE = (
    Page(
        slug="quickstart",
        title="Quick start",
        file="guide/quickstart.md",
        about="from sign-up to first response",
        endpoint="chat",
    ),
    Page(slug="endpoints", title="Endpoints", file="guide/endpoints.md", about="every path and its parameters"),
    Page(
        slug="streaming",
        title="Streaming",
        file="guide/streaming.md",
        about="how streams end and what they cost",
        endpoint="chat",
        streams=True,
    ),
    *(
        Page(
            slug=endpoint.name,
            title=endpoint.name.capitalize(),
            file=f"guide/{endpoint.name}.md",
            about=endpoint.guide,
            endpoint=endpoint.name,
        )
        for endpoint in ENDPOINTS
        if endpoint.guide
    ),
    Page(
        slug="recipes",
        title="Recipes",
        file="guide/recipes.md",
        about="examples for SDKs and tools",
        endpoint="chat",
    ),
    Page(slug="billing", title="Billing", file="billing.md", about="how tokens are reserved, billed, and released"),
    Page(
        slug="limits",
        title="Limits",
        file="limits.md",
        about="limits, how they're measured, and what clients see",
    ),
    Page(slug="errors", title="Errors", file="errors.md", about="every error code and how to fix it"),
    Page(slug="faq", title="FAQ", file="guide/faq.md", about="frequently asked questions"),
)
_BY_SLUG = {page.slug: page for page in GUIDE}
_BY_FILE = {Path(page.file).name: page for page in GUIDE if "guide" in page.file} | {
    page.file: page for page in GUIDE if "guide" not in page.file
}


_ENDPOINT = {endpoint.name: endpoint for endpoint in ENDPOINTS}


def docs_routes(context: PageContext, *, catalogue: Catalogue, endpoints: Sequence[Endpoint]) -> list[Route]:
    """Return the routes of /docs, /docs/PAGE and /docs/PAGE.md. `endpoints` are those whose paths exist."""
    guide = guide_of(endpoints)

    async def docs(page_request: PageRequest) -> Response:
        slug = page_request.request.path_params.get("slug", GUIDE[0].slug)
        is_markdown = slug.endswith(".md")
        page = _BY_SLUG.get(slug.removesuffix(".md"))
        if page is None:
            raise HTTPException(404)
        text = _without_missing_paths(read(page), endpoints)
        text = _with_model(text, page, catalogue).replace(WRITTEN_URL, context.public_url)
        if is_markdown:
            return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")
        return page_request.render("docs.html", page=page, guide=guide, content=render(text, context.prefix))

    return [page_route(context, "/docs", docs), page_route(context, "/docs/{slug}", docs)]


def guide_of(endpoints: Sequence[Endpoint]) -> list[Page]:
    """Return the pages of the guide, without those on an endpoint whose path doesn't exist."""
    names = {endpoint.name for endpoint in endpoints}
    return [page for page in GUIDE if not page.endpoint or page.endpoint in names]


def _without_missing_paths(text: str, endpoints: Sequence[Endpoint]) -> str:
    """Remove the table rows of metered endpoints whose paths don't exist."""
    missing = tuple(f"| `POST {endpoint.path}` |" for endpoint in ENDPOINTS if endpoint not in endpoints)
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(missing))


def _with_model(text: str, page: Page, catalogue: Catalogue) -> str:
    """Put a model that serves the endpoint of the page into its examples. Without one, the page says so first."""
    if not page.endpoint:
        return text
    models = catalogue.serving(_ENDPOINT[page.endpoint])
    if models:
        streaming = [model for model in models if page.streams and page.endpoint in model.streaming_endpoints]
        model_id = (streaming or models)[0].id
        return re.sub(rf"\b{WRITTEN_MODEL}\b", lambda _: model_id, text)
    served = [f"`POST {endpoint.path}`" for endpoint in ENDPOINTS if catalogue.serving(endpoint)]
    title, _, rest = text.partition("\n")
    path = _ENDPOINT[page.endpoint].path
    return (
        f"{title}\n\n> No model of this server serves `POST {path}` now, so the examples on this page don't work here."
        f" Its models serve: {', '.join(served) or 'none'}.\n{rest}"
    )


@cache
def read(page: Page) -> str:
    """Return the Markdown of a page."""
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    return (folder / page.file).read_text("utf-8")


@lru_cache(maxsize=RENDERED_PAGES_MAX)
def render(text: str, prefix: str = "") -> Markup:
    """Convert the Markdown of a page to HTML, without raw HTML. Local links get `prefix`."""
    from markdown_it import MarkdownIt  # noqa: PLC0415  slow to import

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(tokens[index + 1].content))
        elif token.type in {"fence", "table_open"}:
            token.attrSet("tabindex", "0")
        for child in token.children or ():
            if child.type == "link_open":
                _set_target(child, prefix)
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    html = re.sub(r"<pre><code tabindex=\"0\"", '<pre tabindex="0"><code', html)
    return Markup(html)  # noqa: S704  rendered without raw HTML


def _set_target(link: "Token", prefix: str) -> None:
    """Point a link between files at the page of the file, or at /docs if the file has no page."""
    target = str(link.attrGet("href"))
    if "://" in target or target.startswith("#"):
        return
    if target.startswith("/"):
        link.attrSet("href", prefix + target)
        return
    file, _, anchor = target.partition("#")
    page = _BY_FILE.get(Path(file).name)
    path = f"/docs/{page.slug}{'#' + anchor if anchor else ''}" if page else "/docs"
    link.attrSet("href", prefix + path)


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
