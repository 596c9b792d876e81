"""No statement of the start, a periodic task, a page or the API scans a table that grows with history.

That holds with and without statistics.
"""

import asyncio
import functools
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from support import many_rows
from support.filled_databases import FilledDatabases
from support.leases import PROCESS_ID, move_lease
from support.ledgers import ENGINES, NOW_US, Opened, new, outcome, released, schema, used
from support.query_plans import explained, scans_of
from support.rollups import roll_up, roll_up_outcomes
from tok0n.adapters.sql.postgres.lease import PostgresLease
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.balance_alerts import SqlBalanceAlerts
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.model_days import SqlModelDays
from tok0n.adapters.sql.repositories.notices import SqlNoticeOutbox
from tok0n.adapters.sql.repositories.outcome_rollup import COUNT_DELAY_US
from tok0n.adapters.sql.repositories.outcome_rows import encode
from tok0n.adapters.sql.repositories.outcomes import SqlOutcomes
from tok0n.adapters.sql.repositories.request_search import IS_SLOW, UNBILLED
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.span_rows import LENGTHS
from tok0n.adapters.sql.repositories.statement import SqlStatements
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.adapters.sql.shared_callers import FIND_WHERE_DIGEST
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain.budgets import BudgetPeriod
from tok0n.domain.errors import AlreadyResolved, KeyChanged
from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.latency import pack
from tok0n.domain.ledger import (
    MICROSECONDS_PER_DAY,
    MICROSECONDS_PER_QUARTER_HOUR,
    NewReservation,
    Receipt,
    RequestStatus,
)
from tok0n.domain.notices import BalanceAlert

DAYS = 40
REQUESTS = 20_000
SPREAD_US = DAYS * MICROSECONDS_PER_DAY // REQUESTS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> FilledDatabases:
    return FilledDatabases(tmp_path_factory.mktemp("filled"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["analyzed", "without statistics"])
def is_analyzed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "analyzed")


async def analyze(db: Opened) -> None:
    await db.store.write(lambda tx: tx.execute(sa.text("ANALYZE")) and None)


@pytest.fixture
async def large(
    tmp_path: Path,
    filled: FilledDatabases,
    engine: str,
    is_analyzed: bool,  # noqa: FBT001  a fixture
) -> AsyncIterator[Opened]:
    async def fill(db: Opened) -> None:
        await db.store.write(functools.partial(many_rows.fill, accounts=500, requests=10_000))
        if is_analyzed:
            await analyze(db)

    async with filled.copy(engine, tmp_path, name=f"large-{is_analyzed}", fill=fill) as db:
        for number in range(50):
            ids = many_rows.account_id(number), many_rows.key_id(number)
            await db.ledger.reserve(new(f"req_{number:032}", *ids, 10))
        yield db


async def test_refilling_a_limiter_reads_only_recent_and_pending_requests(large: Opened) -> None:
    with explained() as scans:
        found = await large.ledger.recent(since_us=many_rows.FIRST_US + 9_900 * many_rows.APART_US)
    assert len(found) == 150
    assert scans == []


def in_period(number: int) -> NewReservation:
    """Return a reservation that counts in a new period and in an old one of the key's budget."""
    budget = many_rows.budget_id(number)
    periods = (BudgetPeriod(budget, NOW_US, NOW_US + 1), BudgetPeriod(budget, 3, 4))
    reservation = new(f"req_{100 + number:032}", many_rows.account_id(number), many_rows.key_id(number), 10)
    return msgspec.structs.replace(reservation, periods=periods)


async def test_every_hot_statement_finds_its_rows_by_index_on_sqlite(large: Opened) -> None:
    """PostgreSQL's are in one function, which `test_postgres_ledger.py` covers."""
    if not isinstance(large.store, SqliteStore):
        return
    await large.accounts.revoke_key(account_id=many_rows.account_id(9), key_id=many_rows.key_id(9), now_us=NOW_US)
    statements: list[str] = []
    large.store._connection.set_trace_callback(statements.append)
    await asyncio.gather(*(large.ledger.reserve(in_period(number)) for number in range(9)))
    ends = [outcome(large.ledger.reserve(in_period(9)))]
    ends += [outcome(large.ledger.settle(used(f"req_{100 + number:032}", 5 + 3 * number))) for number in range(5)]
    ends += [outcome(large.ledger.release(released(f"req_{100 + number:032}"))) for number in range(4, 9)]
    ends += [outcome(large.ledger.settle(used(f"req_{number:032}", 10 * number + 1))) for number in (1, 1, 2)]
    results = await asyncio.gather(*ends)
    large.store._connection.set_trace_callback(None)
    assert {type(result) for result in results} == {KeyChanged, Receipt, AlreadyResolved, type(None)}
    hot = [text for text in statements if text.lstrip().startswith(("SELECT", "UPDATE", "INSERT"))]
    for table in ("wallet", "request", "ledger_entry", "usage_quarter", "key_budget", "budget_period", "api_key"):
        assert any(re.search(rf"\b{table}\b", text) for text in hot), table
    assert await large.store.read(lambda tx: scans_of(tx, hot)) == []
    assert (await large.ledger.audit()).ok


async def test_callers_are_found_by_the_digests_of_their_secrets(large: Opened) -> None:
    literal = "x'{}'" if isinstance(large.store, SqliteStore) else "'\\x{}'"
    digests = ", ".join(literal.format(many_rows.digest(number).hex()) for number in (1, 2))

    assert await large.store.read(lambda tx: scans_of(tx, [f"{FIND_WHERE_DIGEST} IN ({digests})"])) == []
    caller = await large.callers.find(many_rows.digest(1), now_us=NOW_US)
    assert caller is not None
    assert [budget.id for budget in caller.budgets] == [many_rows.budget_id(1)]


async def test_the_pages_of_a_key_read_its_own_rows_alone(large: Opened) -> None:
    history, account_id, key_id = SqlHistory(large.store), many_rows.account_id(1), many_rows.key_id(1)
    await large.ledger.reserve(in_period(1))
    with explained() as scans:
        (use,) = await history.budget_uses(account_id, key_id, now_us=NOW_US)
        assert (await history.key(account_id, key_id)).limits.budgets == (use.budget,)
        assert await history.all_budget_uses(account_id, now_us=NOW_US) == {key_id: [use]}
        assert (await history.wallets(account_id))["standard"].pending == 20
        assert (await large.accounts.get("1@x")).id == account_id
        assert [key.id for key in await large.accounts.list_keys(account_id)] == [key_id]
        assert len(await history.activity(account_id, before=15, rows_max=8)) == 8
    assert scans == []


async def test_expiring_reads_only_pending_requests(large: Opened) -> None:
    await large.ledger.reserve(msgspec.structs.replace(in_period(1), expires_at_us=NOW_US + 1))
    with explained() as scans:
        assert await large.ledger.expire(now_us=NOW_US, rows_max=10) == 0
        assert await large.ledger.expire(now_us=NOW_US + 10**7, rows_max=10) == 10
        assert await large.ledger.recover(now_us=NOW_US + 10**7) == 41
    assert scans == []
    assert (await large.ledger.audit()).ok


async def test_expiring_the_reservations_of_a_dead_process_reads_only_pending_requests(large: Opened) -> None:
    if not isinstance(large.store, PostgresStore):
        return
    lease = PostgresLease(large.store)
    await lease.renew()
    await move_lease(large.store, lease.process_id, ends_in=15, renewed_for=30)
    await move_lease(large.store, PROCESS_ID, ends_in=-10, renewed_for=30)
    with explained() as scans:
        await lease.probe()
        assert await lease.expire_abandoned(now_us=NOW_US) == 50
        await move_lease(large.store, PROCESS_ID, ends_in=-100, renewed_for=30)
        assert await lease.expire_abandoned(now_us=NOW_US) == 0
        await lease.end()
    assert scans == []
    assert [row["id"] for row in await large.rows(schema.process)] == [lease.process_id]
    await lease.aclose()


async def test_the_audit_of_much_history_is_clean(large: Opened) -> None:
    with explained() as scans:
        report = await large.ledger.audit()
    assert (report.ok, report.requests, report.entries) == (True, 10_050, 10_500)
    assert scans == []


async def test_chores_read_only_rows_that_are_due(large: Opened) -> None:
    notices, users = SqlBalanceAlerts(large.store), SqlUsers(large.store)
    for number in range(5):
        await notices.replace(
            many_rows.account_id(number), [BalanceAlert(threshold_tokens=many_rows.TOKENS - many_rows.CHARGE * 20)]
        )
    with explained() as scans:
        assert await notices.claim_due(rows_max=10) == []
        await large.ledger.settle(used(f"req_{3:032}", 5))
        (low,) = await notices.claim_due(rows_max=10)
        assert low.email == "3@x"
        await SqlSessions(large.store).delete_ended(now_us=NOW_US)
        await users.delete_stale(now_us=NOW_US, rows_max=10)
        await SqlForms(large.store).delete_old(now_us=NOW_US)
        await SqlAttempts(large.store).delete_expired(now_us=NOW_US, rows_max=10)
    assert scans == []


async def test_alerts_that_one_call_has_no_room_for_come_with_the_next(large: Opened) -> None:
    notices = SqlBalanceAlerts(large.store)
    for number in range(5):
        await notices.replace(
            many_rows.account_id(number), [BalanceAlert(threshold_tokens=many_rows.TOKENS - many_rows.CHARGE * 20)]
        )
    assert await notices.claim_due(rows_max=2) == []
    for number in range(5):
        await large.ledger.settle(used(f"req_{number:032}", 5))
    claimed = [await notices.claim_due(rows_max=2) for _ in range(4)]
    assert [len(low) for low in claimed] == [2, 2, 1, 0]
    assert {low.email for page in claimed for low in page} == {f"{number}@x" for number in range(5)}


@pytest.fixture
async def spread(
    tmp_path: Path,
    filled: FilledDatabases,
    engine: str,
    is_analyzed: bool,  # noqa: FBT001  a fixture
) -> AsyncIterator[Opened]:
    """Accounts that were charged at many times, most of them on days that were added up."""

    async def fill(db: Opened) -> None:
        await db.store.write(functools.partial(many_rows.fill, accounts=500, requests=REQUESTS, apart_us=SPREAD_US))
        with explained() as scans:
            await roll_up(db, now_us=many_rows.FIRST_US + DAYS * MICROSECONDS_PER_DAY, accounts_max=250)
        assert scans == []
        if is_analyzed:
            await analyze(db)

    async with filled.copy(engine, tmp_path, name=f"spread-{is_analyzed}", fill=fill) as db:
        yield db


async def test_the_use_on_pages_is_read_without_the_quarter_hours_of_past_days(spread: Opened) -> None:
    history, account_id = SqlHistory(spread.store), many_rows.account_id(1)
    first, last = (
        at_us // MICROSECONDS_PER_QUARTER_HOUR
        for at_us in (many_rows.FIRST_US, many_rows.FIRST_US + DAYS * MICROSECONDS_PER_DAY)
    )
    with explained() as scans:
        spent = (await history.totals(account_id, UseFilter())).charged
        assert (await history.totals(account_id, UseFilter(api_key_id=many_rows.key_id(1)))).charged == spent
        assert await history.models_used(account_id) == ["demo"]
        for since, until, key in itertools.product((None, first + 29), (None, last - 29), (None, many_rows.key_id(1))):
            chosen = UseFilter(since_quarter=since, until_quarter=until, api_key_id=key)
            assert 0 < (await history.totals(account_id, chosen)).charged <= spent
        for starts in (range(last - 288, last, 4), range(first, last, 96), range(first // 96 * 96, last, 96)):
            period = UseFilter(since_quarter=starts[0], until_quarter=last, model="demo")
            assert await history.buckets(account_id, period, by=UseBy.KEY, starts=starts)
    assert scans == []


async def test_latencies_and_errors_are_read_from_their_roll_up(spread: Opened) -> None:
    outcomes, account_id = SqlOutcomes(spread.store), many_rows.account_id(1)
    first, last = (
        at_us // MICROSECONDS_PER_QUARTER_HOUR
        for at_us in (many_rows.FIRST_US, many_rows.FIRST_US + DAYS * MICROSECONDS_PER_DAY)
    )
    rolled_up = [
        "INSERT INTO request_outcome (account_id, span_quarters, quarter, api_key_id, model, failed, latencies)"
        f" SELECT account_id, {quarters}, quarter / {quarters} * {quarters}, api_key_id, model, 0, :latencies"
        " FROM usage_quarter GROUP BY 1, 2, 3, 4, 5"
        for quarters in LENGTHS
    ]
    rolled_up.append(f"INSERT INTO outcome_rollup (quarter, api_key_id) VALUES ({last}, '')")

    def fill(tx: sa.Connection) -> None:
        for statement in rolled_up:
            tx.execute(sa.text(statement), {"latencies": encode(pack({5: 1}))} if ":" in statement else {})

    await spread.store.write(fill)
    with explained() as scans:
        for starts in (range(last - 288, last, 4), range(first, last, 96), range(first + 22, last, 96)):
            period = UseFilter(since_quarter=starts[0], until_quarter=last, model="demo")
            assert await outcomes.latencies(account_id, period, by=UseBy.KEY, starts=starts)
            assert await outcomes.errors(account_id, period, by=UseBy.KEY, starts=starts) == []
        assert await outcomes.counted_until_us(account_id) is None
    assert scans == []


async def test_requests_and_entries_are_read_page_by_page(spread: Opened) -> None:
    history, account_id = SqlHistory(spread.store), many_rows.account_id(1)
    statements = SqlStatements(spread.store)
    middle_us = many_rows.FIRST_US + DAYS // 2 * MICROSECONDS_PER_DAY
    with explained() as scans:
        for status, model, since_us in itertools.product((None, *RequestStatus), (None, "demo"), (None, middle_us)):
            chosen = RequestFilter(status=status, model=model, since_us=since_us)
            rows = await history.requests(account_id, chosen, before=None, rows_max=8)
            rows += await history.requests(account_id, chosen, before=rows[-1].id if rows else "req_1", rows_max=8)
            assert len(rows) == (16 if status in {None, RequestStatus.SETTLED} else 0)
            measured = msgspec.structs.replace(chosen, tokens_min=1, latency_ms_max=9)
            await history.search_requests(account_id, measured, search_before=None, before=None, rows_max=8)
        entries = await statements.entries(account_id, rows_max=8)
        assert len(await statements.entries(account_id, before=entries[-1].id, rows_max=8)) == 8
        assert len(await statements.entries(account_id, since_us=0, until_us=middle_us, rows_max=8)) == 8
        assert await statements.balances_at(account_id, middle_us)
        assert await statements.first_entry_at_us(account_id) == 0
        for token_class, rows_found in (("standard", 8), ("none", 0)):
            found = await statements.entries(account_id, rows_max=8, token_class=token_class)
            assert len(found) == rows_found
        await history.balance(account_id)
        assert await history.reversal(account_id, "req_1") is None
        await spread.accounts.list_keys(account_id)
    assert scans == []


async def plan_of(db: Opened, condition: object) -> str:
    """Return how the engine finds the newest requests of an account and a model that match a condition."""
    where = f"account_id = '{many_rows.account_id(1)}' AND id >= '' AND id < 'req`' AND model = 'x' AND {condition}"
    query = f"SELECT id FROM request WHERE {where} ORDER BY id DESC LIMIT 51"
    keyword = "EXPLAIN QUERY PLAN" if isinstance(db.store, SqliteStore) else "EXPLAIN"

    def fn(tx: sa.Connection) -> str:
        return "\n".join(str(row[-1]) for row in tx.execute(sa.text(f"{keyword} {query}")))

    return await db.store.read(fn)


async def test_slow_requests_have_an_index_that_is_used(spread: Opened) -> None:
    assert "request_slow" in await plan_of(spread, IS_SLOW)


async def test_requests_that_were_not_billed_are_filtered_in_their_index(spread: Opened) -> None:
    plan = await plan_of(spread, UNBILLED)
    index = "COVERING INDEX request_not_billed" if isinstance(spread.store, SqliteStore) else "using request_not_billed"
    assert index in plan
    assert isinstance(spread.store, SqliteStore) or re.search(r"Index Cond: .*\bmodel = ", plan)


async def test_periodic_tasks_read_no_history(spread: Opened) -> None:
    store = spread.store
    with explained() as scans:
        await SqlBalanceAlerts(store).claim_due(rows_max=100)
        await SqlNoticeOutbox(store).claim_due(now_us=NOW_US)
        await SqlForms(store).delete_old(now_us=NOW_US)
        await SqlSessions(store).delete_ended(now_us=NOW_US)
        await SqlUsers(store).delete_stale(now_us=NOW_US, rows_max=100)
        await SqlAttempts(store).delete_expired(now_us=NOW_US, rows_max=100)
        days = SqlModelDays(store)
        await roll_up_outcomes(spread, now_us=many_rows.FIRST_US + 2 * MICROSECONDS_PER_QUARTER_HOUR + COUNT_DELAY_US)
        await days.days(first_day=0)
        await days.delete_old(now_us=NOW_US)
    assert scans == []
