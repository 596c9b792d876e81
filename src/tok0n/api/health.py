"""Liveness and readiness probes for load balancers.

The probes need no authentication, so a response only names components. Hosts, roles and paths go to the log.
"""

import asyncio
from collections.abc import Callable

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tok0n.domain.errors import Tok0nError
from tok0n.ports.database import Database, Lease
from tok0n.ports.limiter import Limiter

log = structlog.get_logger()

PROBE_SECONDS_MAX = 2.0

OK = "ok"
FAILED = "failed"


def operation_routes(
    database: Database, limiter: Limiter, *, is_draining: Callable[[], bool], lease: Lease | None = None
) -> list[Route]:
    """Return the routes of GET /healthz and GET /readyz."""
    readiness = Readiness(database, limiter, lease)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        if is_draining():
            return JSONResponse({"status": "draining"}, status_code=503)
        components = await readiness.probe()
        ready = all(state == OK for state in components.values())
        return JSONResponse(
            {"status": "ready" if ready else "not ready", "components": components}, status_code=200 if ready else 503
        )

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


class Readiness:
    """Probes each component, and logs when it recovers or the details of its failure change.

    The database has failed too if the lease of this process has ended.
    """

    def __init__(self, database: Database, limiter: Limiter, lease: Lease | None) -> None:
        self._database = database
        self._lease = lease
        self._limiter = limiter
        self._details: dict[str, str] = {}

    async def probe(self) -> dict[str, str]:
        """Probe all components. Return `ok` or `failed` for each."""
        database, limiter = await asyncio.gather(self._probe_database(), self._probe_limiter())
        return {"database": self._state_of("database", database), "limiter": self._state_of("limiter", limiter)}

    async def _probe_database(self) -> str:
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                await self._database.probe()
                if self._lease is not None:
                    await self._lease.probe()
        except TimeoutError:
            return f"no write within {PROBE_SECONDS_MAX:g} seconds"
        except Tok0nError as error:
            return error.detail or error.message
        return ""

    async def _probe_limiter(self) -> str:
        try:
            await self._limiter.probe()
        except Tok0nError as error:
            return error.detail or error.message
        return ""

    def _state_of(self, component: str, detail: str) -> str:
        """Return `ok`, or `failed` if there are details. Logs only changes, so frequent probes can't flood the log."""
        before = self._details.get(component, "")
        self._details[component] = detail
        if detail and detail != before:
            log.error("not_ready", component=component, detail=detail)
        elif before and not detail:
            log.warning("ready_again", component=component)
        return FAILED if detail else OK
