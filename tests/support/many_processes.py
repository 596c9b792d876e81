"""Processes that work on three accounts in one PostgreSQL at once."""

import asyncio
import json
import secrets
import sys
from collections import Counter
from pathlib import Path

import asyncpg

from support import postgres
from support.leases import PROCESS_ID, leased_ledger
from support.ledgers import NOW_US
from support.random_operations import EMAILS
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.ledger import Balance

OPENING_TOKENS = 200_000
LIMITS = {
    "a@x": KeyLimits(),
    "b@x": KeyLimits(
        budgets=(
            KeyBudget(id="bud_1", tokens=100_000),
            KeyBudget(id="bud_2", tokens=30_000, period=ResetPeriod.DAY),
            KeyBudget(id="bud_3", tokens=30_000, period=ResetPeriod.DAY, token_class="premium"),
        )
    ),
    "c@x": KeyLimits(budgets=(KeyBudget(id="bud_4", tokens=50_000, period=ResetPeriod.WEEK),)),
}
"""The keys of two accounts have budgets, so batches of two processes lock wallets and budgets."""

SCRIPT = Path(__file__).parent / "random_operations.py"


async def _work(url: str, seed: int, operations: int) -> Counter[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), url, str(seed), str(operations), PROCESS_ID, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return Counter(json.loads(output))


async def work_together(*, processes: int, operations: int) -> Counter[str]:
    """Let each process do so many random operations. Asserts that no token drifts and PostgreSQL saw no deadlock.

    Returns how often each operation ended in which way.
    """
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        store = PostgresStore(PostgresOptions(url=url))
        ledger, accounts = await leased_ledger(store), SqlAccounts(store)
        for email in EMAILS:
            account = await accounts.create(email=email, tokens=OPENING_TOKENS, now_us=NOW_US)
            await accounts.create_key(
                account_id=account.id,
                name="k",
                digest=email.encode(),
                prefix="p",
                last_four="l",
                now_us=NOW_US,
                limits=LIMITS[email],
            )
        results = await asyncio.gather(*(_work(url, seed, operations) for seed in range(processes)))
        done = sum(results, Counter())
        await ledger.recover(now_us=NOW_US)
        for email in EMAILS:
            wallets = (await accounts.get(email)).wallets
            for token_class, opening in {"standard": OPENING_TOKENS, "premium": 0}.items():
                granted, charged = (done[f"{what} {email} {token_class}"] for what in ("granted", "charged"))
                assert wallets[token_class] == Balance(posted=opening + granted - charged, pending=0)
        report = await ledger.audit()
        assert report.differences == []
        await ledger.aclose()
        await store.aclose()
        connection = await asyncpg.connect(url)
        assert (
            await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
        )
        await connection.close()
    return done
