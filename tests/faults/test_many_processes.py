"""Four processes work on three accounts in one PostgreSQL: no token drifts (tests/soak/ runs eight for longer)."""

import pytest

from support.many_processes import work_together

pytestmark = pytest.mark.anyio


async def test_many_processes_drift_by_nothing_and_never_deadlock() -> None:
    done = await work_together(processes=4, operations=1_000)
    assert done["settled"] > 0
