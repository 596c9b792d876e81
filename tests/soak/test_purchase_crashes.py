"""kill -9 between every two steps of a purchase: a payment is credited once, wherever the shop died."""

from pathlib import Path

import pytest

from support.crashing_purchases import purchase_survives_crashes
from support.ledgers import ENGINES

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first", ["webhook", "back"])
async def test_a_purchase_ends_credited_once_whatever_step_the_shop_dies_in(
    tmp_path: Path, engine: str, first: str
) -> None:
    await purchase_survives_crashes(tmp_path, engine=engine, first=first)
