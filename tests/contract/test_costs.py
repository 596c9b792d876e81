"""Costs of requests and periods come from the ledger alone, by index, and add up on both engines."""

import random

import pytest
import sqlalchemy as sa

from support import many_rows
from support.api_keys import budget, create_key
from support.fakes import FakeClock
from support.ledgers import NOW_US, Opened, schema
from support.query_plans import explained, recorded
from support.rollups import roll_up
from support.spending import fail, spend
from tok0n.adapters.sql.repositories import lots as sql_lots
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.lots import SqlLots
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.budgets import ResetPeriod
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.lots import PriceChange, Spent
from tok0n.domain.orders import Payment
from tok0n.domain.packs import Pack
from tok0n.services.costs import Costs, KeyUse

pytestmark = pytest.mark.anyio

CENT = 10_000
PREMIUM = "premium"
EARLY = PriceChange(after_number=1, posted=many_rows.TOKENS - 5 * many_rows.CHARGE)
"""A change of the price after five requests."""


def costs_of(db: Opened, *, now_us: int = NOW_US) -> Costs:
    return Costs(SqlLots(db.store), FakeClock(now_us=now_us), {"large": PREMIUM})


async def buy(
    db: Opened, account_id: str, *, tokens: int, cents: int, token_class: str = "standard", at_us: int = NOW_US
) -> str:
    orders = SqlOrders(db.store)
    pack = Pack(id=f"p{tokens}-{cents}", name="Pack", tokens=tokens, price_usd_cents=cents, token_class=token_class)
    order = (await orders.open(account_id=account_id, pack=pack, currency="usd", now_us=at_us)).order
    assert order is not None
    await orders.record(order.id, Payment(paid_cents=cents), payment_id=f"pi_{order.id}", now_us=at_us)
    return order.id


async def test_a_request_costs_its_share_of_the_oldest_tokens(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100)
    await buy(db, account.id, tokens=100, cents=500)
    granted = await spend(db, account_id=account.id, key_id=key.id, tokens=100)
    paid = await spend(db, account_id=account.id, key_id=key.id, tokens=40)
    failed = await fail(db, account_id=account.id, key_id=key.id, tokens=10)
    costs = costs_of(db)
    assert await costs.request_costs(account.id, [paid, granted, failed, "req_none"]) == {granted: 0, paid: 200 * CENT}
    assert await costs.request_costs(account.id, []) == {}
    assert await costs.estimate(account.id, token_class="standard", tokens=10) == 50 * CENT
    assert await costs.estimate(account.id, token_class="standard", tokens=61) is None
    assert await costs.estimate(account.id, token_class=PREMIUM, tokens=1) is None


async def test_no_account_reads_costs_of_another(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=0)
    other, _ = await db.key("b@x", tokens=0)
    for id_ in (account.id, other.id):
        await buy(db, id_, tokens=100, cents=500)
    request_id = await spend(db, account_id=account.id, key_id=key.id, tokens=40)
    assert await costs_of(db).request_costs(other.id, [request_id]) == {}
    assert await costs_of(db).spent_in_period(other.id, since_us=0) == Spent()


async def test_granted_tokens_alone_have_no_price(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100)
    request_id = await spend(db, account_id=account.id, key_id=key.id, tokens=40)
    assert await costs_of(db).request_costs(account.id, [request_id]) == {}
    assert await costs_of(db).spent_in_period(account.id, since_us=0) is None
    assert await costs_of(db).spent_this_month(account.id, time_zone="Asia/Kolkata") is None


async def test_a_reversed_charge_is_given_back_at_its_cost(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=0)
    await buy(db, account.id, tokens=100, cents=500)
    request_id = await spend(db, account_id=account.id, key_id=key.id, tokens=40)
    await db.ledger.reverse(request_id=request_id, now_us=NOW_US)
    costs = costs_of(db)
    assert await costs.request_costs(account.id, [request_id]) == {request_id: 200 * CENT}
    assert await costs.spent_in_period(account.id, since_us=0) == Spent()


@pytest.mark.parametrize("seed", range(3))
async def test_every_period_is_the_sum_of_the_requests_in_it(db: Opened, seed: int) -> None:
    dice = random.Random(seed)
    account, key = await db.key("a@x", tokens=30)
    await db.accounts.grant(email="a@x", tokens=70, reason="x", now_us=NOW_US, token_class=PREMIUM)
    made: dict[str, tuple[int, int]] = {}
    left = {"standard": 30, PREMIUM: 70}
    at_us = NOW_US
    for _ in range(60):
        at_us += dice.choice([0, 1, MICROSECONDS_PER_DAY])
        token_class = dice.choice(["standard", "standard", PREMIUM])
        tokens = dice.randint(1, 40)
        if left[token_class] < tokens:
            cents = dice.randint(1, 999)
            await buy(db, account.id, tokens=100 + tokens, cents=cents, token_class=token_class, at_us=at_us)
            left[token_class] += 100 + tokens
        left[token_class] -= tokens
        request_id = await spend(
            db, account_id=account.id, key_id=key.id, tokens=tokens, at_us=at_us, token_class=token_class
        )
        made[request_id] = at_us, tokens
    costs = costs_of(db)
    each = await costs.request_costs(account.id, list(made))
    assert each.keys() == made.keys()
    edges = sorted({NOW_US - 5, *(at for at, _ in made.values()), at_us + 1})
    for since_us in edges[seed::6]:
        for until_us in [*edges[seed + 1 :: 8], None]:
            inside = {id_ for id_, (at, _) in made.items() if since_us <= at < (until_us or at_us + 1)}
            expected = Spent(tokens=sum(made[id_][1] for id_ in inside), usd_micros=sum(each[id_] for id_ in inside))
            if until_us is None or since_us <= until_us:
                assert await costs.spent_in_period(account.id, since_us=since_us, until_us=until_us) == expected


async def test_a_wallet_whose_entries_are_too_far_away_has_no_sum(db: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    account, key = await db.key("a@x", tokens=100)
    await buy(db, account.id, tokens=100, cents=500, token_class=PREMIUM)
    day = MICROSECONDS_PER_DAY
    for number in range(12):
        token_class = PREMIUM if number in {0, 11} else "standard"
        await spend(
            db, account_id=account.id, key_id=key.id, tokens=1, at_us=NOW_US + number * day, token_class=token_class
        )
    costs = costs_of(db)
    assert await costs.spent_in_period(account.id, since_us=NOW_US + 6 * day) == Spent(tokens=1, usd_micros=5 * CENT)
    monkeypatch.setattr(sql_lots, "ENTRIES_READ", (3,))
    assert await costs.spent_in_period(account.id, since_us=NOW_US + 6 * day) is None
    assert await costs.spent_in_period(account.id, since_us=NOW_US + 9 * day) == Spent(tokens=1, usd_micros=5 * CENT)


@pytest.mark.parametrize("statistics", ["analyzed", "none"])
async def test_prices_are_found_by_index(db: Opened, statistics: str) -> None:
    def fill(tx: sa.Connection) -> None:
        many_rows.fill(tx, accounts=500, requests=10_000)
        if statistics == "analyzed":
            tx.execute(sa.text("ANALYZE"))

    await db.store.write(fill)
    account_id = many_rows.account_id(1)
    await buy(db, account_id, tokens=100, cents=500)
    query = sa.select(schema.request.c.id).where(schema.request.c.account_id == account_id)
    request_ids = await db.store.read(lambda tx: list(tx.scalars(query)))
    costs = costs_of(db)
    since_us = many_rows.FIRST_US + 5_000 * many_rows.APART_US
    with explained() as scans:
        assert await costs.request_costs(account_id, request_ids) == dict.fromkeys(request_ids, 0)
        assert await costs.spent_in_period(account_id, since_us=since_us) == Spent(tokens=100, usd_micros=0)
        assert await costs.estimate(account_id, token_class="standard", tokens=10) == 0
        ever, since = await costs.key_uses(
            account_id, since_us=since_us // MICROSECONDS_PER_QUARTER_HOUR * MICROSECONDS_PER_QUARTER_HOUR
        )
        assert (ever.usd_micros, ever.tokens) == (
            {many_rows.key_id(1): 0},
            {many_rows.key_id(1): 20 * many_rows.CHARGE},
        )
        assert since.usd_micros == {many_rows.key_id(1): 0}
        (use,) = await SqlLots(db.store).first_uses(account_id, [("standard", EARLY)])
        assert use is not None
        (before,) = await SqlLots(db.store).tokens_of_keys(account_id, until=[use])
        assert before == {(many_rows.key_id(1), "demo"): use.before.number * many_rows.CHARGE - many_rows.CHARGE}
    assert scans == []


async def cost_of_requests(db: Opened, account_id: str, made: dict[str, str]) -> dict[str, int]:
    """Return the sums of the costs of requests, by their keys."""
    costs = await costs_of(db).request_costs(account_id, list(made))
    sums: dict[str, int] = {}
    for request_id, cost in costs.items():
        sums[made[request_id]] = sums.get(made[request_id], 0) + cost
    return sums


async def test_the_cost_of_a_key_is_that_of_its_requests_at_each_price(db: Opened) -> None:
    account, first = await db.key("a@x", tokens=100)
    second, _ = await create_key(db.accounts, "a@x")
    for cents in (500, 900):
        await buy(db, account.id, tokens=100, cents=cents)
    made = {}
    for number in range(6):
        key = (first, first, first, second, second, first)[number]
        at_us = NOW_US + number * MICROSECONDS_PER_QUARTER_HOUR // 3
        made[await spend(db, account_id=account.id, key_id=key.id, tokens=50, at_us=at_us)] = key.id
    ever, later = await costs_of(db).key_uses(
        account.id, since_us=NOW_US - NOW_US % MICROSECONDS_PER_QUARTER_HOUR + MICROSECONDS_PER_DAY
    )
    costs = ever.usd_micros
    assert (later.tokens, later.usd_micros) == ({first.id: 0, second.id: 0}, {first.id: 0, second.id: 0})
    assert costs == {first.id: (250 + 450) * CENT, second.id: (250 + 450) * CENT}
    assert costs == await cost_of_requests(db, account.id, made), "the granted tokens cost nothing"


@pytest.mark.parametrize("seed", range(3))
async def test_the_costs_of_all_keys_add_up_to_that_of_the_account(db: Opened, seed: int) -> None:
    dice = random.Random(seed)
    account, first = await db.key("a@x", tokens=1_000)
    await db.accounts.grant(email="a@x", tokens=5_000, reason="x", now_us=NOW_US, token_class=PREMIUM)
    keys = [first, *[(await create_key(db.accounts, "a@x"))[0] for _ in range(2)]]
    at_us, middle_us, dear = NOW_US // MICROSECONDS_PER_QUARTER_HOUR * MICROSECONDS_PER_QUARTER_HOUR, 0, 0
    made = {}
    for number in range(60):
        at_us += dice.choice([0, MICROSECONDS_PER_QUARTER_HOUR // 5, MICROSECONDS_PER_DAY])
        if number % 20 == 10:
            cents = dice.randint(100, 999)
            dear = max(dear, cents)
            await buy(db, account.id, tokens=1_000, cents=cents, at_us=at_us)
        if number == 30:
            middle_us = at_us // MICROSECONDS_PER_QUARTER_HOUR * MICROSECONDS_PER_QUARTER_HOUR
        key, is_large = dice.choice(keys), dice.random() < 0.3
        request_id = await spend(
            db,
            account_id=account.id,
            key_id=key.id,
            tokens=dice.randint(1, 60),
            at_us=at_us,
            token_class=PREMIUM if is_large else "standard",
            model="large" if is_large else "small",
        )
        made[request_id] = key.id
    await roll_up(db, now_us=at_us)
    costs = costs_of(db)
    uses = await costs.key_uses(account.id, since_us=middle_us)
    for use, since_us in zip(uses, (0, middle_us), strict=True):
        of_account = await costs.spent_in_period(account.id, since_us=since_us)
        assert use.usd_micros is not None
        assert of_account is not None
        assert 0 <= of_account.usd_micros - sum(use.usd_micros.values()) <= 5 * len(keys), "each share is rounded down"
        assert of_account.tokens <= sum(use.tokens.values())
    exact = await cost_of_requests(db, account.id, made)
    of_keys = uses[0].usd_micros
    assert of_keys is not None
    for key_id, cost in exact.items():
        assert abs(of_keys.get(key_id, 0) - cost) <= 4 * 60 * dear * CENT // 1_000, "one request at each price change"


async def test_keys_without_any_purchase_have_no_cost(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100)
    await spend(db, account_id=account.id, key_id=key.id, tokens=40)
    since_us = costs_of(db).month_start_us("Asia/Kolkata")
    assert (
        await costs_of(db).key_uses(account.id, since_us=since_us)
        == (KeyUse(tokens={key.id: 40}, usd_micros=None),) * 2
    )
    await buy(db, account.id, tokens=100, cents=500)
    expected = KeyUse(tokens={key.id: 40}, usd_micros={key.id: 0})
    assert await costs_of(db).key_uses(account.id, since_us=since_us) == (expected, expected)


async def test_the_number_of_statements_for_a_list_of_keys_is_constant(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10)
    history, costs = SqlHistory(db.store), costs_of(db)
    numbers = []
    for cents in (500, 900, 700):
        for _ in range(cents // 100):
            await create_key(db.accounts, "a@x", limits=KeyLimits(budgets=(budget(100), budget(90, ResetPeriod.DAY))))
        await buy(db, account.id, tokens=100, cents=cents)
        await spend(db, account_id=account.id, key_id=key.id, tokens=60)
        with recorded() as statements:
            keys = await db.accounts.list_keys(account.id)
            uses = await history.all_budget_uses(account.id, now_us=NOW_US)
            ever, _ = await costs.key_uses(account.id, since_us=0)
        assert [len(of_key) for of_key in uses.values()] == [2] * (len(keys) - 1)
        assert ever.usd_micros is not None
        numbers.append(len(statements))
    assert numbers[0] > 0
    assert len(set(numbers)) == 1
