"""Several processes, each with many buyers who press *Buy*: an account never has more than five open checkouts."""

import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import impatient_buyers, postgres
from support.impatient_buyers import EMAIL, open_database
from support.ledgers import ENGINES, NOW_US
from support.shop import KEY, SECRET
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain.orders import OPEN_CHECKOUTS_MAX, STARTED_CHECKOUTS_MAX
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind

pytestmark = pytest.mark.anyio

PROCESSES = 4
PURCHASES = 50


@pytest.fixture(params=ENGINES)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "tok0n.db")
        return
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        yield url


async def buy(database: str, stripe_url: str, *, packs: int) -> Counter[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        impatient_buyers.__name__,
        database,
        stripe_url,
        str(packs),
        str(PURCHASES),
        cwd=Path(__file__).parents[1],
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return Counter(json.loads(output))


@pytest.mark.parametrize("packs", [1, 3, 8])
async def test_two_hundred_purchases_at_once_open_at_most_five_checkouts(database: str, packs: int) -> None:
    double = StripeDouble(secret_key=KEY, webhook_secret=SECRET)
    async with HttpServer(AsgiBridge(double.app), bind("127.0.0.1", 0), shutdown_seconds=5) as stripe:
        double.url = stripe.url
        store = open_database(database)
        account = await SqlAccounts(store).create(email=EMAIL, tokens=0, now_us=NOW_US)
        done = sum(
            await asyncio.gather(*(buy(database, stripe.url, packs=packs) for _ in range(PROCESSES))), Counter[str]()
        )
        orders = await SqlOrders(store).list_for_account(account.id, before=None, rows_max=1_000)
        await store.aclose()
    assert done.total() == PROCESSES * PURCHASES
    assert set(done) <= {"Purchase", "LimitReached", "PaymentFailed"}
    open_ids = {order.checkout_id for order in orders if order.is_open}
    open_at_stripe = {session["id"] for session in double.sessions.values() if session["status"] == "open"}
    assert open_at_stripe == open_ids
    assert len(open_ids) == min(packs, OPEN_CHECKOUTS_MAX)
    assert len(orders) == len(double.sessions)
    if packs <= OPEN_CHECKOUTS_MAX:
        assert (len(orders), done) == (packs, {"Purchase": PROCESSES * PURCHASES})
    else:
        assert len(orders) <= STARTED_CHECKOUTS_MAX
