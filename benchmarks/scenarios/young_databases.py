"""Whether PostgreSQL keeps a bad plan for the hot path that it made while the database was almost empty.

Each of twenty databases is a copy of one that was just migrated. Every second one was analyzed before its first
request. A gateway with new connections serves a short load of each, with one key and then another copy with 200, and
PostgreSQL's own statistics tell how many index entries and rows a request read. A plan by a wrong index reads hundreds
instead of two. It does not show a database that grows for hours: `tests/adapters/test_postgres_ledger.py` does.
"""

import asyncio
import statistics
from typing import Any

import asyncpg
import large
import servers
from bench import Bench, Result
from load import wrk
from servers import Server

DATABASES, DATABASES_QUICK = 20, 4
KEYS = (1, 200)
CONNECTIONS = 64
LOAD_SECONDS = 1
PKEY_ENTRIES_MAX = 4.0
"""A settlement finds its request twice by its id: to lock its wallet, and to end it."""

HOT_TABLES = ("request", "wallet", "api_key", "key_secret", "ledger_entry", "usage_quarter", "account")
_READ = """
SELECT 'request_pkey', coalesce(sum(idx_tup_read), 0)::float8 FROM pg_stat_user_indexes
WHERE indexrelname = 'request_pkey'
UNION ALL SELECT 'indexes', coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE relname = ANY ($1)
UNION ALL SELECT 'scans', coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname = ANY ($1)
"""


def measure(bench: Bench) -> Result:
    """Load one copy after the other."""
    result = Result()
    count = DATABASES_QUICK if bench.quick else DATABASES
    with servers.upstream(bench.folder), servers.postgres() as (template, _):
        prepared = servers.prepare(bench.folder / "young", database=template, port=servers.SECOND_GATEWAY_PORT)
        large.fill(template, large.Size(accounts=max(KEYS)), analyze=False)
        for keys in KEYS:
            read = [_load(bench, prepared, template, number, keys=keys) for number in range(count)]
            _add(result, read, keys=keys)
    return result


def _load(bench: Bench, template: Server, template_url: str, number: int, *, keys: int) -> dict[str, float]:
    """Serve a new copy, and return how many entries and rows one request read on average, and the rate."""
    assert template.folder is not None
    name = f"young_{keys}_{number}"
    url = template_url.rsplit("/", 1)[0] + "/" + name
    asyncio.run(_execute(template_url.rsplit("/", 1)[0] + "/postgres", f"CREATE DATABASE {name} TEMPLATE bench"))
    if number % 2:
        asyncio.run(_execute(url, "ANALYZE"))
    settings = template.folder / "tok0n.toml"
    settings.write_text(settings.read_text("utf-8").replace(template_url, url))
    try:
        keys_path = large.write_keys(bench.folder / "young-keys.txt", range(keys))
        before = asyncio.run(_read(url))
        with servers.serving(template) as pid:
            gateway = template._replace(parts={"gateway": (pid,)}, keys_path=keys_path)
            load = wrk(bench.folder, gateway, seconds=LOAD_SECONDS, connections=CONNECTIONS)
        after = asyncio.run(_read(url))  # a backend reports what remains when its connection closes
    finally:
        settings.write_text(settings.read_text("utf-8").replace(url, template_url))
    read = {what: (after[what] - before[what]) / load.requests for what in after}
    bench.say(f"{name}: {load.per_second:,.0f}/s; read a request: {', '.join(f'{k} {v:.1f}' for k, v in read.items())}")
    return {**read, "per_second": load.per_second, "errors": load.errors}


def _add(result: Result, read: list[dict[str, float]], *, keys: int) -> None:
    figures: dict[str, Any] = {what: [one[what] for one in read] for what in read[0]}
    result.figures[f"{keys} keys"] = figures
    entries = figures["request_pkey"]
    value = f"{statistics.median(entries):.1f}, at most {max(entries):.1f}"
    reached = max(entries) <= PKEY_ENTRIES_MAX
    name = f"{len(read)} young databases, {keys} keys: entries of request_pkey read a request"
    result.add(name, value, f"≤ {PKEY_ENTRIES_MAX:g}", reached=reached)
    for what, text in (("indexes", "entries of all hot indexes"), ("scans", "rows read by scans of hot tables")):
        result.add(f"the same: {text}", f"{statistics.median(figures[what]):.1f}, at most {max(figures[what]):.1f}")
    if sum(figures["errors"]):
        result.failures.append(f"{keys} keys: {sum(figures['errors']):g} errors")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _read(url: str) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    try:
        return dict(await connection.fetch(_READ, list(HOT_TABLES)))
    finally:
        await connection.close()
