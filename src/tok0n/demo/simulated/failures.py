"""The errors of the simulated upstream, and the failures of its model `demo-broken`."""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

Failure = Callable[[dict[str, Any]], Response]


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}


class ErrorResponse(JSONResponse):
    """An error in OpenAI's format. `for_anthropic` returns it in Anthropic's."""

    def __init__(self, status: int, error: dict[str, str | None], headers: dict[str, str] | None) -> None:
        super().__init__({"error": error}, status, headers)
        self._message = error["message"]
        self._more_headers = headers

    def for_anthropic(self) -> JSONResponse:
        """Return the error as Anthropic's API has it."""
        error = {"type": _ANTHROPIC_TYPES[self.status_code], "message": self._message}
        return JSONResponse({"type": "error", "error": error}, self.status_code, self._more_headers)


def error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    kind: str = "invalid_request_error",
    headers: dict[str, str] | None = None,
) -> Response:
    """Return an error."""
    return ErrorResponse(status, {"message": message, "type": kind, "param": param, "code": code}, headers)


class _HungUp(Response):
    """Sends half of the announced body. The server then closes the connection and logs an error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})


def _crashed(_: dict[str, Any]) -> Response:
    return error(500, "The simulated upstream failed.", kind="server_error")


def without_usage(answer: dict[str, Any]) -> Response:
    """Answer without usage."""
    return JSONResponse({key: value for key, value in answer.items() if key != "usage"})


def _limited(_: dict[str, Any]) -> Response:
    message = "The simulated upstream limits the gateway."
    return error(429, message, kind="rate_limit_error", headers={"retry-after": "1"})


def _page(_: dict[str, Any]) -> Response:
    return Response("<html><body>502 Bad Gateway</body></html>", media_type="text/html")


def _overloaded(_: dict[str, Any]) -> Response:
    return error(503, "The simulated upstream is overloaded.", kind="server_error")


def truncated_json(answer: dict[str, Any]) -> Response:
    """Answer with JSON that lacks its end."""
    return Response(msgspec.json.encode(answer)[:-20], media_type="application/json")


def truncated_body(answer: dict[str, Any]) -> Response:
    """Answer with half of the body."""
    return _HungUp(msgspec.json.encode(answer), media_type="application/json")


FAILURES: tuple[Failure, ...] = (
    _crashed,
    without_usage,
    _limited,
    _page,
    _overloaded,
    truncated_json,
    truncated_body,
)
"""The failures of `demo-broken`, in rotation: a 500, no usage, a 429 with retry-after, a web page with status 200, a
503, truncated JSON, and a connection that closes in the middle of the body."""
