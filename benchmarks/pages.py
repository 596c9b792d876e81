"""How long the pages of an account with a million requests take, on SQLite and on PostgreSQL: make bench-pages.

    python benchmarks/pages.py --requests 1000000
    python benchmarks/pages.py --only postgresql

The rows are written straight into the database, spread over 90 days, six models, five keys and 24 purchases at three
prices, with the roll-ups that requests would have made; the audit must find nothing. Then a signed-in visitor asks for
each page several times, over HTTP on one connection, in each of three time zones. /healthz shows what HTTP costs.

"CPU" is the least processor time of this process, which is client and server, and of PostgreSQL for one answer, without
that of /healthz. It hardly depends on other work of the machine. "Wall" is the clock, with HTTP.
"""

import argparse
import contextlib
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

import httpx
import large
import servers
import sqlalchemy as sa
import uvloop
from large import REQUESTS_PER_TRANSACTION, Row
from processes import cpu_ms

from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.schema import ledger_entry, pack_order, request
from tok0n.bootstrap.resources import open_store
from tok0n.bootstrap.services import Services, make_api_keys
from tok0n.bootstrap.serving import open_listener, shorten_garbage_collections
from tok0n.bootstrap.wiring import open_gateway
from tok0n.domain import ids
from tok0n.domain.ledger import MICROSECONDS_PER_HOUR, MICROSECONDS_PER_SECOND
from tok0n.domain.months import month_at
from tok0n.domain.users import Agent
from tok0n.http.server import HttpServer
from tok0n.services.api_keys import KeyDraft
from tok0n.settings import Settings, load

ENGINES = ("sqlite", "postgresql")
ROUNDS = 7
DAYS = 90
KEYS = 5
ORDERS = 24
GRANTED, BOUGHT = 100, 30
"""The tokens per request that the account gets at first, and that each order adds. A request uses 700 on average."""

PRICES_CENTS = (999, 899, 1_299)
"""Those of the orders, in turn, so that the price of tokens changes often."""

UPSTREAM_US = 800_000
MODELS = ("alpha", "beta", "gamma", "delta", "epsilon", "rare")
ZONES = ("UTC", "Asia/Kolkata", "Australia/Darwin")
"""No other time zone needs more rows of roll-ups for its days than the last."""
EMAIL = "million@example.com"
PASSWORD = "plenty of quiet rivers"
HTTP_ALONE = "(http alone)"
TARGET_MS = 50.0

REQUEST = (*large.REQUEST, "code")
ENTRY = ("account_id", "number", "kind", "amount", "posted_after", "request_id", "order_id", "created_at_us")
ORDER = (
    *("id", "account_id", "pack_id", "pack_name", "tokens", "price_cents", "currency", "created_at_us"),
    *("is_complete", "paid_cents", "paid_at_us", "purchase_applied"),
)


class Names(NamedTuple):
    """The ids in the paths of pages, and the secret of an API key."""

    keys: list[str]
    secret: str
    account: str
    request: str = ""
    order: str = ""
    entry: str = ""
    """An entry in the middle of last month."""


async def measure_engine(requests: int, postgres_url: str | None, engine_pids: tuple[int, ...]) -> None:
    """Write, audit, measure, print. `engine_pids` are the processes of PostgreSQL. Without a URL, measure SQLite."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="run-") as name:
        folder = Path(name)
        settings_file = folder / "tok0n.toml"
        url = postgres_url or f"sqlite:///{folder / 'tok0n.db'}"
        settings_file.write_text(f"[server]\nport = 0\n[database]\nurl = '{url}'\n[logs]\nlevel = 'error'\n")
        settings = load(settings_file, environ={}, dotenv={}, overrides={})
        names = await prepare(settings, requests)
        began = time.monotonic()
        async with large.open_database(url) as database:
            await write(database, requests, names)
        print(f"{requests:,} requests written in {time.monotonic() - began:.0f} s", flush=True)
        listener, settings = open_listener(settings)
        async with open_gateway(settings) as gateway, signed_in(gateway.services) as (cookie, user_id):
            store = gateway.services.store
            names = await store.database.read(lambda tx: find_names(tx, names))
            listener.listen()
            shorten_garbage_collections()
            async with HttpServer(gateway.app, listener, shutdown_seconds=5) as server:
                for zone in ZONES:
                    await store.users.set_time_zone(user_id=user_id, time_zone=zone)
                    title = f"{'PostgreSQL' if postgres_url else 'SQLite'}, {requests:,} requests, {zone}"
                    await measure(server.url, cookie, names, title=title, engine_pids=engine_pids)
                await export(server.url, cookie)


@contextlib.asynccontextmanager
async def signed_in(services: Services) -> AsyncIterator[tuple[str, str]]:
    """Complete the roll-ups and the audit, and sign a visitor in; gives the cookie and the id of the user."""
    store, now_us = services.store, services.clock.now_us()
    while await store.daily_use.roll_up(now_us=now_us, accounts_max=100):
        pass
    while await store.outcome_rollup.roll_up(now_us=now_us):
        pass
    audit = await store.ledger.audit()
    assert audit.ok, audit.differences[:3]
    link = await services.sign_in.create_set_up_url()
    assert link is not None
    new = await services.sign_in.set_up(
        link.partition("link=")[2], email=EMAIL, password=PASSWORD, agent=Agent(user_agent="bench")
    )
    assert new is not None
    user = await store.users.find(EMAIL)
    assert user is not None
    yield new.secret, user.id


async def prepare(settings: Settings, requests: int) -> Names:
    """An account with keys; gives their ids and the secret of one."""
    clock = SystemClock()
    async with open_store(settings, migrating=True) as store:
        await store.database.migrate()
        account = await store.accounts.create(email=EMAIL, tokens=requests * GRANTED, now_us=clock.now_us())
        api_keys = make_api_keys(settings, store)
        issued = [await api_keys.create(account.id, KeyDraft(name=large.KEY_NAME)) for _ in range(KEYS)]
    assert issued[0].secret is not None
    return Names(keys=[new.key.id for new in issued], secret=issued[0].secret, account=account.id)


async def write(database: large.Database, requests: int, names: Names) -> None:
    """The rows that so many requests would have left."""
    history = History(requests, names)
    rows = history.rows()
    while chunk := list(itertools.islice(rows, REQUESTS_PER_TRANSACTION)):
        for table, columns in (("request", REQUEST), ("pack_order", ORDER), ("ledger_entry", ENTRY)):
            await database.insert(table, columns, [row for name, row in chunk if name == table])
        await database.commit()
    await database.set_wallets([(history.posted, history.entries, names.account)])
    await database.roll_up()
    await database.commit()


class History:
    """The rows of all requests and orders, oldest first."""

    def __init__(self, requests: int, names: Names) -> None:
        self.posted = requests * GRANTED
        self.entries = 1
        self._requests = requests
        self._names = names
        self._dice = random.Random(1)  # the same rows in every run

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield each row after the name of its table."""
        now_us = SystemClock().now_us()
        step_us = DAYS * 24 * MICROSECONDS_PER_HOUR // self._requests
        for number in range(self._requests):
            at_us = now_us - (self._requests - number) * step_us
            if number * ORDERS % self._requests < ORDERS:
                yield from self._order(number, at_us)
            yield from self._request(number, at_us)

    def _request(self, number: int, at_us: int) -> Iterator[tuple[str, Row]]:
        dice = self._dice
        request_id = ids.request_id(at_us, number.to_bytes(ids.RANDOM_BYTES))
        model = "rare" if number % 50_021 == 7 else dice.choice(MODELS[:-1])
        billed = dice.random() > 0.01
        prompt, completion = dice.randrange(10, 900), dice.randrange(1, 500)
        charged = prompt + completion if billed else 0
        use = (prompt, completion, charged, "{}") if billed else (None,) * 4
        status, code = ("SETTLED", None) if billed else ("RELEASED", "upstream_error")
        resolved_us = at_us + UPSTREAM_US
        yield (
            "request",
            (
                *(request_id, self._names.account, dice.choice(self._names.keys), model, status, 3_000, charged, 0),
                *(
                    *use,
                    1,
                    round(dice.lognormvariate(6.7, 0.8)),
                    at_us,
                    at_us + 100 * MICROSECONDS_PER_SECOND,
                    resolved_us,
                    code,
                ),
            ),
        )
        if billed:
            yield self._entry("usage", -charged, request_id, None, resolved_us)

    def _order(self, number: int, at_us: int) -> Iterator[tuple[str, Row]]:
        """A paid order, and its entry."""
        order_id = ids.order_id(at_us, number.to_bytes(ids.RANDOM_BYTES))
        tokens, cents = self._requests * BOUGHT, PRICES_CENTS[number * ORDERS // self._requests % len(PRICES_CENTS)]
        paid = (1, cents, at_us, tokens)
        yield "pack_order", (order_id, self._names.account, "s", "Small", tokens, cents, "usd", at_us, *paid)
        yield self._entry("purchase", tokens, None, order_id, at_us)

    def _entry(
        self, kind: str, amount: int, request_id: str | None, order_id: str | None, at_us: int
    ) -> tuple[str, Row]:
        self.posted += amount
        self.entries += 1
        account_id = self._names.account
        return "ledger_entry", (account_id, self.entries, kind, amount, self.posted, request_id, order_id, at_us)


def find_names(tx: sa.Connection, names: Names) -> Names:
    """Add the ids of a request, an order and an entry of the account."""
    now_us = SystemClock().now_us()
    middle = ids.first_request_id(now_us - DAYS * 12 * MICROSECONDS_PER_HOUR)
    ids_of_settled = sa.select(request.c.id).where(request.c.id >= middle, request.c.status == "SETTLED")
    at_us = month_at(now_us, UTC).preceding.starts_at_us(UTC) + 15 * 24 * MICROSECONDS_PER_HOUR
    entries = sa.select(ledger_entry).where(ledger_entry.c.created_at_us >= at_us).order_by(ledger_entry.c.id)
    entry = tx.execute(entries.limit(1)).one()
    return names._replace(
        request=tx.scalars(ids_of_settled.order_by(request.c.id).limit(1)).one(),
        order=tx.scalars(sa.select(sa.func.max(pack_order.c.id))).one(),
        entry=f"{entry.created_at_us}-{entry.number}-standard",
    )


def pages(names: Names) -> dict[str, str]:
    """The path of each page and each list of the API that depends on history."""
    month = month_at(SystemClock().now_us(), UTC)
    since = SystemClock().now_us() // 10**6 - 60 * 86_400
    return {
        HTTP_ALONE: "/healthz",
        "overview": "/dashboard",
        "overview, by key": "/dashboard?by=key",
        "keys": "/dashboard/keys",
        "key": f"/dashboard/keys/{names.keys[0]}",
        "requests": "/dashboard/requests",
        "requests, one key": f"/dashboard/requests?key={names.keys[0]}",
        "requests, a rare model": "/dashboard/requests?model=rare",
        "requests, a model never used": "/dashboard/requests?model=never",
        "requests, rare model and one key": f"/dashboard/requests?model=rare&key={names.keys[1]}",
        "requests, not billed": "/dashboard/requests?status=released",
        "requests, in flight": "/dashboard/requests?status=pending",
        "requests, rejected": "/dashboard/requests?status=rejected",
        "requests, one month": "/dashboard/requests?last=30d&status=settled",
        "requests, older": f"/dashboard/requests?before={names.request}",
        "request": f"/dashboard/requests/{names.request}",
        "usage, 7 days": "/dashboard/usage",
        "usage, 90 days by key": "/dashboard/usage?last=90d&by=key",
        "usage, 90 days of one model": "/dashboard/usage?last=90d&model=alpha&show=requests",
        "usage, 90 days of latency by key": "/dashboard/usage?last=90d&show=latency&by=key",
        "usage, 90 days of errors by model": "/dashboard/usage?last=90d&show=errors",
        "statement": "/dashboard/statement",
        "statement, last month": f"/dashboard/statement?month={month.preceding}",
        "statement, in its middle": f"/dashboard/statement?month={month.preceding}&before={names.entry}",
        "buy": "/dashboard/buy",
        "purchases": "/dashboard/orders",
        "purchase": f"/dashboard/orders/{names.order}",
        "playground": "/dashboard/playground",
        "settings": "/dashboard/settings",
        "activity": "/dashboard/activity",
        "activity as CSV": "/dashboard/activity.csv",
        "usage as CSV": "/dashboard/usage.csv?last=90d",
        "GET /v1/key": "/v1/key",
        "GET /v1/balance": "/v1/balance",
        "GET /v1/requests": "/v1/requests?limit=100",
        "GET /v1/requests, older": f"/v1/requests?limit=100&after={names.request}",
        "GET /v1/requests, a rare model": "/v1/requests?model=rare",
        "GET /v1/requests, rejected": "/v1/requests?status=rejected",
        "GET /v1/requests/ID": f"/v1/requests/{names.request}",
        "GET /v1/usage": "/v1/usage",
        "GET /v1/usage, 60 days by model": f"/v1/usage?group_by=model&since={since}",
    }


async def measure(url: str, cookie: str, names: Names, *, title: str, engine_pids: tuple[int, ...]) -> None:
    """Ask for each page several times, in turns; print the milliseconds of each."""
    paths = pages(names)
    cpu: dict[str, list[float]] = {name: [] for name in paths}
    wall: dict[str, list[float]] = {name: [] for name in paths}
    headers = {"authorization": f"Bearer {names.secret}"}
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as client:
        client.cookies.set("tok0n", cookie)
        for _ in range(ROUNDS):
            for name, path in paths.items():
                began, cpu_began = time.perf_counter(), time.process_time() * 1000 + cpu_ms(engine_pids)
                answer = await client.get(path)
                wall[name].append((time.perf_counter() - began) * 1000)
                cpu[name].append(time.process_time() * 1000 + cpu_ms(engine_pids) - cpu_began)
                assert answer.status_code == 200, (path, answer.status_code)
    http_ms = min(cpu[HTTP_ALONE])
    print(f"{title:<45}{'CPU ms':>10}{'wall, least':>12}{'median':>10}")
    for name in paths:
        least, fastest, median = min(cpu[name]) - http_ms, min(wall[name]), statistics.median(wall[name])
        over = "  over the target" if least > TARGET_MS else ""
        print(f"{name:<45}{least:>10.1f}{fastest:>12.1f}{median:>10.1f}{over}", flush=True)


async def export(url: str, cookie: str) -> None:
    """Download the CSV of all requests and of all entries."""
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        client.cookies.set("tok0n", cookie)
        for path in ("/dashboard/requests.csv", "/dashboard/statement.csv"):
            began = time.perf_counter()
            exported = await client.get(path)
            lines = exported.text.count("\n") - 1
            print(f"{path}: {lines:,} lines in {time.perf_counter() - began:.1f} s")


def main() -> None:
    """Measure the chosen engines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="[default: 1000000]")
    parser.add_argument("--only", choices=ENGINES, help="one of the engines")
    options = parser.parse_args()
    if options.only != "postgresql":
        uvloop.run(measure_engine(options.requests, None, ()))  # as `tok0n serve` does
    if options.only != "sqlite":
        with servers.postgres() as (url, pid):
            uvloop.run(measure_engine(options.requests, url, (pid,)))


if __name__ == "__main__":
    main()
