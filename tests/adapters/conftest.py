"""What the tests of migrations share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.old_databases import Databases
from tok0n.adapters.sql.store import SqlStore


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    return Databases(request.param, tmp_path)


@pytest.fixture
async def stores() -> AsyncIterator[list[SqlStore]]:
    opened: list[SqlStore] = []
    yield opened
    for store in opened:
        await store.aclose()
