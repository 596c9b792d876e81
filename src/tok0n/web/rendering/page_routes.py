"""Route requests to page handlers: load the session, read the form and render errors."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.errors import AccountSuspended, Tok0nError
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

Handler = Callable[[PageRequest], Awaitable[Response]]

GET_POST = ("GET", "POST")
POST = ("POST",)


def page_route(
    context: PageContext,
    path: str,
    handler: Handler,
    *,
    methods: Sequence[str] = ("GET",),
    needs_open_account: bool = False,
) -> Route:
    """Return the route of a page. Without a session, a page under /dashboard redirects to the sign-in page.

    `needs_open_account`: a form of this page is rejected while the account is suspended.
    """
    private = path.startswith("/dashboard")

    async def respond(request: Request) -> Response:
        page_request = PageRequest(context, request)
        try:
            await page_request.load_session()
            if private and page_request.session_or_none is None:
                return await page_request.to_sign_in()
            await page_request.read_form()
            if needs_open_account and page_request.is_post and page_request.session.is_suspended:
                raise AccountSuspended
            response = await handler(page_request)
        except HTTPException as error:
            response = page_request.error(error.status_code, error.detail)
        except Tok0nError as error:
            response = page_request.failure(error)
        except ClientDisconnect:
            return Response(status_code=400)  # the client has left and does not receive it
        return await page_request.finish(response, private=private)

    return Route(path, respond, methods=methods)


async def error_page(context: PageContext, request: Request, status: int, message: str) -> Response:
    """Return an error page for a request that no page handles."""
    page_request = PageRequest(context, request)
    with contextlib.suppress(Tok0nError):
        await page_request.load_session()
    return await page_request.finish(page_request.error(status, message), private=False)
