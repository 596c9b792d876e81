"""The demo's page /dev/components, which shows every component of `components.html` in every state."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

PATH = "/dev/components"

_LONG_NAME = "Production key of the Rindfleischetikettierungsüberwachungsaufgabenübertragungs-Team, London office"
_LONG_MODEL = "organization/llama-4-maverick-17b-128e-instruct-fp8-2026-11-29"
_LARGEST = 999_999_999_999_999
_REQUEST_ID = "req_01a2b3c4d5e6f7a8b9c0d1e2f3a4e9c5"


def components_routes(context: PageContext) -> list[Route]:
    """Return the route of the page. Only the demo has it."""

    async def components(page_request: PageRequest) -> Response:
        return page_request.render(
            "dev_components.html",
            long_name=_LONG_NAME,
            long_model=_LONG_MODEL,
            largest=_LARGEST,
            request_id=_REQUEST_ID,
            failed={"field": "failed", "message": "Enter a whole number of tokens, such as 10000."},
        )

    return [page_route(context, PATH, components)]
