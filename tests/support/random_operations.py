"""One process of many that work on the same accounts: python random_operations.py URL SEED OPERATIONS PROCESS.

Prints, as JSON, what it did to each account. Run by test_many_processes.py.
"""

import asyncio
import json
import random
import sys
from collections import Counter

import sqlalchemy as sa

from tok0n.adapters.sql import schema
from tok0n.adapters.sql.ledger_functions import append_entry, lock_budgets
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.ledger import PostgresLedger
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.domain.accounts import ApiKey
from tok0n.domain.budgets import periods_at
from tok0n.domain.errors import AlreadyResolved, InsufficientTokens, KeyBudgetSpent, KeyChanged
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, EntryKind, NewReservation, Release, Settlement
from tok0n.domain.usage import Usage

EMAILS = ("a@x", "b@x", "c@x")
CLASSES = ("standard", "premium")
CALLERS = 48
NOW_US = 1_800_000_000_000_000


class Worker:
    def __init__(self, url: str, seed: int, operations: int, process_id: str) -> None:
        self.store = PostgresStore(
            PostgresOptions(url=url, pool_size=8, connect_timeout_seconds=60, lock_timeout_seconds=60)
        )
        self.ledger = PostgresLedger(self.store, process_id=process_id)
        self.accounts = SqlAccounts(self.store)
        self.chance = random.Random(seed)
        self.seed = seed
        self.left = operations
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        self.callers: dict[str, ApiKey] = {}
        for email in EMAILS:
            await self._read_key(email)
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._caller(number))
        await self.ledger.aclose()
        await self.store.aclose()

    async def _caller(self, number: int) -> None:
        n = 0
        while self.left > 0:
            n += 1
            await self._request(f"r{self.seed}-{number}-{n}", self.chance.choice(EMAILS))

    async def _request(self, request_id: str, email: str) -> None:
        """Reserve, and end it in one of the ways there are; sometimes twice, sometimes not at all."""
        key = self.callers[email]
        self.left -= 1
        tokens = self.chance.randrange(1, 2_000)
        token_class = self.chance.choice(CLASSES)
        created_at_us = NOW_US + self.chance.choice((0, MICROSECONDS_PER_DAY))
        reservation = NewReservation(
            request_id=request_id,
            account_id=key.account_id,
            api_key_id=key.id,
            model="demo",
            tokens=tokens,
            created_at_us=created_at_us,
            expires_at_us=NOW_US,
            token_class=token_class,
            key_version=key.version,
            periods=periods_at(key.limits.budgets, token_class, created_at_us),
        )
        try:
            await self.ledger.reserve(reservation)
        except KeyChanged:
            self.done["stale"] += 1
            await self._read_key(email)
            return
        except InsufficientTokens:
            self.done["refused"] += 1
            if self.chance.random() < 0.2:
                await self._grant(email, token_class)
            return
        except KeyBudgetSpent:
            self.done["over budget"] += 1
            await self._change_budgets(key)
            return
        self.done["reserved"] += 1
        end = self.chance.random()
        if end < 0.7:
            await self._settle(reservation, email, self.chance.randrange(1, 2_500))
        if end > 0.6:
            await self._release(request_id)
        if self.chance.random() < 0.02:
            self.left -= 1
            self.done["expired"] += await self.ledger.expire(now_us=NOW_US + 1, rows_max=20)

    async def _settle(self, reservation: NewReservation, email: str, total: int) -> None:
        self.left -= 1
        usage = Usage(prompt_tokens=total, completion_tokens=0, total_tokens=total)
        settlement = Settlement(
            request_id=reservation.request_id,
            usage=usage,
            resolved_at_us=NOW_US,
            upstream_ms=1,
            reservation=reservation if self.chance.random() < 0.7 else None,
        )
        try:
            receipt = await self.ledger.settle(settlement)
        except AlreadyResolved:
            self.done["settled too late"] += 1
            return
        self.done[f"charged {email} {reservation.token_class}"] += receipt.charged
        self.done["shortfall"] += receipt.shortfall
        self.done["settled"] += 1
        if self.chance.random() < 0.1:
            again = await self.ledger.settle(settlement)
            assert (again.charged, again.reserved) == (receipt.charged, receipt.reserved)

    async def _release(self, request_id: str) -> None:
        self.left -= 1
        release = Release(request_id=request_id, code="upstream_error", dispatched=True, resolved_at_us=NOW_US)
        try:
            await self.ledger.release(release)
        except AlreadyResolved:
            self.done["released too late"] += 1

    async def _grant(self, email: str, token_class: str) -> None:
        self.left -= 1
        tokens = self.chance.randrange(1, 100_000)
        account_id = self.callers[email].account_id
        await self.store.write(
            lambda tx: append_entry(
                tx,
                account_id=account_id,
                token_class=token_class,
                kind=EntryKind.GRANT,
                amount=tokens,
                reason="more",
                now_us=NOW_US,
            )
        )
        self.done[f"granted {email} {token_class}"] += tokens

    async def _change_budgets(self, key: ApiKey) -> None:
        """Give a key more tokens, which makes the callers in all processes stale."""
        self.left -= 1
        more = self.chance.randrange(1, 1_000_000)
        columns, budgets = schema.api_key.c, schema.key_budget.c

        def fn(tx: sa.Connection) -> None:
            tx.execute(sa.update(schema.api_key).where(columns.id == key.id).values(version=columns.version + 1))
            lock_budgets(tx, [budget.id for budget in key.limits.budgets])
            tx.execute(
                sa.update(schema.key_budget).where(budgets.api_key_id == key.id).values(tokens=budgets.tokens + more)
            )

        await self.store.write(fn)
        self.done["budgets changed"] += 1

    async def _read_key(self, email: str) -> None:
        (self.callers[email], *_) = await self.accounts.list_keys((await self.accounts.get(email)).id)


if __name__ == "__main__":
    worker = Worker(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    asyncio.run(worker.run())
    sys.stdout.write(json.dumps(worker.done))
