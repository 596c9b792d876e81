"""A database of each engine, with its ledger."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.ledgers import ENGINES, Opened, open_engine


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine(request.param, tmp_path) as opened:
        yield opened
