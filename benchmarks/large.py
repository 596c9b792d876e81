"""Fill a migrated database with many accounts, one API key each, and the settled requests of 90 days.

    python benchmarks/large.py --accounts 20000 --requests 5000000 sqlite:PATH
    python benchmarks/large.py --accounts 20000 --requests 5000000 postgresql://USER@HOST/DATABASE
    python benchmarks/large.py --accounts 20000 --print-keys

The rows are written past the ledger, and `tok0n ledger audit` finds no difference. `api_key(number)` computes each
key again. No server may run on the database meanwhile.
"""

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import asyncpg

from tok0n.domain.api_key import digest, last_four, make_api_key, shown_prefix

DAYS = 90
MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_DAY = 24 * 3600 * MICROSECONDS_PER_SECOND
RECENT_SECONDS = 60
GRANT_TOKENS = 10**12
MODELS = ("bench", "alpha", "beta", "gamma", "delta", "epsilon")
MODELS_PER_ACCOUNT = 2
KEY_NAME = "large"
LARGEST, LARGEST_FROM_REQUESTS = 1_000_000, 5_000_000
REQUESTS_PER_TRANSACTION = 50_000
CACHE_KIB = 500_000
UPSTREAM_US = 800_000

ROLL_UPS = {
    "usage_quarter": "INSERT INTO usage_quarter"
    " (account_id, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)"
    " SELECT account_id, resolved_at_us / 900000000, api_key_id, model, count(*), sum(prompt_tokens),"
    " sum(completion_tokens), sum(charged) FROM request WHERE status = 'SETTLED'"
    f" AND api_key_id IN (SELECT id FROM api_key WHERE name = '{KEY_NAME}') GROUP BY 1, 2, 3, 4 ORDER BY 2",
    "usage_rollup": "INSERT INTO usage_rollup (day, account_id) SELECT max(quarter) / 96 - 1, '' FROM usage_quarter"
    " WHERE NOT EXISTS (SELECT 1 FROM usage_rollup) HAVING max(quarter) IS NOT NULL",
    "usage_span": "INSERT INTO usage_span"
    " (account_id, span_quarters, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)"
    " SELECT account_id, length, quarter / length * length, api_key_id, model, sum(requests), sum(prompt_tokens),"
    " sum(completion_tokens), sum(charged)"
    " FROM (SELECT 4 AS length UNION ALL SELECT 24 UNION ALL SELECT 96) AS lengths CROSS JOIN usage_quarter"
    " WHERE quarter < 96 * (SELECT day FROM usage_rollup) GROUP BY 1, 2, 3, 4, 5"
    " ORDER BY quarter / length * length / 96, length, account_id ON CONFLICT DO NOTHING",
}
"""The statement that fills each roll-up table from the requests, in the order in which Tok0n would write the rows.

A table that the database lacks is skipped.
"""

ACCOUNT = ("id", "email", "status", "created_at_us")
WALLET = ("account_id", "token_class", "posted", "pending", "entries")
API_KEY = ("id", "account_id", "name", "created_at_us")
KEY_SECRET = ("digest", "api_key_id", "prefix", "last_four", "created_at_us")
ENTRY = ("account_id", "number", "kind", "amount", "posted_after", "request_id", "reason", "created_at_us")
REQUEST = (
    *("id", "account_id", "api_key_id", "model", "status", "reserved", "charged", "shortfall", "prompt_tokens"),
    *("completion_tokens", "total_tokens", "details", "dispatched", "upstream_ms", "created_at_us", "expires_at_us"),
    "resolved_at_us",
)

Row = tuple[Any, ...]


class Size(NamedTuple):
    """How much to write. `recent` requests of the last minute are added to `requests`."""

    accounts: int
    requests: int = 0
    largest: int = 0
    """The least number of requests of the first account."""
    recent: int = 0


class Database(Protocol):
    """What both engines do with rows."""

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Append rows, in this order."""

    async def set_wallets(self, rows: Sequence[Row]) -> None:
        """Set the posted tokens and the number of entries of wallets. Each row ends with the id of the account."""

    async def roll_up(self) -> None:
        """Fill the roll-up tables that exist."""

    async def commit(self) -> None:
        """Make what was written durable."""


def api_key(number: int) -> str:
    """Return the secret of the account with this number, which starts at 0."""
    return make_api_key(_hash("key", number))


def account_id(number: int) -> str:
    """Return the account's id, which is as random as those of Tok0n."""
    return f"acct_{_hash('account', number)[:10].hex()}"


def key_id(number: int) -> str:
    """Return the id of the account's API key."""
    return f"key_{_hash('key id', number)[:10].hex()}"


def write_keys(path: Path, numbers: range) -> Path:
    """Write the keys of these accounts to a file, one per line."""
    path.write_text("".join(f"{api_key(number)}\n" for number in numbers))
    return path


def fill(url: str, size: Size, *, analyze: bool = True) -> None:
    """Fill the database at `sqlite:PATH` or `postgresql://…`."""
    asyncio.run(fill_database(url, size, analyze=analyze))


async def fill_database(url: str, size: Size, *, now_us: int | None = None, analyze: bool = True) -> None:
    """Write accounts, then requests in the order of their ids, then roll-ups and balances.

    PostgreSQL gets its statistics at the end, unless `analyze` is False.
    """
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    start_us = now_us - DAYS * MICROSECONDS_PER_DAY
    account_ids = [account_id(number) for number in range(size.accounts)]
    key_ids = [key_id(number) for number in range(size.accounts)]
    posted = [GRANT_TOKENS] * size.accounts
    entries = [1] * size.accounts
    async with open_database(url, analyze=analyze) as database:
        numbers = range(size.accounts)
        await database.insert("account", ACCOUNT, [_account(number, start_us) for number in numbers])
        wallets = [(one, "standard", GRANT_TOKENS, 0, 1) for one in account_ids]
        await database.insert("wallet", WALLET, wallets)
        await database.insert("api_key", API_KEY, [_api_key(number, start_us) for number in numbers])
        await database.insert("key_secret", KEY_SECRET, [_key_secret(number, start_us) for number in numbers])
        grants = [(one, 1, "grant", GRANT_TOKENS, GRANT_TOKENS, None, "benchmark", start_us) for one in account_ids]
        await database.insert("ledger_entry", ENTRY, grants)
        rows = _requests(size, now_us, account_ids, key_ids, posted, entries)
        while chunk := list(itertools.islice(rows, REQUESTS_PER_TRANSACTION)):
            await database.insert("request", REQUEST, [request for request, _ in chunk])
            await database.insert("ledger_entry", ENTRY, [entry for _, entry in chunk])
            await database.commit()
        await database.set_wallets(list(zip(posted, entries, account_ids, strict=True)))
        await database.roll_up()
        await database.commit()


def _hash(kind: str, number: int) -> bytes:
    return hashlib.sha256(f"tok0n benchmark {kind} {number}".encode()).digest()


def _account(number: int, at_us: int) -> Row:
    return (account_id(number), f"large-{number}@example.com", "open", at_us)


def _api_key(number: int, at_us: int) -> Row:
    return (key_id(number), account_id(number), KEY_NAME, at_us)


def _key_secret(number: int, at_us: int) -> Row:
    key = api_key(number)
    return (digest(key), key_id(number), shown_prefix(key), last_four(key), at_us)


def _requests(
    size: Size, now_us: int, account_ids: list[str], key_ids: list[str], posted: list[int], entries: list[int]
) -> Iterator[tuple[Row, Row]]:
    """Yield each request with its ledger entry, oldest first. Updates `posted` and `entries`."""
    dice = random.Random(1)  # the same rows in every run
    for number, created_us in enumerate(_times_us(size, now_us)):
        is_largest = number < size.requests and (number + 1) * size.largest // size.requests > (
            number * size.largest // size.requests
        )
        index = 0 if is_largest else int(dice.random() * size.accounts)
        model = MODELS[(index + int(dice.random() * MODELS_PER_ACCOUNT)) % len(MODELS)]
        prompt, completion = 10 + int(dice.random() * 900), 1 + int(dice.random() * 500)
        charged = prompt + completion
        posted[index] -= charged
        entries[index] += 1
        request_id = f"req_{created_us // 1000:012x}{number:020x}"
        resolved_us = created_us + UPSTREAM_US
        yield (
            (
                *(request_id, account_ids[index], key_ids[index], model, "SETTLED", 3_000, charged, 0, prompt),
                *(
                    completion,
                    charged,
                    "{}",
                    1,
                    UPSTREAM_US // 1000,
                    created_us,
                    created_us + 100 * MICROSECONDS_PER_SECOND,
                ),
                resolved_us,
            ),
            (account_ids[index], entries[index], "usage", -charged, posted[index], request_id, None, resolved_us),
        )


def _times_us(size: Size, now_us: int) -> Iterator[int]:
    """Yield evenly spread times: of the last 90 days before the last minute, and of the last minute."""
    minute_us = now_us - RECENT_SECONDS * MICROSECONDS_PER_SECOND
    start_us, end_us = now_us - DAYS * MICROSECONDS_PER_DAY, now_us - 2 * UPSTREAM_US
    for number in range(size.requests):
        yield start_us + (minute_us - UPSTREAM_US - start_us) * number // size.requests
    for number in range(size.recent):
        yield minute_us + (end_us - minute_us) * number // size.recent


@contextlib.asynccontextmanager
async def open_database(url: str, *, analyze: bool = True) -> AsyncIterator[Database]:
    """Open a database to write many rows. PostgreSQL gets its statistics at the end, unless `analyze` is False."""
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///").removeprefix("sqlite:"))
        try:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            yield _Sqlite(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        return
    postgres = await asyncpg.connect(url)
    try:
        yield _Postgres(postgres)
        if analyze:
            await postgres.execute("VACUUM ANALYZE", timeout=None)
    finally:
        await postgres.close()


class _Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        places = ",".join("?" * len(columns))
        self._connection.executemany(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({places})", rows)

    async def set_wallets(self, rows: Sequence[Row]) -> None:
        self._connection.executemany("UPDATE wallet SET posted = ?, entries = ? WHERE account_id = ?", rows)

    async def roll_up(self) -> None:
        for table, statement in ROLL_UPS.items():
            if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                self._connection.execute(statement)

    async def commit(self) -> None:
        self._connection.commit()


class _Postgres:
    """Each statement commits by itself."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        await self._connection.copy_records_to_table(table, records=rows, columns=columns)

    async def set_wallets(self, rows: Sequence[Row]) -> None:
        await self._connection.executemany("UPDATE wallet SET posted = $1, entries = $2 WHERE account_id = $3", rows)

    async def roll_up(self) -> None:
        for table, statement in ROLL_UPS.items():
            if await self._connection.fetchval("SELECT to_regclass($1)::text", table):
                await self._connection.execute(statement, timeout=None)

    async def commit(self) -> None:
        pass


def main() -> None:
    """Fill the database, or print the keys."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="sqlite:PATH or postgresql://…, after tok0n migrate")
    parser.add_argument("--accounts", type=int, default=20_000, help="[default: 20000]")
    parser.add_argument("--requests", type=int, default=0, help="settled requests of the last 90 days  [default: 0]")
    parser.add_argument("--recent", type=int, default=0, help="more requests, of the last minute  [default: 0]")
    parser.add_argument(
        "--largest", type=int, help="requests of the first account  [default: 1000000 of at least 5000000]"
    )
    parser.add_argument("--print-keys", action="store_true", help="print the API keys, one per line")
    options = parser.parse_args()
    if options.largest is None:
        options.largest = LARGEST if options.requests >= LARGEST_FROM_REQUESTS else 0
    if options.print_keys:
        print(*map(api_key, range(options.accounts)), sep="\n")
    elif options.url is None:
        parser.error("name a database")
    else:
        began = time.monotonic()
        fill(options.url, Size(options.accounts, options.requests, options.largest, options.recent))
        print(f"{options.accounts:,} accounts, {options.requests + options.recent:,} requests", end="")
        print(f" in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
