"""kill -9 between every two steps of a purchase: what was paid is credited once, whatever the shop died in."""

import asyncio
import itertools
import signal
import sys
from pathlib import Path

import pytest

from support import dying_shop
from support.dying_shop import PACK, Steps, make_shop
from support.ledgers import ENGINES, NOW_US, Opened, open_engine
from support.shop import KEY, SECRET
from tok0n.adapters.stripe.double import StripeDouble
from tok0n.http.server import HttpServer, listen

pytestmark = pytest.mark.anyio

STEPS_MAX = 100


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first", ["webhook", "back"])
async def test_a_purchase_ends_credited_once_whatever_step_the_shop_dies_in(
    tmp_path: Path, engine: str, first: str
) -> None:
    double = StripeDouble(secret_key=KEY, webhook_secret=SECRET)
    paid_at_deaths = set()
    async with HttpServer(double.app, listen("127.0.0.1", 0), shutdown_seconds=5) as stripe:
        double.url = stripe.url
        async with open_engine(engine, tmp_path):
            pass
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            dying_shop.__name__,
            engine,
            tmp_path,
            stripe.url,
            cwd=Path(__file__).parents[1],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        for step in itertools.count(1):
            email = f"{step}@x"
            async with open_engine(engine, tmp_path) as db:
                await db.accounts.create(email=email, tokens=0, now_us=NOW_US)
            process.stdin.write(f"{email} {step} {first}\n".encode())
            ended = int(await process.stdout.readline())
            assert ended in {0, -signal.SIGKILL}
            is_paid = any(session["payment_status"] == "paid" for session in double.sessions.values())
            paid_at_deaths.add(is_paid)
            async with open_engine(engine, tmp_path) as db:
                await recovers(db, stripe.url, email=email, tokens=PACK.tokens if is_paid else 0)
            double.sessions.clear()
            double.events.clear()
            if ended == 0:
                break
            assert step < STEPS_MAX
        process.stdin.close()
        assert await process.wait() == 0
    assert paid_at_deaths == {False, True}


async def recovers(db: Opened, stripe_url: str, *, email: str, tokens: int) -> None:
    """What a server does when it starts mends it; and doing so again changes nothing."""
    sell = make_shop(db.store, stripe_url, Steps(0))
    for _ in range(2):
        await sell.reconcile()
        assert (await db.accounts.get(email)).balance.posted == tokens
    assert (await db.ledger.audit()).ok
