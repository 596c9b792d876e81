"""No statement of the start or of a periodic task scans a table that grows with history, with or without statistics."""

import pytest
import sqlalchemy as sa

from support import past
from support.ledgers import NOW_US, Opened, new, used
from support.plans import explained
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.notices import SqlNotices
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["analyzed", "without statistics"])
async def large(request: pytest.FixtureRequest, db: Opened) -> Opened:
    def fill(tx: sa.Connection) -> None:
        past.fill(tx, accounts=500, requests=10_000)
        if request.param == "analyzed":
            tx.execute(sa.text("ANALYZE"))

    await db.store.write(fill)
    reservations = [new(f"req_{number:032}", past.account_id(number), past.key_id(number), 10) for number in range(50)]
    for reservation in reservations:
        await db.ledger.reserve(reservation)
    return db


async def test_refilling_a_limiter_reads_only_recent_and_pending_requests(large: Opened) -> None:
    with explained() as scans:
        found = await large.ledger.recent(since_us=past.FIRST_US + 9_900 * past.APART_US)
    assert len(found) == 150
    assert scans == []


async def test_expiring_reads_only_pending_requests(large: Opened) -> None:
    with explained() as scans:
        assert await large.ledger.expire(now_us=NOW_US, rows_max=10) == 0
        assert await large.ledger.expire(now_us=NOW_US + 10**7, rows_max=10) == 10
        assert await large.ledger.recover(now_us=NOW_US + 10**7) == 40
    assert scans == []
    assert (await large.ledger.audit()).ok


async def test_the_audit_of_much_history_is_clean(large: Opened) -> None:
    with explained() as scans:
        report = await large.ledger.audit()
    assert (report.ok, report.requests, report.entries) == (True, 10_050, 10_500)
    assert scans == []


async def test_chores_read_only_rows_that_are_due(large: Opened) -> None:
    notices, users = SqlNotices(large.store), SqlUsers(large.store)
    for number in range(5):
        await notices.set_threshold(past.account_id(number), past.TOKENS - past.CHARGE * 20)
    with explained() as scans:
        assert await notices.claim_due(rows_max=10) == []
        await large.ledger.settle(used(f"req_{3:032}", 5))
        (low,) = await notices.claim_due(rows_max=10)
        assert low.email == "3@x"
        await SqlSessions(large.store).forget_ended(now_us=NOW_US)
        await users.forget_stale(now_us=NOW_US, rows_max=10)
        await SqlForms(large.store).forget_old(now_us=NOW_US)
        await SqlAttempts(large.store).forget_expired(now_us=NOW_US, rows_max=10)
    assert scans == []


async def test_alerts_that_one_call_has_no_room_for_come_with_the_next(large: Opened) -> None:
    notices = SqlNotices(large.store)
    for number in range(5):
        await notices.set_threshold(past.account_id(number), past.TOKENS - past.CHARGE * 20)
    assert await notices.claim_due(rows_max=2) == []
    for number in range(5):
        await large.ledger.settle(used(f"req_{number:032}", 5))
    claimed = [await notices.claim_due(rows_max=2) for _ in range(4)]
    assert [len(low) for low in claimed] == [2, 2, 1, 0]
    assert {low.email for page in claimed for low in page} == {f"{number}@x" for number in range(5)}
