"""How long the pages of an account with a million requests take: make bench-pages, or with a number of requests.

The rows are written straight into SQLite, spread over 90 days, six models and five keys, with the roll-ups that
requests would have made; the audit must find nothing. Then each page is asked for by a signed-in visitor, several
times, over HTTP on one connection, beside /healthz, which only shows what HTTP costs.
"""

import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tok0n.adapters.clock import SystemClock
from tok0n.bootstrap.resources import open_store
from tok0n.bootstrap.services import make_api_keys
from tok0n.bootstrap.serving import bind_for
from tok0n.bootstrap.wiring import open_gateway
from tok0n.domain import ids
from tok0n.domain.ledger import US_AN_HOUR
from tok0n.domain.users import Agent
from tok0n.http.server import HttpServer
from tok0n.services.api_keys import KeyDraft
from tok0n.settings import load

ROUNDS = 7
DAYS = 90
KEYS = 5
MODELS = ("alpha", "beta", "gamma", "delta", "epsilon", "rare")
EMAIL = "million@example.com"
PASSWORD = "plenty of quiet rivers"


async def main(requests: int) -> None:
    """Write, audit, measure, print."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="run-") as name:
        folder = Path(name)
        (folder / "tok0n.toml").write_text("[server]\nport = 0\n[logs]\nlevel = 'error'\n")
        settings = load(folder / "tok0n.toml", environ={}, dotenv={}, overrides={})
        keys = await prepare(settings)
        write(folder / "tok0n.db", requests, keys)
        listener, settings = bind_for(settings)
        async with open_gateway(settings) as gateway:
            audit = await gateway.services.store.ledger.audit()
            assert audit.ok, audit.differences[:3]
            link = await gateway.services.sign_in.set_up_link()
            assert link is not None
            new = await gateway.services.sign_in.set_up(
                link.partition("link=")[2], email=EMAIL, password=PASSWORD, agent=Agent(user_agent="bench")
            )
            assert new is not None
            listener.listen()
            async with HttpServer(gateway.app, listener, shutdown_seconds=5) as server:
                await measure(server.url, new.secret, keys, requests)


async def prepare(settings) -> list[str]:  # noqa: ANN001
    """An account with keys; gives their ids."""
    clock = SystemClock()
    async with open_store(settings) as store:
        account = await store.accounts.create(email=EMAIL, tokens=10**12, now_us=clock.now_us())
        api_keys = make_api_keys(settings, store, clock)
        issued = [await api_keys.create(account.id, KeyDraft(name=f"key {n}")) for n in range(KEYS)]
    return [new.key.id for new in issued]


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


async def measure(url: str, secret: str, keys: list[str], requests: int) -> None:
    """Ask for each page several times, in turns; print the medians and the slowest, in milliseconds."""
    paths = {
        "(http alone)": "/healthz",
        "overview": "/dashboard",
        "keys": "/dashboard/keys",
        "requests": "/dashboard/requests",
        "requests, one key": f"/dashboard/requests?key={keys[0]}",
        "requests, a rare model": "/dashboard/requests?model=rare",
        "requests, a model never used": "/dashboard/requests?model=never",
        "requests, rare model and one key": f"/dashboard/requests?model=rare&key={keys[1]}",
        "requests, not billed": "/dashboard/requests?status=released",
        "requests, in flight": "/dashboard/requests?status=pending",
        "requests, one month": "/dashboard/requests?last=30d&status=settled",
        "usage, 7 days": "/dashboard/usage",
        "usage, 90 days by key": "/dashboard/usage?last=90d&by=key",
        "statement": "/dashboard/statement",
        "statement, in the middle": f"/dashboard/statement?before={requests // 2}",
        "settings": "/dashboard/settings",
        "playground": "/dashboard/playground",
    }
    took: dict[str, list[float]] = {name: [] for name in paths}
    async with httpx.AsyncClient(base_url=url, cookies={"tok0n": secret}, timeout=60) as client:
        for _ in range(ROUNDS):
            for name, path in paths.items():
                began = time.perf_counter()
                answer = await client.get(path)
                took[name].append((time.perf_counter() - began) * 1000)
                assert answer.status_code == 200, (path, answer.status_code)
        began = time.perf_counter()
        exported = await client.get("/dashboard/requests.csv")
        seconds = time.perf_counter() - began
    lines = exported.text.count("\n") - 1
    print(f"{'page, with ' + format(requests, ',') + ' requests':<45}{'median ms':>10}{'slowest':>10}")
    for name, values in took.items():
        print(f"{name:<45}{statistics.median(values):>10.1f}{max(values):>10.1f}")
    print(f"CSV of all: {lines:,} lines in {seconds:.1f} s")
    print(json.dumps({name: round(statistics.median(values), 1) for name, values in took.items()}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
