"""A shop that is killed at a given step of a purchase: `python killed_shop.py ENGINE FOLDER STRIPE_URL`.

For each line `EMAIL STEP ORDER` on standard input, a forked child plays the purchase and dies before its STEP-th step;
what it ended with is printed. A step is every beginning and every end of a transaction and of a call to Stripe.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import sqlalchemy as sa

from support.ledgers import open_engine
from support.shop import KEY, SECRET
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.store import SqlStore
from tok0n.adapters.stripe import StripePayments
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain.orders import Order
from tok0n.domain.packs import Pack
from tok0n.domain.payments import Checkout, PaymentEvent
from tok0n.services.payments import SellPacks

T = TypeVar("T")

STDOUT, STDERR = 1, 2
SEE_OTHER = 303

PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)


class Steps:
    """Counts steps, and kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self._numbers: Iterator[int] = itertools.count(1)
        self._last = last

    def step(self) -> None:
        if next(self._numbers) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    async def around(self, done: Awaitable[T]) -> T:
        self.step()
        result = await done
        self.step()
        return result


class DyingStore:
    """A store each of whose transactions is two steps."""

    def __init__(self, store: SqlStore, steps: Steps) -> None:
        self._store = store
        self._steps = steps

    async def write(self, fn: Callable[[sa.Connection], T]) -> T:
        return await self._steps.around(self._store.write(fn))

    async def read(self, fn: Callable[[sa.Connection], T], *, no_timeout: bool = False) -> T:
        return await self._steps.around(self._store.read(fn, no_timeout=no_timeout))

    async def probe(self) -> None:
        await self._store.probe()

    async def migrate(self) -> list[str]:
        return await self._store.migrate()

    async def aclose(self) -> None:
        await self._store.aclose()


class DyingPayments(StripePayments):
    """Stripe, each call of which is two steps."""

    steps: Steps

    async def open_checkout(self, order: Order, *, email: str, success_url: str, cancel_url: str) -> Checkout:
        return await self.steps.around(
            super().open_checkout(order, email=email, success_url=success_url, cancel_url=cancel_url)
        )

    async def checkout(self, checkout_id: str) -> Checkout:
        return await self.steps.around(super().checkout(checkout_id))

    async def events(self, *, since_us: int) -> AsyncIterator[PaymentEvent]:
        self.steps.step()
        async for event in super().events(since_us=since_us):
            yield event
            self.steps.step()


def make_shop(store: SqlStore, stripe_url: str, steps: Steps) -> SellPacks:
    payments = DyingPayments(
        secret_key=KEY, webhook_secret=SECRET, automatic_tax=False, promotion_codes=False, api_base=stripe_url
    )
    payments.steps = steps
    return SellPacks(
        packs={PACK.id: PACK},
        orders=SqlOrders(store),
        payments=payments,
        inbox=SqlInbox(store),
        forms=SqlForms(store),
        clock=SystemClock(),
        url_of=lambda path: f"http://shop.example{path}",
    )


async def purchase(store: SqlStore, stripe_url: str, *, email: str, steps: Steps, back_first: bool) -> None:
    """One purchase from the button to the credit, with all ways in which the shop hears of it."""
    sell = make_shop(DyingStore(store, steps), stripe_url, steps)
    account = await SqlAccounts(store).get(email)
    opened = await sell.buy(account_id=account.id, email=email, pack_id=PACK.id)
    assert opened.url is not None
    await asyncio.to_thread(approve, opened.url)
    payload = await asyncio.to_thread(newest_event, stripe_url)
    signature = StripeDouble(secret_key=KEY, webhook_secret=SECRET).sign(payload)
    order = (await SqlOrders(store).list_for_account(account.id, before=None, rows_max=1))[0]
    if back_first:
        await sell.refresh(order)
    await sell.receive(payload, signature)
    await sell.handle_all()
    if not back_first:
        await sell.refresh(order)
    await sell.reconcile()


def approve(url: str) -> None:
    """What the buyer does on Stripe's page."""
    try:
        urllib.request.build_opener(NoRedirect).open(url, urlencode({"do": "approve"}).encode(), timeout=30)
    except urllib.error.HTTPError as answer:
        if answer.code != SEE_OTHER:
            raise


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The shop's page is not there to go back to."""

    def redirect_request(self, *_: object) -> None:
        return


def newest_event(stripe_url: str) -> bytes:
    """What Stripe would send to the webhook."""
    query = "types[0]=checkout.session.completed&limit=1"
    request = urllib.request.Request(f"{stripe_url}/v1/events?{query}", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.dumps(json.load(answer)["data"][0]).encode()


async def _live(engine: str, folder: Path, stripe_url: str, email: str, step: int, *, back_first: bool) -> None:
    async with open_engine(engine, folder) as db:
        await purchase(db.store, stripe_url, email=email, steps=Steps(step), back_first=back_first)


def main() -> None:
    """Fork a child for each line, and say how it ended: 0, or minus the signal."""
    engine, folder, stripe_url = sys.argv[1:]
    for line in sys.stdin:
        email, step, first = line.split()
        child = os.fork()
        if child == 0:
            code = 1
            os.dup2(STDERR, STDOUT)
            try:
                asyncio.run(_live(engine, Path(folder), stripe_url, email, int(step), back_first=first == "back"))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        os.write(STDOUT, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
