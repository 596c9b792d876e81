"""How long the pages of an account with a million requests take: make bench-pages.

    python benchmarks/pages.py --requests 1000000
    python benchmarks/pages.py --database postgresql://USER@HOST/EMPTY_DATABASE

The rows are written straight into SQLite, spread over 90 days, six models, five keys and 24 purchases, with the
roll-ups that requests would have made; the audit must find nothing. For PostgreSQL they are copied. Then a signed-in
visitor asks for each page several times, over HTTP on one connection, in each of two time zones. /healthz shows what
HTTP costs.

"CPU" is the least processor time of this process, which is client and server, for one answer, without that of /healthz.
It hardly depends on other work of the machine. PostgreSQL's own time is only in the wall clock.
"""

import argparse
import asyncio
import contextlib
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

import httpx

from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.copying import copy
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.bootstrap.resources import open_store
from tok0n.bootstrap.services import Services, make_api_keys
from tok0n.bootstrap.serving import bind_for
from tok0n.bootstrap.wiring import open_gateway
from tok0n.domain import ids
from tok0n.domain.ledger import US_AN_HOUR
from tok0n.domain.months import month_at
from tok0n.domain.users import Agent
from tok0n.http.server import HttpServer
from tok0n.services.api_keys import KeyDraft
from tok0n.settings import load

ROUNDS = 7
DAYS = 90
KEYS = 5
ORDERS = 24
ORDER_TOKENS = 10**7
MODELS = ("alpha", "beta", "gamma", "delta", "epsilon", "rare")
ZONES = ("UTC", "Asia/Kolkata")
EMAIL = "million@example.com"
PASSWORD = "plenty of quiet rivers"
HTTP_ALONE = "(http alone)"
TARGET_MS = 50.0


class Names(NamedTuple):
    """The ids in the paths of pages, and the secret of an API key."""

    keys: list[str]
    secret: str
    account: str = ""
    request: str = ""
    order: str = ""
    entry: str = ""
    """An entry in the middle of last month."""


async def main(requests: int, database: str | None) -> None:
    """Write, audit, measure, print."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="run-") as name:
        folder = Path(name)
        settings_file = folder / "tok0n.toml"
        settings_file.write_text("[server]\nport = 0\n[logs]\nlevel = 'error'\n")
        settings = load(settings_file, environ={}, dotenv={}, overrides={})
        names = await prepare(settings)
        write(folder / "tok0n.db", requests, names.keys)
        if database is not None:
            await copy_to(folder / "tok0n.db", database)
            with settings_file.open("a") as file:
                file.write(f"[database]\nurl = '{database}'\n")
            settings = load(settings_file, environ={}, dotenv={}, overrides={})
        names = find_names(folder / "tok0n.db", names)
        listener, settings = bind_for(settings)
        async with open_gateway(settings) as gateway, signed_in(gateway.services) as (cookie, user_id):
            listener.listen()
            async with HttpServer(gateway.app, listener, shutdown_seconds=5) as server:
                for zone in ZONES:
                    await gateway.services.store.users.set_time_zone(user_id=user_id, time_zone=zone)
                    await measure(server.url, cookie, names, title=f"{requests:,} requests, {zone}")
                await export(server.url, cookie)


async def copy_to(path: Path, url: str) -> None:
    """Copy the database to an empty one of PostgreSQL, and gather its statistics."""
    source, target = SqliteStore(path, serving=False), PostgresStore(PostgresOptions(url=url))
    await target.migrate()
    await copy(source, target)
    await source.aclose()
    await target.aclose()


@contextlib.asynccontextmanager
async def signed_in(services: Services) -> AsyncIterator[tuple[str, str]]:
    """Complete the roll-ups and the audit, and sign a visitor in; gives the cookie and the id of the user."""
    store, now_us = services.store, services.clock.now_us()
    while await store.daily_use.roll_up(now_us=now_us, accounts_max=100):
        pass
    while await store.model_days.roll_up(now_us=now_us):
        pass
    audit = await store.ledger.audit()
    assert audit.ok, audit.differences[:3]
    link = await services.sign_in.set_up_link()
    assert link is not None
    new = await services.sign_in.set_up(
        link.partition("link=")[2], email=EMAIL, password=PASSWORD, agent=Agent(user_agent="bench")
    )
    assert new is not None
    user = await store.users.find(EMAIL)
    assert user is not None
    yield new.secret, user.id


async def prepare(settings) -> Names:  # noqa: ANN001
    """An account with keys; gives their ids and the secret of one."""
    clock = SystemClock()
    async with open_store(settings) as store:
        account = await store.accounts.create(email=EMAIL, tokens=10**12, now_us=clock.now_us())
        api_keys = make_api_keys(settings, store, clock)
        issued = [await api_keys.create(account.id, KeyDraft(name=f"key {n}")) for n in range(KEYS)]
    assert issued[0].secret is not None
    return Names(keys=[new.key.id for new in issued], secret=issued[0].secret, account=account.id)


def write(path: Path, requests: int, keys: list[str]) -> None:
    """The rows that so many requests would have left."""
    database = sqlite3.connect(path)
    account_id, posted = database.execute("SELECT account_id, posted FROM wallet").fetchone()
    entries = 1
    dice = random.Random(1)
    now_us = SystemClock().now_us()
    step_us = DAYS * 24 * US_AN_HOUR // requests
    with database:
        for number in range(requests):
            at_us = now_us - (requests - number) * step_us
            request_id = ids.request_id(at_us, number.to_bytes(ids.RANDOM_BYTES))
            model = "rare" if number % 50_021 == 7 else dice.choice(MODELS[:-1])
            billed = dice.random() > 0.01
            prompt, completion = dice.randrange(10, 900), dice.randrange(1, 500)
            charged = prompt + completion if billed else 0
            usage = (prompt, completion, charged) if billed else (None, None, None)
            outcome = ("SETTLED", None) if billed else ("RELEASED", "upstream_error")
            database.execute(
                "INSERT INTO request (id, account_id, api_key_id, model, status, reserved, charged, shortfall,"
                " prompt_tokens, completion_tokens, total_tokens, details, code, dispatched, upstream_ms,"
                " created_at_us, expires_at_us, resolved_at_us) VALUES (?,?,?,?,?,?,?,0,?,?,?,?,?,1,?,?,?,?)",
                (
                    *(request_id, account_id, dice.choice(keys), model, outcome[0], 3_000, charged, *usage),
                    *("{}" if billed else None, outcome[1], 800, at_us, at_us + 10**8, at_us + 800_000),
                ),
            )
            if number * ORDERS % requests < ORDERS:
                posted, entries = posted + ORDER_TOKENS, entries + 1
                buy(database, account_id, at_us, number=entries, posted=posted)
            if billed:
                posted -= charged
                entries += 1
                database.execute(
                    "INSERT INTO ledger_entry"
                    " (account_id, number, kind, amount, posted_after, request_id, created_at_us)"
                    " VALUES (?, ?, 'usage', ?, ?, ?, ?)",
                    (account_id, entries, -charged, posted, request_id, at_us + 800_000),
                )
        database.execute("UPDATE wallet SET posted = ?, entries = ?", (posted, entries))
        database.execute(
            "INSERT INTO usage_quarter (account_id, quarter, api_key_id, model, requests, prompt_tokens,"
            " completion_tokens, charged) SELECT account_id, resolved_at_us / 900000000, api_key_id, model, count(*),"
            " sum(prompt_tokens), sum(completion_tokens), sum(charged) FROM request WHERE status = 'SETTLED'"
            " GROUP BY 1, 2, 3, 4"
        )
    database.close()


def buy(database: sqlite3.Connection, account_id: str, at_us: int, *, number: int, posted: int) -> None:
    """Write a paid order and its entry in the ledger."""
    order_id = ids.order_id(at_us, number.to_bytes(ids.RANDOM_BYTES))
    database.execute(
        "INSERT INTO pack_order (id, account_id, pack_id, pack_name, tokens, price_cents, currency, created_at_us,"
        " is_complete, paid_cents, paid_at_us, purchase_applied) VALUES (?,?,'s','Small',?,999,'usd',?,1,999,?,?)",
        (order_id, account_id, ORDER_TOKENS, at_us, at_us, ORDER_TOKENS),
    )
    database.execute(
        "INSERT INTO ledger_entry (account_id, number, kind, amount, posted_after, order_id, created_at_us)"
        " VALUES (?, ?, 'purchase', ?, ?, ?, ?)",
        (account_id, number, ORDER_TOKENS, posted, order_id, at_us),
    )


def find_names(path: Path, names: Names) -> Names:
    """Add the ids of a request, an order and an entry of the account."""
    database = sqlite3.connect(path)
    middle = ids.first_request_id(SystemClock().now_us() - DAYS * 12 * US_AN_HOUR)
    (request,) = database.execute(
        "SELECT min(id) FROM request WHERE id >= ? AND status = 'SETTLED'", (middle,)
    ).fetchone()
    (order,) = database.execute("SELECT max(id) FROM pack_order").fetchone()
    at_us = month_at(SystemClock().now_us(), UTC).preceding.starts_at_us(UTC) + 15 * 24 * US_AN_HOUR
    at_us, number = database.execute(
        "SELECT created_at_us, number FROM ledger_entry WHERE created_at_us >= ? ORDER BY id LIMIT 1", (at_us,)
    ).fetchone()
    database.close()
    return names._replace(request=request, order=order, entry=f"{at_us}-{number}-standard")


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


async def measure(url: str, cookie: str, names: Names, *, title: str) -> None:
    """Ask for each page several times, in turns; print the milliseconds of each."""
    paths = pages(names)
    cpu: dict[str, list[float]] = {name: [] for name in paths}
    wall: dict[str, list[float]] = {name: [] for name in paths}
    headers = {"authorization": f"Bearer {names.secret}"}
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as client:
        client.cookies.set("tok0n", cookie)
        for _ in range(ROUNDS):
            for name, path in paths.items():
                began, cpu_began = time.perf_counter(), time.process_time()
                answer = await client.get(path)
                wall[name].append((time.perf_counter() - began) * 1000)
                cpu[name].append((time.process_time() - cpu_began) * 1000)
                assert answer.status_code == 200, (path, answer.status_code)
    http_ms = min(cpu[HTTP_ALONE])
    print(f"{title:<45}{'CPU ms':>10}{'wall, least':>12}{'median':>10}")
    for name in paths:
        least, fastest, median = min(cpu[name]) - http_ms, min(wall[name]), statistics.median(wall[name])
        over = "  over the target" if min(least, fastest) > TARGET_MS else ""
        print(f"{name:<45}{least:>10.1f}{fastest:>12.1f}{median:>10.1f}{over}")


async def export(url: str, cookie: str) -> None:
    """Download the CSV of all requests and of all entries."""
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        client.cookies.set("tok0n", cookie)
        for path in ("/dashboard/requests.csv", "/dashboard/statement.csv"):
            began = time.perf_counter()
            exported = await client.get(path)
            lines = exported.text.count("\n") - 1
            print(f"{path}: {lines:,} lines in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="[default: 1000000]")
    parser.add_argument("--database", help="the URL of an empty database of PostgreSQL [default: a SQLite file]")
    options = parser.parse_args()
    asyncio.run(main(options.requests, options.database))
