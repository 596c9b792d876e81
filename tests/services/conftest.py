"""The fixture that the tests of payments share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fake_payments import Shop
from support.ledgers import ENGINES, open_engine


@pytest.fixture(params=ENGINES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_engine(request.param, tmp_path) as db:
        yield Shop(db)
