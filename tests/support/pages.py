"""The paths of all pages, and what several tests do on them."""

import asyncio
import re

from starlette.routing import Route

from support.gateways import Running
from support.http import chat, chat_body
from support.visitor import Visitor, text_of

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"

FILES = {"/assets/{name}", "/favicon.ico", "/robots.txt"}


def paths(
    site: Running, *, method: str, key: str = "x", request: str = "x", order: str = "x", model: str = "demo"
) -> list[str]:
    """The paths of all pages that take this method."""
    return [
        route.path_format.format(key=key, request=request, order=order, model=model, number="x", slug="billing")
        for route in site.routes
        if isinstance(route, Route) and method in (route.methods or set()) and route.path not in FILES
    ]


async def create_key(customer: Visitor, **fields: str) -> str:
    """Create a key with the form of the page, and return its secret."""
    answer = await customer.post("/dashboard/keys", {"name": "laptop", **fields})
    assert answer.status_code == 200, text_of(answer)
    found = re.search(r'<p class="secret" id="secret"[^>]*>(tk0n_\w+)</p>', answer.text)
    assert found is not None
    return found[1]


async def rejected(site: Running, visitor: Visitor) -> str:
    """Send a request that is rejected. Returns its id once pages know it."""
    request_id = (await chat(site.base_url, site.api_key, chat_body(temperature=9))).headers["x-request-id"]
    async with asyncio.timeout(10):
        while (await visitor.get(f"/dashboard/requests/{request_id}")).status_code == 404:
            await asyncio.sleep(0)
    return request_id
