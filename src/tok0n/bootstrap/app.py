"""The application that the server serves: `/v1`, the pages, and the headers and logging of all responses.

Requests are dispatched here because `api` and `web` may not import each other.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.routing import BaseRoute, Route

from tok0n.api.account import account_routes
from tok0n.api.cors import Cors
from tok0n.api.endpoint import ClientIp, EndpointHandler
from tok0n.api.errors import EdgeError, error_response
from tok0n.api.health import operation_routes
from tok0n.api.openapi import openapi_route
from tok0n.api.routes import api_http_error, error, is_api, is_page_request, models_api_routes
from tok0n.bootstrap.pages import Pages
from tok0n.bootstrap.services import Services, served_endpoints
from tok0n.domain.client_ip import ClientAddresses, limit_key
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import INTERNAL_ERROR
from tok0n.http.asgi import AsgiApp, Receive, Scope, Send, run_asgi
from tok0n.http.head import RequestHead
from tok0n.http.limits import HttpLimits
from tok0n.http.message import Headers, Response
from tok0n.http.request import Address, Request
from tok0n.http.request_ids import client_request_id, id_headers
from tok0n.http.server import ClientKey, ServerOptions
from tok0n.http.target import decode_path, path_and_query
from tok0n.ports.clock import Clock
from tok0n.services.pipeline import Pipeline
from tok0n.services.request_log import RequestLog
from tok0n.settings import Settings
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_routes import error_page

OTHER_METHODS = ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")


class App:
    """Passes requests to metered endpoints to their handlers, and others to Starlette. Every response has a request id.

    Logs every request to the API, and every request with a 5xx response. The log line omits the path, because it is the
    client's text.
    """

    def __init__(
        self,
        *,
        handlers: Mapping[str, EndpointHandler],
        pipeline: Pipeline,
        starlette: AsgiApp,
        routes: Sequence[BaseRoute],
        clock: Clock,
        request_log: RequestLog,
        cors: Cors,
        options: ServerOptions,
        prefix: str,
    ) -> None:
        self.options = options
        self._handlers = handlers
        self._starlette = starlette
        self._pipeline = pipeline
        self._clock = clock
        self._request_log = request_log
        self._cors = cors
        self._prefix = prefix
        self._api_routes = [route for route in routes if isinstance(route, Route) and is_api(route.path)]
        self._log_names = {route.path.split("/")[2] for route in self._api_routes}

    def handle(self, request: Request) -> Awaitable[Response]:
        """Respond to a request. Removes the prefix of `public_url` from its path.

        Also serves paths without the prefix, because some proxies strip it. The settings reject a prefix that is the
        start of a path of Tok0n.
        """
        path = request.path
        if self._prefix:
            path = request.path = _without_prefix(path, self._prefix)
        handler = self._handlers.get(path)
        if handler is not None and request.head.method == b"POST":
            return handler.handle(request)
        return self._handle_with_starlette(request)

    async def _handle_with_starlette(self, request: Request) -> Response:
        in_api = is_api(request.path)
        name = self._log_name(request.path) if in_api else "page"
        call = self._pipeline.new_call(name, client_request_id=client_request_id(request.headers_by_name))
        response = self._cors.preflight(request, self._methods(request.path)) if in_api else None
        if response is None:
            response = await run_asgi(
                self._starlette, request, state={"call": call}, log_fields={"request": call.request_id}
            )
            if in_api:
                response.headers.extend(self._cors.headers(request.headers_by_name.get(b"origin")))
        response.headers.extend(id_headers(call.request_id, call.client_request_id))
        if header := self._request_id_header(request.path):
            response.headers.append((header, call.request_id.encode()))
        if in_api or response.status >= 500:
            seconds = self._clock.monotonic() - call.started_seconds
            self._request_log.write(call, status=response.status, error=None, seconds=seconds)
        return response

    def _request_id_header(self, path: str) -> bytes | None:
        """Return where the SDK of an endpoint at or above `path` looks for the request ID, beside x-request-id."""
        headers = (
            handler.request_id_header for at, handler in self._handlers.items() if f"{path}/".startswith(f"{at}/")
        )
        return next(headers, None)

    def _methods(self, path: str) -> str | None:
        """Return the methods of a path under /v1, or None."""
        if path in self._handlers:
            return "POST"
        for route in self._api_routes:
            if route.methods and route.path_regex.match(path):
                return ", ".join(sorted(route.methods))
        return None

    def _log_name(self, path: str) -> str:
        name = path.split("/")[2] if path.count("/") > 1 else ""
        return name if name in self._log_names else "unknown"


def make_app(services: Services, pages: Pages, *, is_draining: Callable[[], bool]) -> App:
    """Build the application: `/v1`, the pages, and the errors of both."""
    store, clock, request_log, context = services.store, services.clock, services.request_log, pages.context
    server = services.settings.server
    cors = Cors(server.cors_origins)
    endpoints = served_endpoints(services.settings)
    routes = [
        *(Route(endpoint.path, _other_methods, methods=OTHER_METHODS) for endpoint in endpoints),
        *models_api_routes(services.catalogue),
        *account_routes(
            services.caller_cache,
            services.limiter,
            store.history,
            services.token_classes,
            context.client_addresses,
            clock,
            services.rejections,
        ),
        openapi_route(context.prefix, endpoints, is_streaming=server.streaming),
        *operation_routes(store.database, services.limiter, is_draining=is_draining, lease=store.lease),
        *pages.routes,
    ]
    http_error = _http_error(
        context, [route.path for route in routes if isinstance(route, Route) and is_api(route.path)]
    )
    starlette = Starlette(
        routes=routes,
        exception_handlers={HTTPException: http_error, Exception: _unexpected_error(context)},
    )
    starlette.router.redirect_slashes = False
    return App(
        handlers={
            endpoint.path: EndpointHandler(
                endpoint,
                services.pipeline,
                clock,
                request_log,
                services.rejections,
                body_bytes_max=server.max_body_bytes,
                cors=cors,
                client_ip=client_ip_of(context.client_addresses),
            )
            for endpoint in endpoints
        },
        pipeline=services.pipeline,
        starlette=_reject_nul(starlette, http_error),
        routes=starlette.routes,
        clock=clock,
        request_log=request_log,
        cors=cors,
        options=_server_options(
            _http_limits(services.settings), context, services.pipeline, request_log, cors, endpoints
        ),
        prefix=context.prefix,
    )


async def _other_methods(request: StarletteRequest) -> StarletteResponse:
    if request.method == "GET" and "websocket" in request.headers.get("upgrade", "").lower():
        # Codex offers a WebSocket at first, and falls back to POST at once after this status.
        raise HTTPException(426, "This server doesn't offer WebSockets. Send a POST request.")
    raise HTTPException(405, headers={"allow": "POST"})


def _http_error(context: PageContext, api_paths: Sequence[str]) -> "HttpError":
    async def http_error(request: StarletteRequest, raised: Exception) -> StarletteResponse:
        assert isinstance(raised, HTTPException)
        if is_api(request.scope["path"]) or not is_page_request(request):
            return api_http_error(request, raised, base_url=f"{context.public_url}/v1", api_paths=api_paths)
        response = await error_page(context, request, raised.status_code, raised.detail)
        response.headers.update(raised.headers or {})
        return response

    return http_error


def _unexpected_error(context: PageContext) -> "HttpError":
    async def unexpected_error(request: StarletteRequest, _: Exception) -> StarletteResponse:
        # Starlette raises the exception again after this response, and the server logs it.
        if is_api(request.scope["path"]):
            return error("api_error", INTERNAL_ERROR)
        return await error_page(context, request, 500, INTERNAL_ERROR)

    return unexpected_error


def _http_limits(settings: Settings) -> HttpLimits:
    server = settings.server
    return HttpLimits(
        body_seconds=server.body_read_seconds,
        buffered_bytes_max=server.buffered_bytes_max,
        client_connections_max=server.connections_per_client_max,
    )


def _server_options(
    limits: HttpLimits,
    context: PageContext,
    pipeline: Pipeline,
    request_log: RequestLog,
    cors: Cors,
    endpoints: Sequence[Endpoint],
) -> ServerOptions:
    """Return the server's limits, its errors as API errors, and how to identify clients behind trusted proxies."""
    prefix, addresses = context.prefix, context.client_addresses
    by_path = {endpoint.path: endpoint for endpoint in endpoints}

    def render_error(code: str, message: str, head: RequestHead | None) -> Response:
        """Render and log an error of a request that the server rejected before any handler."""
        error = EdgeError(code, message)
        client_id = None if head is None else client_request_id(head.headers_by_name)
        call = pipeline.new_call("unknown", client_request_id=client_id)
        path = "" if head is None else _path_of(head.target, prefix)
        endpoint = by_path.get(path)
        if endpoint is None:
            response = error_response(error)
        else:
            response = error_response(error, endpoint.render_error, request_id=call.request_id)
            if endpoint.request_id_header:
                response.headers.append((endpoint.request_id_header, call.request_id.encode()))
        request_log.write(call, status=response.status, error=error, seconds=0.0)
        response.headers.extend(id_headers(call.request_id, call.client_request_id))
        if head is not None and is_api(path):
            response.headers.extend(cors.headers(head.headers_by_name.get(b"origin")))
        return response

    return ServerOptions(
        limits=limits,
        render_error=render_error,
        client_key=client_key_of(addresses),
        is_trusted=addresses.is_trusted,
        paced_paths=list(by_path),
    )


def client_key_of(addresses: ClientAddresses) -> ClientKey:
    """Return the function that identifies a client for the server's limits."""

    def client_key(address: Address, headers: Headers) -> str:
        peer = "" if address is None else address[0]
        if not headers or not addresses.is_trusted(peer):
            return limit_key(peer)
        return addresses.limit_key(peer, _forwarded(headers))

    return client_key


def client_ip_of(addresses: ClientAddresses) -> ClientIp:
    """Return the function that finds the client IP of a request."""

    def client_ip(request: Request) -> str:
        return find_client_ip(addresses, request.client_address, request.headers)

    return client_ip


def find_client_ip(addresses: ClientAddresses, address: Address, headers: Headers) -> str:
    """Return the client IP of a request: from the other end of its connection, and its headers."""
    return addresses.client("" if address is None else address[0], _forwarded(headers))


def _forwarded(headers: Headers) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]


def _path_of(target: bytes, prefix: str) -> str:
    """Return the path of a request target without the prefix of `public_url`, or an empty string."""
    parts = path_and_query(target)
    return "" if parts is None else _without_prefix(decode_path(parts[0]), prefix)


def _without_prefix(path: str, prefix: str) -> str:
    is_below = path.startswith(f"{prefix}/") or path == prefix
    return (path[len(prefix) :] or "/") if is_below else path


HttpError = Callable[[StarletteRequest, Exception], Awaitable[StarletteResponse]]


def _reject_nul(app: AsgiApp, http_error: HttpError) -> AsgiApp:
    """Reject a NUL in a path or query before any handler, because PostgreSQL can't compare text with NULs."""

    async def reject_nul(scope: Scope, receive: Receive, send: Send) -> None:
        if "\0" in scope["path"]:
            raised = HTTPException(404)
        elif b"%00" in scope["query_string"]:
            raised = HTTPException(400, "The query string must not contain NUL (%00).")
        else:
            return await app(scope, receive, send)
        response = await http_error(StarletteRequest(scope), raised)
        return await response(scope, receive, send)

    return reject_nul
