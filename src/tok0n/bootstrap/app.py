"""The ASGI application: chat completions straight to their endpoint, everything else through Starlette."""

import functools
import os
from collections.abc import Awaitable, Callable, Sequence

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tok0n.api.account import account_routes
from tok0n.api.chat import CHAT_PATH, ChatEndpoint
from tok0n.api.cors import Cors, with_cors
from tok0n.api.errors import UNEXPECTED, EdgeError, error_answer
from tok0n.api.health import operation_routes
from tok0n.api.openapi import openapi_route
from tok0n.api.routes import api_http_error, error, is_api, is_page_request, model_routes
from tok0n.domain import ids
from tok0n.domain.client_ip import ClientAddresses, limit_key
from tok0n.http.asgi import (
    AsgiApp,
    FastPath,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    WholeAnswer,
    by_name,
    header_lines,
)
from tok0n.http.connection import path_and_query
from tok0n.http.head import RequestHead
from tok0n.http.limits import HttpLimits
from tok0n.http.path_prefix import strip_prefix
from tok0n.http.request_ids import CLIENT_REQUEST_ID, client_request_id
from tok0n.http.server import Address, ClientKey, Edge
from tok0n.ports.accounts import History
from tok0n.ports.clock import Clock
from tok0n.ports.database import Database
from tok0n.ports.limiter import Limiter
from tok0n.services.caller_cache import CallerCache
from tok0n.services.catalogue import Catalogue
from tok0n.services.complete_chat import Call
from tok0n.services.request_log import RequestLog
from tok0n.web.pages.visit import Site

log = structlog.get_logger()


class App:
    """An ASGI application whose chat completions have a fast path, and the edge of the server in front of it."""

    def __init__(self, app: AsgiApp, fast_path: FastPath, edge: Edge) -> None:
        self._app = app
        self.fast_path = fast_path
        self.edge = edge

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        return self._app(scope, receive, send)


def make_app(
    *,
    chat: ChatEndpoint,
    catalogue: Catalogue,
    database: Database,
    limiter: Limiter,
    caller_cache: CallerCache,
    history: History,
    clock: Clock,
    request_log: RequestLog,
    is_draining: Callable[[], bool],
    site: Site,
    page_routes: Sequence[BaseRoute],
    limits: HttpLimits,
    cors: Cors,
) -> AsgiApp:
    """The application. `chat` answers POST /v1/chat/completions; `page_routes` are all that is not for programs."""

    async def other_methods(_: Request) -> Response:
        raise HTTPException(405, headers={"allow": "POST"})

    async def http_error(request: Request, raised: Exception) -> Response:
        assert isinstance(raised, HTTPException)
        if is_api(request.scope["path"]) or not is_page_request(request):
            return api_http_error(request, raised, base_url=f"{site.public_url}/v1")
        response = await site.error(request, raised.status_code, raised.detail)
        response.headers.update(raised.headers or {})
        return response

    async def unexpected_error(request: Request, _: Exception) -> Response:
        """Starlette raises it again, for the log."""
        if is_api(request.scope["path"]):
            return error("api_error", UNEXPECTED)
        return await site.error(request, 500, UNEXPECTED)

    pages = Starlette(
        routes=[
            Route(CHAT_PATH, other_methods, methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]),
            *model_routes(catalogue),
            *account_routes(caller_cache, limiter, history),
            openapi_route(site.prefix),
            *operation_routes(database, limiter, is_draining=is_draining),
            *page_routes,
        ],
        exception_handlers={HTTPException: http_error, Exception: unexpected_error},
    )
    pages.router.redirect_slashes = False
    checked = _without_nul(pages, http_error)
    named = _with_request_id(checked, clock, request_log)
    api = _with_request_id(with_cors(checked, cors, functools.partial(_methods_of, pages)), clock, request_log)

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["path"] == CHAT_PATH and scope["method"] == "POST":
            return chat(scope, receive, send)
        return api(scope, receive, send) if is_api(scope["path"]) else named(scope, receive, send)

    def edge_error(code: str, message: str, request: RequestHead | None) -> WholeAnswer:
        """An error of a request that no handler has seen, with an id and a line in the log."""
        raised = EdgeError(code, message)
        call = _new_call(clock, "unknown", [] if request is None else request.headers)
        status, headers, body = error_answer(raised)
        request_log.write(call, status=status, error=raised, seconds=0.0)
        headers += _id_headers(call)
        if cors.is_on and request is not None and _is_api_target(request.target):
            headers += cors.headers(request.named.get(b"origin"))
        return status, header_lines(headers), body

    edge = Edge(
        limits=limits,
        render_error=edge_error,
        client_key=client_key_of(site.client_addresses),
        is_trusted=site.client_addresses.is_trusted,
    )
    return App(strip_prefix(app, site.prefix), chat, edge)


def client_key_of(addresses: ClientAddresses) -> ClientKey:
    """Who counts as one client for the bounds of the server."""

    def client_key(address: Address, headers: Headers) -> str:
        peer = "" if address is None else address[0]
        if not headers or not addresses.is_trusted(peer):
            return limit_key(peer)
        forwarded = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
        return addresses.limit_key(peer, forwarded)

    return client_key


def _methods_of(pages: Starlette, path: str) -> str | None:
    """The methods of a path under /v1, or None."""
    if path == CHAT_PATH:
        return "POST"
    for route in pages.routes:
        if isinstance(route, Route) and route.methods and route.path_regex.match(path):
            return ", ".join(sorted(route.methods))
    return None


def _is_api_target(target: bytes) -> bool:
    parts = path_and_query(target)
    return parts is not None and is_api(parts[0].decode("ascii"))


HttpError = Callable[[Request, Exception], Awaitable[Response]]


def _without_nul(app: AsgiApp, http_error: HttpError) -> AsgiApp:
    """Refuse a NUL in a path or query ahead of every handler: PostgreSQL stores none, so no such thing exists."""

    async def without_nul(scope: Scope, receive: Receive, send: Send) -> None:
        if "\0" in scope["path"]:
            raised = HTTPException(404)
        elif b"%00" in scope["query_string"]:
            raised = HTTPException(400, "The query string must not contain NUL (%00).")
        else:
            return await app(scope, receive, send)
        response = await http_error(Request(scope), raised)
        return await response(scope, receive, send)

    return without_nul


def _with_request_id(app: AsgiApp, clock: Clock, request_log: RequestLog) -> AsgiApp:
    """Give every response of `app` an id. Requests to the API, and all that fail, have a line in the log.

    The line never has the path, which is the client's text.
    """

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        is_page = not is_api(scope["path"])
        call = _new_call(clock, "page" if is_page else _endpoint(scope["path"]), scope["headers"])

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _id_headers(call):
                    headers[name.decode()] = value.decode()
                if not is_page or message["status"] >= 500:
                    seconds = clock.monotonic() - call.started
                    request_log.write(call, status=message["status"], error=None, seconds=seconds)
            await send(message)

        try:
            await app(scope, receive, send_named)
        except Exception:
            log.exception("unexpected_error", request=call.request_id)

    return named


def _new_call(clock: Clock, endpoint: str, headers: Headers) -> Call:
    return Call(
        request_id=ids.request_id(clock.now_us(), os.urandom(ids.RANDOM_BYTES)),
        started=clock.monotonic(),
        endpoint=endpoint,
        client_request_id=client_request_id(by_name(headers)),
    )


def _id_headers(call: Call) -> Headers:
    headers = [(b"x-request-id", call.request_id.encode())]
    if call.client_request_id is not None:
        headers.append((CLIENT_REQUEST_ID, call.client_request_id.encode()))
    return headers


def _endpoint(path: str) -> str:
    if path == CHAT_PATH:
        return "chat"
    return next(
        (name for name in ("models", "key", "balance", "requests") if path.startswith(f"/v1/{name}")), "unknown"
    )
