"""What a load balancer asks: does the process live, and can it serve."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tok0n.domain.errors import Tok0nError
from tok0n.ports import Database, Limiter

PROBE_SECONDS_MAX = 2.0


def operation_routes(database: Database, limiter: Limiter, *, is_draining: Callable[[], bool]) -> list[Route]:
    """GET /healthz and GET /readyz."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        reason = await _why_not_ready(database, limiter, is_draining=is_draining)
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _why_not_ready(database: Database, limiter: Limiter, *, is_draining: Callable[[], bool]) -> str | None:
    if is_draining():
        return "draining: this process is shutting down"
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            await database.probe()
    except TimeoutError:
        return f"database: no write within {PROBE_SECONDS_MAX:g} seconds"
    except Tok0nError as error:
        return f"database: {error.detail or error.message}"
    try:
        await limiter.probe()
    except Tok0nError as error:
        return f"limiter: {error.detail or error.message}"
    return None
