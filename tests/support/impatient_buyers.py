"""Buyers who press *Buy* at once: `python -m support.impatient_buyers DATABASE STRIPE_URL PACKS PURCHASES`.

DATABASE is a path of SQLite's or a URL of PostgreSQL's, with an account of `EMAIL`. The purchases go through the packs
in turn. Prints, as JSON, how often each outcome came about.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from support.ledgers import outcome
from support.shop import KEY, SECRET
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.stripe import StripePayments
from tok0n.domain.packs import Pack
from tok0n.services.payments import SellPacks

EMAIL = "buyer@example.com"


def open_database(database: str) -> SqliteStore | PostgresStore:
    """Like the command line does, beside other processes."""
    if database.startswith("postgresql://"):
        return PostgresStore(PostgresOptions(url=database, lock_timeout_seconds=60))
    return SqliteStore(Path(database), serving=False)


def make_shop(store: SqliteStore | PostgresStore, stripe_url: str, *, packs: int) -> SellPacks:
    """A shop with so many packs."""
    sold = [Pack(id=f"p{number}", name=f"P{number}", tokens=1_000, price_usd_cents=500) for number in range(packs)]
    return SellPacks(
        packs={pack.id: pack for pack in sold},
        orders=SqlOrders(store),
        payments=StripePayments(
            secret_key=KEY, webhook_secret=SECRET, automatic_tax=False, promotion_codes=False, api_base=stripe_url
        ),
        inbox=SqlInbox(store),
        forms=SqlForms(store),
        clock=SystemClock(),
        url_of=lambda path: f"http://shop.example{path}",
    )


async def main(database: str, stripe_url: str, packs: int, purchases: int) -> None:
    """Buy, and say how it went."""
    store = open_database(database)
    sell = make_shop(store, stripe_url, packs=packs)
    account = await SqlAccounts(store).get(EMAIL)
    results = await asyncio.gather(
        *(
            outcome(sell.buy(account_id=account.id, email=EMAIL, pack_id=f"p{number % packs}"))
            for number in range(purchases)
        )
    )
    print(json.dumps(Counter(type(result).__name__ for result in results)))  # noqa: T201
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
