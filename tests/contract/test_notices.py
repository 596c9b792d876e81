"""Alerts of balances and notices of events: each is claimed once, whatever runs beside it, and a flood is bounded."""

import asyncio

import pytest
import sqlalchemy as sa

from support.api_keys import create_key, edit_key
from support.ledgers import NOW_US, Opened, schema
from support.spending import spend
from tok0n.adapters.sql.repositories.balance_alerts import SqlBalanceAlerts
from tok0n.adapters.sql.repositories.budget_notices import SqlBudgetNotices
from tok0n.adapters.sql.repositories.corrections import SqlCorrections
from tok0n.adapters.sql.repositories.notices import SqlNoticeOutbox, SqlPreferences, append_notice
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.budgets import BudgetDraft, KeyBudget
from tok0n.domain.notices import EMAILS_PER_HOUR_MAX, HOUR_US, BalanceAlert, DueNotices, NoticeEvent, NoticeKind
from tok0n.domain.users import DEVICES_MAX, SESSION_LIFETIME_US, LinkPurpose, User

pytestmark = pytest.mark.anyio

EMAIL = "a@x"


async def low(alerts: SqlBalanceAlerts) -> list[tuple[str, int, int]]:
    claimed = await alerts.claim_due(rows_max=10)
    assert {each.email for each in claimed} <= {EMAIL}
    return [(each.token_class, each.threshold_tokens, each.posted) for each in claimed]


async def test_a_low_balance_is_claimed_once_for_each_crossing(db: Opened) -> None:
    alerts = SqlBalanceAlerts(db.store)
    account, key = await db.key(EMAIL, tokens=100)
    await alerts.replace(account.id, [BalanceAlert(threshold_tokens=50)])
    assert (await alerts.list_for_account(account.id), await low(alerts)) == ([BalanceAlert(threshold_tokens=50)], [])
    await spend(db, account_id=account.id, key_id=key.id, tokens=60)
    claimed = await asyncio.gather(*(low(SqlBalanceAlerts(db.store)) for _ in range(4)))
    assert [each for of_process in claimed for each in of_process] == [("standard", 50, 40)]
    await db.accounts.grant(email=EMAIL, tokens=100, reason="r", now_us=NOW_US)
    assert await low(alerts) == []
    await spend(db, account_id=account.id, key_id=key.id, tokens=100)
    assert await low(alerts) == [("standard", 50, 40)]
    await alerts.replace(account.id, [BalanceAlert(threshold_tokens=45)])
    assert await low(alerts) == [], "whoever sets it sees that the balance is low"
    await alerts.replace(account.id, [])
    assert await alerts.list_for_account(account.id) == []


async def test_a_charge_that_crosses_several_alerts_is_claimed_with_the_lowest(db: Opened) -> None:
    alerts = SqlBalanceAlerts(db.store)
    account, key = await db.key(EMAIL, tokens=100)
    await alerts.replace(account.id, [BalanceAlert(threshold_tokens=tokens) for tokens in (90, 50, 10)])
    await spend(db, account_id=account.id, key_id=key.id, tokens=60)
    assert await low(alerts) == [("standard", 50, 40)]
    await spend(db, account_id=account.id, key_id=key.id, tokens=31)
    assert await low(alerts) == [("standard", 10, 9)]


async def test_an_alert_counts_one_token_class(db: Opened) -> None:
    alerts = SqlBalanceAlerts(db.store)
    account, _ = await db.key(EMAIL, tokens=100)
    await db.accounts.grant(email=EMAIL, tokens=100, reason="r", now_us=NOW_US, token_class="premium")
    await alerts.replace(account.id, [BalanceAlert(threshold_tokens=50, token_class=name) for name in ("premium", "x")])
    await db.accounts.grant(email=EMAIL, tokens=-90, reason="r", now_us=NOW_US)
    assert await low(alerts) == [], "a class without a wallet was already low"
    await db.accounts.grant(email=EMAIL, tokens=-60, reason="r", now_us=NOW_US, token_class="premium")
    assert await low(alerts) == [("premium", 50, 40)]


async def test_an_alert_that_became_due_during_a_suspension_is_claimed_after_it(db: Opened) -> None:
    alerts, budgets, corrections = SqlBalanceAlerts(db.store), SqlBudgetNotices(db.store), SqlCorrections(db.store)
    account = await db.accounts.create(email=EMAIL, tokens=100, now_us=NOW_US)
    key, _ = await create_key(db.accounts, EMAIL, limits=KeyLimits(budgets=(KeyBudget(id="bud_1", tokens=60),)))
    await alerts.replace(account.id, [BalanceAlert(threshold_tokens=50)])

    async def suspend(*, suspended: bool) -> None:
        await corrections.set_suspended(email=EMAIL, suspended=suspended, reason="r", actor="operator", now_us=NOW_US)

    await db.accounts.grant(email=EMAIL, tokens=1, reason="r", now_us=NOW_US)
    await suspend(suspended=True)
    await db.accounts.grant(email=EMAIL, tokens=-60, reason="r", now_us=NOW_US)
    period = {"budget_id": "bud_1", "starts_at_us": 0, "spent": 60, "pending": 0}
    await db.store.write(lambda tx: tx.execute(sa.insert(schema.budget_period).values(period)) and None)
    assert (await low(alerts), await budgets.claim_due(now_us=NOW_US, rows_max=10)) == ([], [])
    await suspend(suspended=False)
    assert await low(alerts) == [("standard", 50, 41)]
    (spent,) = await budgets.claim_due(now_us=NOW_US, rows_max=10)
    assert (spent.account_id, spent.api_key_id, spent.percent) == (account.id, key.id, 100)
    assert await db.rows(schema.alert_check) == []
    assert (await low(alerts), await budgets.claim_due(now_us=NOW_US, rows_max=10)) == ([], [])


async def test_a_lowered_budget_alerts_without_another_charge(db: Opened) -> None:
    budgets = SqlBudgetNotices(db.store)
    await db.accounts.create(email=EMAIL, tokens=100, now_us=NOW_US)
    key, _ = await create_key(db.accounts, EMAIL, limits=KeyLimits(budgets=(KeyBudget(id="bud_1", tokens=60),)))
    period = {"budget_id": "bud_1", "starts_at_us": 0, "spent": 20, "pending": 0}
    await db.store.write(lambda tx: tx.execute(sa.insert(schema.budget_period).values(period)) and None)
    assert await budgets.claim_due(now_us=NOW_US, rows_max=10) == []
    await edit_key(db.accounts, key, budgets=(BudgetDraft(tokens=25),))
    (spent,) = await budgets.claim_due(now_us=NOW_US, rows_max=10)
    assert (spent.spent, spent.percent) == (20, 80)
    assert await budgets.claim_due(now_us=NOW_US, rows_max=10) == []


async def store_event(db: Opened, account_id: str, event: NoticeEvent, *, now_us: int = NOW_US) -> None:
    fields = {"name": "k"}
    await db.store.write(
        lambda tx: append_notice(tx, event, account_id=account_id, email=EMAIL, fields=fields, now_us=now_us)
    )


def sizes(due: list[DueNotices]) -> list[int]:
    return [len(email.notices) for email in due]


async def test_each_event_is_one_email_until_a_flood_becomes_a_summary(db: Opened) -> None:
    account = await db.accounts.create(email=EMAIL, tokens=0, now_us=NOW_US)
    outbox = SqlNoticeOutbox(db.store)
    assert await outbox.claim_due(now_us=NOW_US) == []
    for number in range(EMAILS_PER_HOUR_MAX):
        await store_event(db, account.id, NoticeEvent.KEY_CREATED, now_us=NOW_US + number)
        claims = await asyncio.gather(*(SqlNoticeOutbox(db.store).claim_due(now_us=NOW_US + number) for _ in range(3)))
        assert [size for due in claims for size in sizes(due)] == [1]
    for number in range(30):
        await store_event(db, account.id, NoticeEvent.KEY_CREATED, now_us=NOW_US + number)
    await store_event(db, account.id, NoticeEvent.NEW_SIGN_IN)
    (sign_in,) = await outbox.claim_due(now_us=NOW_US + 10)
    assert (sign_in.kind, sizes([sign_in])) == (NoticeKind.SIGN_IN, [1]), "another kind has its own limit"
    (summary,) = await outbox.claim_due(now_us=NOW_US + HOUR_US + 10)
    assert (summary.kind, summary.email, summary.time_zone) == (NoticeKind.API_KEY, EMAIL, "UTC")
    assert len(summary.notices) == 30
    assert summary.notices[0].created_at_us == NOW_US
    assert await outbox.claim_due(now_us=NOW_US + HOUR_US + 10) == []
    assert await outbox.claim_due(now_us=NOW_US + 3 * HOUR_US) == []
    assert await db.rows(schema.notice) == [], "events are kept for an hour only"


async def test_a_kind_that_is_turned_off_is_dropped_and_security_never(db: Opened) -> None:
    account = await db.accounts.create(email=EMAIL, tokens=0, now_us=NOW_US)
    preferences = SqlPreferences(db.store)
    off = {("api_key", "email"): False, ("security", "email"): False, ("sign_in", "email"): True}
    for _ in range(2):
        await preferences.replace(account.id, off)
    assert await preferences.turned_off(account.id) == {("api_key", "email"), ("security", "email")}
    for event in (NoticeEvent.KEY_CREATED, NoticeEvent.PASSWORD_CHANGED, NoticeEvent.NEW_SIGN_IN):
        await store_event(db, account.id, event)
    due = await SqlNoticeOutbox(db.store).claim_due(now_us=NOW_US)
    assert {email.kind for email in due} == {NoticeKind.SECURITY, NoticeKind.SIGN_IN}
    await preferences.replace(account.id, {("api_key", "email"): True})
    assert await SqlNoticeOutbox(db.store).claim_due(now_us=NOW_US) == [], "what was off stays unsent"


async def verified(db: Opened) -> User:
    users = SqlUsers(db.store)
    user = await users.register(email=EMAIL, password_hash="h", now_us=NOW_US)
    link = {"user_id": user.id, "purpose": LinkPurpose.VERIFY, "digest": b"l", "email": None}
    await users.create_link(**link, expires_at_us=NOW_US + 1)  # type: ignore[arg-type]
    opened = await users.verify(b"l", now_us=NOW_US, may_open=True)
    assert opened is not None
    return opened


async def test_only_a_session_in_an_unknown_device_is_a_notice(db: Opened) -> None:
    user, sessions = await verified(db), SqlSessions(db.store)
    numbers = iter(range(1_000))

    async def begin(device: bytes, *, waits: bool = False, now_us: int = NOW_US) -> int:
        """Begin a session, and return how many notices there are then."""
        digest = b"session %d" % next(numbers)
        await sessions.begin(
            user=user,
            digest=digest,
            agent="Firefox",
            now_us=now_us,
            awaits_two_factor=waits,
            network="203.0.113.0/24",
            device=device,
        )
        return len(await db.rows(schema.notice))

    assert await begin(b"sign-up") == 0
    assert await begin(b"sign-up") == 0
    assert await begin(b"phone", waits=True) == 0, "two-factor authentication has not passed"
    assert await begin(b"phone") == 1
    assert await begin(b"phone", now_us=NOW_US + 2) == 1
    (notice,) = await db.rows(schema.notice)
    assert (notice["event"], notice["email"], notice["account_id"]) == ("new_sign_in", EMAIL, user.account_id)
    assert notice["fields"] == '{"user_agent":"Firefox","network":"203.0.113.0/24"}'
    (first, *_) = await sessions.list_for_user(user.id, now_us=NOW_US)
    assert first.network == "203.0.113.0/24"
    for number in range(DEVICES_MAX):
        await begin(b"device %d" % number, now_us=NOW_US + 3 + number)
    assert len(await db.rows(schema.known_device)) == DEVICES_MAX


async def test_the_first_device_is_no_notice_however_long_after_the_sign_up(db: Opened) -> None:
    """Such as at the first sign-in after an upgrade from a version that stored no devices."""
    user, sessions = await verified(db), SqlSessions(db.store)
    late_us = NOW_US + SESSION_LIFETIME_US
    for number, device in enumerate([b"first", b"first", b"second"]):
        assert await db.rows(schema.notice) == []
        digest = b"session %d" % number
        await sessions.begin(user=user, digest=digest, agent="", now_us=late_us, awaits_two_factor=False, device=device)
    (notice,) = await db.rows(schema.notice)
    assert notice["event"] == "new_sign_in"


async def test_a_session_ends_by_its_id_and_only_for_its_user(db: Opened) -> None:
    user, sessions = await verified(db), SqlSessions(db.store)
    for digest in (b"s", b"t"):
        await sessions.begin(user=user, digest=digest, agent="", now_us=NOW_US, awaits_two_factor=False)
    (record,) = [each for each in await sessions.list_for_user(user.id, now_us=NOW_US) if each.digest == b"t"]
    assert await sessions.end_by_id("user_other", record.id) is False
    assert await sessions.end_by_id(user.id, record.id) is True
    assert [each.digest for each in await sessions.list_for_user(user.id, now_us=NOW_US)] == [b"s"]


async def test_a_new_and_a_rotated_key_are_notices_unless_the_operator_made_them_before_there_is_a_user(
    db: Opened,
) -> None:
    account = await db.accounts.create(email=EMAIL, tokens=0, now_us=NOW_US)
    key, _ = await create_key(db.accounts, EMAIL, name="laptop")
    assert await db.rows(schema.notice) == []
    new = {"account_id": account.id, "prefix": "tk0n_ab", "last_four": "wxyz", "actor": EMAIL, "now_us": NOW_US}
    await db.accounts.create_key(name="phone", digest=b"2", **new)  # type: ignore[arg-type]
    await db.accounts.rotate_key(key_id=key.id, digest=b"3", ends_at_us=NOW_US, secrets_max=4, **new)  # type: ignore[arg-type]
    created, rotated = await db.rows(schema.notice)
    assert (created["event"], rotated["event"], rotated["kind"]) == ("key_created", "key_rotated", "api_key")
    assert '"name":"phone"' in created["fields"]
    assert f'"key_id":"{key.id}","name":"laptop"' in rotated["fields"]


async def test_a_key_of_the_operator_is_a_notice_for_the_user(db: Opened) -> None:
    user = await verified(db)
    key, _ = await create_key(db.accounts, EMAIL, name="laptop")
    (created,) = await db.rows(schema.notice)
    assert (created["event"], created["account_id"], created["email"]) == ("key_created", user.account_id, EMAIL)
    assert f'"key_id":"{key.id}"' in created["fields"]
    assert '"actor":"operator"' in created["fields"]
