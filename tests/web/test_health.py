"""Anybody may ask whether the server is ready. What is wrong, and where, is for the operator's log."""

import pytest
import structlog
from starlette.applications import Starlette
from starlette.testclient import TestClient

from support.fakes import FakeClock
from support.limiters import make_limiter
from tok0n.api.health import operation_routes
from tok0n.domain.errors import AccountingFailed, LimiterUnavailable, Tok0nError

DETAIL = "ConnectionRefusedError: redis.internal:6379, role tok0n_rw, /var/lib/tok0n.db"


class Component:
    """A database or a limiter that fails with `error`."""

    error: Tok0nError | None = None

    async def probe(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("component", ["database", "limiter"])
def test_the_answer_names_the_component_and_the_log_says_why_once(component: str) -> None:
    database, limiter = Component(), make_limiter(FakeClock())
    broken = Component()
    parts = {"database": database, "limiter": limiter, component: broken}
    routes = operation_routes(parts["database"], parts["limiter"], is_draining=lambda: False)  # type: ignore[arg-type]
    client = TestClient(Starlette(routes=routes))
    healthy = {"database": "ok", "limiter": "ok"}
    with structlog.testing.capture_logs() as logs:
        assert client.get("/readyz").json() == {"status": "ready", "components": healthy}
        assert not logs
        for error in (AccountingFailed(upstream_called=False, detail=DETAIL), LimiterUnavailable(detail=DETAIL)):
            broken.error = error
            for _ in range(3):
                answer = client.get("/readyz")
                assert answer.status_code == 503
                assert answer.json() == {"status": "not ready", "components": healthy | {component: "failed"}}
        assert [(line["event"], line["component"], line["detail"]) for line in logs] == [
            ("not_ready", component, DETAIL)
        ]
        broken.error = None
        assert client.get("/readyz").status_code == 200
        assert logs[-1]["event"] == "ready_again"


def test_a_server_that_shuts_down_is_not_ready() -> None:
    routes = operation_routes(Component(), make_limiter(FakeClock()), is_draining=lambda: True)
    answer = TestClient(Starlette(routes=routes)).get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
