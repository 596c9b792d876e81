"""kill -9 between two steps of a purchase, at as many of the steps as a test wants."""

import asyncio
import itertools
import signal
import sys
from pathlib import Path

from support import killed_shop
from support.killed_shop import PACK, Steps, make_shop
from support.ledgers import NOW_US, Opened, open_engine
from support.shop import KEY, SECRET
from tok0n.demo.stripe_double import StripeDouble
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind

STEPS_MAX = 100


async def purchase_survives_crashes(folder: Path, *, engine: str, first: str, every: int = 1) -> None:
    """Buy once for each step that the shop may die in, skipping all but one in `every` steps.

    `first` says what tells the shop of the payment first: the provider's "webhook", or the buyer who comes "back".
    Asserts that a payment is credited exactly once after the restart, and that it died before and after a payment.
    """
    double = StripeDouble(secret_key=KEY, webhook_secret=SECRET)
    paid_at_deaths = set()
    async with HttpServer(AsgiBridge(double.app), bind("127.0.0.1", 0), shutdown_seconds=5) as stripe:
        double.url = stripe.url
        async with open_engine(engine, folder):
            pass
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            killed_shop.__name__,
            engine,
            folder,
            stripe.url,
            cwd=Path(__file__).parents[1],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        for step in itertools.count(1, every):
            email = f"{step}@x"
            async with open_engine(engine, folder) as db:
                await db.accounts.create(email=email, tokens=0, now_us=NOW_US)
            process.stdin.write(f"{email} {step} {first}\n".encode())
            ended = int(await process.stdout.readline())
            assert ended in {0, -signal.SIGKILL}
            is_paid = any(session["payment_status"] == "paid" for session in double.sessions.values())
            paid_at_deaths.add(is_paid)
            async with open_engine(engine, folder) as db:
                await _recovers(db, stripe.url, email=email, tokens=PACK.tokens if is_paid else 0)
            double.sessions.clear()
            double.events.clear()
            if ended == 0:
                break
            assert step < STEPS_MAX
        process.stdin.close()
        assert await process.wait() == 0
    assert paid_at_deaths == {False, True}


async def _recovers(db: Opened, stripe_url: str, *, email: str, tokens: int) -> None:
    """What a server does when it starts mends it; and doing so again changes nothing."""
    sell = make_shop(db.store, stripe_url, Steps(0))
    for _ in range(2):
        await sell.reconcile()
        assert (await db.accounts.get(email)).balance.posted == tokens
    assert (await db.ledger.audit()).ok
