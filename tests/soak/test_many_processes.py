"""Eight processes work on three accounts in one PostgreSQL: no token drifts, and no two wait for each other."""

import pytest

from support.many_processes import work_together

pytestmark = pytest.mark.anyio


async def test_many_processes_drift_by_nothing_and_never_deadlock() -> None:
    done = await work_together(processes=8, operations=20_000)
    assert min(done[name] for name in ("refused", "settled", "shortfall", "expired", "released too late")) > 0
