"""Wallets of different token classes stay apart, whatever database is behind them."""

import asyncio
import contextlib
import random
from pathlib import Path

import msgspec
import pytest

from support.ledgers import NOW_US, Opened, open_engine, schema
from support.spending import reserve, spend
from tok0n.adapters.sql.repositories.corrections import SqlCorrections
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.repositories.statement import SqlStatements
from tok0n.domain.errors import AlreadyExists, InsufficientTokens
from tok0n.domain.ledger import STANDARD, Balance, Release, Settlement
from tok0n.domain.orders import Dispute, DisputeStatus, Order, Payment, Redeemed
from tok0n.domain.packs import Pack
from tok0n.domain.token_classes import RetiredClass
from tok0n.domain.usage import Usage

pytestmark = pytest.mark.anyio

PREMIUM = "premium"
PAID = Payment(paid_cents=500)


async def posted(db: Opened, email: str = "a@x") -> dict[str, int]:
    return {name: wallet.posted for name, wallet in (await db.accounts.get(email)).wallets.items()}


async def order(orders: SqlOrders, account_id: str, token_class: str, *, tokens: int = 1_000) -> Order:
    pack = Pack(id=token_class, name="Pack", tokens=tokens, price_usd_cents=500, token_class=token_class)
    opened = await orders.open(account_id=account_id, pack=pack, currency="usd", now_us=NOW_US)
    assert opened.order is not None
    assert opened.order.token_class == token_class
    return opened.order


async def record(orders: SqlOrders, order: Order, facts: Payment) -> Order:
    return await orders.record(order.id, facts, payment_id=f"pi_{order.id}", now_us=NOW_US)


async def test_tokens_of_one_class_never_pay_for_another(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100)
    await db.accounts.grant(email="a@x", tokens=50, reason="x", now_us=NOW_US, token_class=PREMIUM)
    with pytest.raises(InsufficientTokens) as error:
        await spend(db, account_id=account.id, key_id=key.id, tokens=60, token_class=PREMIUM)
    assert (error.value.posted, error.value.pending) == (50, 0)
    with pytest.raises(InsufficientTokens) as error:
        await spend(db, account_id=account.id, key_id=key.id, tokens=1, token_class="never-granted")
    assert error.value.posted == 0
    await spend(db, account_id=account.id, key_id=key.id, tokens=30, token_class=PREMIUM)
    await spend(db, account_id=account.id, key_id=key.id, tokens=100)
    assert await posted(db) == {PREMIUM: 20, STANDARD: 0}
    assert (await db.ledger.audit()).ok


async def test_each_wallet_numbers_its_own_entries_and_the_filter_selects_one(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100)
    for token_class in (PREMIUM, STANDARD, PREMIUM):
        await db.accounts.grant(email="a@x", tokens=10, reason="x", now_us=NOW_US, token_class=token_class)
    await spend(db, account_id=account.id, key_id=key.id, tokens=5, token_class=PREMIUM)
    statements = SqlStatements(db.store)
    entries = await statements.entries(account.id, rows_max=99)
    assert [(entry.token_class, entry.number) for entry in reversed(entries)] == [
        (STANDARD, 1),
        (PREMIUM, 1),
        (STANDARD, 2),
        (PREMIUM, 2),
        (PREMIUM, 3),
    ]
    for token_class in (STANDARD, PREMIUM, "none"):
        of_class = [entry for entry in entries if entry.token_class == token_class]
        assert await statements.entries(account.id, rows_max=99, token_class=token_class) == of_class
    older = await statements.entries(account.id, before=entries[0].id, rows_max=1, token_class=PREMIUM)
    assert [entry.number for entry in older] == [2]


async def test_a_purchase_a_refund_and_a_dispute_change_only_the_wallet_of_their_order(db: Opened) -> None:
    orders = SqlOrders(db.store)
    account = await db.accounts.create(email="a@x", tokens=7, now_us=NOW_US)
    premium, standard = [await order(orders, account.id, token_class) for token_class in (PREMIUM, STANDARD)]
    for bought in (premium, standard):
        await record(orders, bought, PAID)
    assert await posted(db) == {PREMIUM: 1_000, STANDARD: 1_007}
    await record(orders, premium, Payment(refunded_cents=250))
    assert await posted(db) == {PREMIUM: 500, STANDARD: 1_007}
    lost = Payment(disputes=(Dispute(id="dp_1", cents=500, status=DisputeStatus.LOST),))
    await record(orders, standard, lost)
    assert await posted(db) == {PREMIUM: 500, STANDARD: 7}
    assert await orders.debts(account.id) == {}
    assert (await db.ledger.audit()).ok


@pytest.mark.parametrize(("owed_in", "other"), [(PREMIUM, STANDARD), (STANDARD, PREMIUM)])
async def test_a_debt_is_covered_by_a_purchase_of_the_same_class_alone(db: Opened, owed_in: str, other: str) -> None:
    orders = SqlOrders(db.store)
    account, key = await db.key("a@x", tokens=0)
    bought = await order(orders, account.id, owed_in)
    await record(orders, bought, PAID)
    await spend(db, account_id=account.id, key_id=key.id, tokens=700, token_class=owed_in)
    await record(orders, bought, Payment(refunded_cents=500))
    assert await orders.debts(account.id) == {owed_in: 700}
    await record(orders, await order(orders, account.id, other), PAID)
    assert await orders.debts(account.id) == {owed_in: 700}
    assert (await posted(db))[other] == 1_000
    await record(orders, await order(orders, account.id, owed_in, tokens=999), PAID)
    assert await orders.debts(account.id) == {}
    assert await posted(db) == {owed_in: 299, other: 1_000}
    assert (await db.ledger.audit()).ok


async def test_two_packs_that_differ_only_in_their_class_are_different_orders(db: Opened) -> None:
    orders = SqlOrders(db.store)
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    pack = Pack(id="p", name="Pack", tokens=5, price_usd_cents=500)
    opened = [
        await orders.open(
            account_id=account.id,
            pack=msgspec.structs.replace(pack, token_class=token_class),
            currency="usd",
            now_us=NOW_US,
        )
        for token_class in (STANDARD, PREMIUM, PREMIUM)
    ]
    first, second, third = (one.order for one in opened)
    assert first is not None
    assert second is not None
    assert first.id != second.id
    assert second == third


async def test_a_code_grants_its_class_once_to_each_account_under_a_race(db: Opened) -> None:
    orders = SqlOrders(db.store)
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    await orders.create_code(
        digest=b"code",
        masked="TRY",
        tokens=50,
        uses_max=9,
        expires_at_us=None,
        reason="trial",
        now_us=NOW_US,
        token_class=PREMIUM,
    )
    tries = [orders.redeem(account_id=account.id, digest=b"code", now_us=NOW_US) for _ in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(Redeemed(tokens=50, token_class=PREMIUM)) == 1
    assert sum(isinstance(result, AlreadyExists) for result in results) == 9
    assert await posted(db) == {PREMIUM: 50, STANDARD: 0}
    assert (await db.ledger.audit()).ok


async def test_requests_of_a_class_that_is_retired_meanwhile_end_in_their_wallet(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100)
    await db.accounts.grant(email="a@x", tokens=90, reason="x", now_us=NOW_US, token_class="old")
    running = [await reserve(db, account_id=account.id, key_id=key.id, tokens=30, token_class="old") for _ in range(3)]
    usage = Usage(prompt_tokens=12, completion_tokens=0, total_tokens=12, details={})
    receipt = await db.ledger.settle(
        Settlement(request_id=running[0], usage=usage, resolved_at_us=NOW_US, upstream_ms=1)
    )
    assert receipt.balance == Balance(posted=78, pending=60)
    await db.ledger.release(Release(request_id=running[1], code="x", dispatched=True, resolved_at_us=NOW_US))
    assert (await db.accounts.get("a@x")).wallets == {
        "old": Balance(posted=78, pending=30),
        STANDARD: Balance(posted=100, pending=0),
    }
    await db.ledger.reverse(request_id=running[0], now_us=NOW_US)
    await db.ledger.recover(now_us=NOW_US)
    assert (await db.accounts.get("a@x")).wallets["old"] == Balance(posted=90, pending=0)
    assert (await db.ledger.audit()).ok


async def test_retired_classes_are_counted_with_the_accounts_that_own_them(db: Opened) -> None:
    for number, (token_class, tokens) in enumerate([("old", 5), ("old", 6), ("older", 1), ("declared", 9)]):
        email = f"{number}@x"
        await db.accounts.create(email=email, tokens=3, now_us=NOW_US)
        await db.accounts.grant(email=email, tokens=tokens, reason="x", now_us=NOW_US, token_class=token_class)
    corrections = SqlCorrections(db.store)
    await corrections.adjust(email="2@x", tokens=-1, token_class="older", reason="x", author="operator", now_us=NOW_US)
    retired = await corrections.retired_classes([STANDARD, "declared"])
    assert retired == [RetiredClass(token_class="old", accounts=2, tokens=11)]
    assert "2 accounts own 11 tokens" in retired[0].warning
    assert "@" not in retired[0].warning


def random_facts(rng: random.Random, token_class: str) -> list[Payment | int]:
    """Return facts about the payments of two orders, and numbers of tokens to spend, in a random order."""
    facts: list[Payment | int] = [rng.randint(1, 700) for _ in range(4)]
    for number in range(2):
        dispute_id = f"dp_{token_class}_{number}"
        statuses = [DisputeStatus.OPEN, rng.choice([DisputeStatus.WON, DisputeStatus.LOST])]
        facts += [Payment(disputes=(Dispute(id=dispute_id, cents=250, status=status),)) for status in statuses]
        facts += [Payment(refunded_cents=rng.randint(1, 500)), PAID]
    rng.shuffle(facts)
    return facts


@pytest.mark.parametrize("seed", range(6))
async def test_a_wallet_ends_as_if_the_other_class_did_not_exist(db: Opened, seed: int) -> None:
    orders, rng = SqlOrders(db.store), random.Random(seed)
    facts = {token_class: random_facts(rng, token_class) for token_class in (STANDARD, PREMIUM)}

    async def play(email: str, plan: list[str]) -> dict[str, tuple[int, int]]:
        """Apply the facts of the classes in `plan`, and return posted tokens and debt of each class."""
        account, key = await db.key(email, tokens=0)
        bought = {name: [await order(orders, account.id, name, tokens=size) for size in (900, 600)] for name in facts}
        todo = {name: list(enumerate(facts[name])) for name in facts}
        for name in plan:
            number, fact = todo[name].pop(0)
            if isinstance(fact, int):
                with contextlib.suppress(InsufficientTokens):
                    await spend(db, account_id=account.id, key_id=key.id, tokens=fact, token_class=name)
                continue
            renamed = [msgspec.structs.replace(one, id=f"{one.id}_{email}") for one in fact.disputes]
            facts_of_account = msgspec.structs.replace(fact, disputes=tuple(renamed))
            which = int(fact.disputes[0].id[-1]) if fact.disputes else number % 2
            await record(orders, bought[name][which], facts_of_account)
        owned, debts = await posted(db, email), await orders.debts(account.id)
        return {name: (owned.get(name, 0), debts.get(name, 0)) for name in facts}

    plan = [name for name in facts for _ in facts[name]]
    rng.shuffle(plan)
    together = await play("both@x", plan)
    for name, of_class in facts.items():
        alone = await play(f"{name}@x", [name] * len(of_class))
        assert together[name] == alone[name], name
    assert (await db.ledger.audit()).ok


async def test_wallets_survive_a_restart(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        await db.accounts.create(email="a@x", tokens=3, now_us=NOW_US)
        await db.accounts.grant(email="a@x", tokens=4, reason="x", now_us=NOW_US, token_class=PREMIUM)
    async with open_engine("sqlite", tmp_path) as db:
        assert await posted(db) == {PREMIUM: 4, STANDARD: 3}
        assert len(await db.rows(schema.wallet)) == 2
