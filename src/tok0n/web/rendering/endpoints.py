"""Turn a page handler into a Starlette endpoint, which loads the session, reads the form and renders errors."""

import contextlib
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tok0n.domain.errors import Tok0nError
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

Handler = Callable[[PageRequest], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def page_endpoint(context: PageContext, handler: Handler, *, private: bool = False) -> Endpoint:
    """Return an endpoint that runs `handler`. Without a session, a private page redirects to the sign-in page."""

    async def endpoint(request: Request) -> Response:
        page_request = PageRequest(context, request)
        try:
            await page_request.load_session()
            if private and page_request.session is None:
                return await page_request.to_sign_in()
            await page_request.read_form()
            response = await handler(page_request)
        except HTTPException as error:
            response = page_request.error(error.status_code, error.detail)
        except Tok0nError as error:
            response = page_request.failure(error)
        except ClientDisconnect:
            return Response(status_code=400)  # the client has left and does not receive it
        return await page_request.finish(response, private=private)

    return endpoint


async def error_page(context: PageContext, request: Request, status: int, message: str) -> Response:
    """Return an error page for a request that no page handles."""
    page_request = PageRequest(context, request)
    with contextlib.suppress(Tok0nError):
        await page_request.load_session()
    return await page_request.finish(page_request.error(status, message), private=False)
