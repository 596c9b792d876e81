"""The files that browsers and crawlers request from every site: /robots.txt and /favicon.ico."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tok0n.web.rendering.page_context import PageContext

ICON = "icon.svg"
ICON_SECONDS = 86_400
"""How long browsers can cache the redirect to the icon."""

NOT_FOR_CRAWLERS = (
    "/dashboard",
    "/docs/search",
    "/invitation",
    "/new-address",
    "/new-password",
    "/reset-password",
    "/second-factor",
    "/set-up",
    "/sign-in",
    "/sign-out",
    "/sign-up",
    "/v1",
    "/verify",
    "/webhooks",
)


def well_known_routes(context: PageContext) -> list[Route]:
    """Return the routes of /robots.txt and /favicon.ico."""
    lines = ["User-agent: *", *(f"Disallow: {context.prefix}{path}" for path in NOT_FOR_CRAWLERS)]
    rules = "\n".join(lines) + "\n"

    async def robots(_: Request) -> Response:
        return PlainTextResponse(rules)

    async def favicon(_: Request) -> Response:
        headers = {"cache-control": f"public, max-age={ICON_SECONDS}"}
        return RedirectResponse(context.assets.url(context.brand.logo or ICON), 302, headers=headers)

    return [Route("/robots.txt", robots), Route("/favicon.ico", favicon)]
