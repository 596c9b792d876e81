"""One account's burst goes in turn; other accounts do not wait, and no lock is kept when nobody uses it."""

import asyncio
import gc

import pytest

from tok0n.services.account_locks import AccountLocks

pytestmark = pytest.mark.anyio


async def test_an_account_has_one_transaction_at_a_time_and_another_account_does_not_wait() -> None:
    locks = AccountLocks()
    running, most = 0, 0

    async def run() -> None:
        nonlocal running, most
        async with locks.lock_for("a"):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    async with locks.lock_for("b"):
        await asyncio.gather(*(run() for _ in range(20)))
    assert most == 1
    gc.collect()
    assert not locks._locks
