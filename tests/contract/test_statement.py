"""The statement of a month is exact in every time zone, adds up, and reveals nothing of other accounts."""

import itertools
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened
from support.spending import spend
from tok0n.adapters.sql.repositories.lots import changes_around, changes_of
from tok0n.adapters.sql.repositories.statement import SqlStatements
from tok0n.domain.history import LedgerEntry
from tok0n.domain.ledger import EntryKind
from tok0n.domain.months import Month, month_at, parse_month

pytestmark = pytest.mark.anyio

ZONES = (
    "UTC",
    "Asia/Kolkata",
    "Europe/Berlin",
    "America/St_Johns",
    "Pacific/Apia",
    "Asia/Beirut",
    "Australia/Lord_Howe",
)
FIRST, LAST = Month(2026, 1), Month(2026, 7)
CLASSES = ("standard", "premium")


def months() -> list[Month]:
    found = [FIRST]
    while found[-1] < LAST:
        found.append(found[-1].following)
    return found


def times(seed: int) -> list[int]:
    """Return rising times over some months: random ones, and those around each month's start in each zone."""
    numbers = random.Random(seed)
    first_us, last_us = FIRST.starts_at_us(UTC), LAST.starts_at_us(UTC)
    edges = [month.starts_at_us(ZoneInfo(zone)) for month in months() for zone in ZONES]
    found = [edge + offset for edge in edges for offset in (-1, 0, 1)]
    return sorted(found + [numbers.randrange(first_us, last_us) for _ in range(20)])


async def filled(db: Opened, email: str, at_us: list[int]) -> str:
    account = await db.accounts.create(email=email, tokens=0, now_us=1)
    for number, time_us in enumerate(at_us):
        grant = {"email": email, "tokens": number + 1, "reason": "r", "now_us": time_us}
        await db.accounts.grant(**grant, token_class=CLASSES[number % 7 == 0])  # type: ignore[arg-type]
    return account.id


async def whole(
    statements: SqlStatements, account_id: str, *, rows_max: int = 1_000, **filters: object
) -> list[LedgerEntry]:
    """Return all entries of a period, page by page."""
    entries: list[LedgerEntry] = []
    before = None
    while page := await statements.entries(account_id, before=before, rows_max=rows_max, **filters):  # type: ignore[arg-type]
        entries += page
        before = page[-1].id
    return entries


async def test_every_month_has_its_entries_and_its_balances_add_up(db: Opened) -> None:
    statements = SqlStatements(db.store)
    account_id = await filled(db, "a@x", times(1))
    await filled(db, "b@x", times(2))
    everything = await whole(statements, account_id)
    assert len(everything) == len(times(1))
    for zone in map(ZoneInfo, ZONES):
        for month in months():
            since_us, until_us = month.starts_at_us(zone), month.ends_at_us(zone)
            expected = [entry for entry in everything if since_us <= entry.created_at_us < until_us]
            for rows_max in (1_000, 7):
                found = await whole(statements, account_id, rows_max=rows_max, since_us=since_us, until_us=until_us)
                assert found == expected
            assert all(month_at(entry.created_at_us, zone) == month for entry in found)
            opening = await statements.balances_at(account_id, since_us)
            closing = await statements.balances_at(account_id, until_us)
            for token_class in CLASSES:
                of_class = [entry for entry in expected if entry.token_class == token_class]
                change = sum(entry.amount for entry in of_class)
                assert opening.get(token_class, 0) + change == closing.get(token_class, 0)
                filters = {"since_us": since_us, "until_us": until_us, "token_class": token_class}
                assert await whole(statements, account_id, rows_max=5, **filters) == of_class


async def test_balances_at_any_time_are_the_sums_of_the_entries_before_it(db: Opened) -> None:
    statements = SqlStatements(db.store)
    numbers = random.Random(1)
    account, key = await db.key("a@x", tokens=100)
    for at_us in range(NOW_US + 1, NOW_US + 40):
        token_class = numbers.choice(CLASSES)
        balances = await statements.balances_at(account.id, at_us)
        if balances.get(token_class, 0) >= 3 and numbers.random() < 0.6:
            await spend(db, account_id=account.id, key_id=key.id, tokens=3, at_us=at_us, token_class=token_class)
        else:
            grant = {"email": "a@x", "tokens": 50, "reason": "r", "now_us": at_us}
            await db.accounts.grant(**grant, token_class=token_class)  # type: ignore[arg-type]
    everything = await whole(statements, account.id)
    assert {(entry.kind, entry.token_class) for entry in everything} >= set(
        itertools.product((EntryKind.GRANT, EntryKind.USAGE), CLASSES)
    )
    for at_us in range(NOW_US - 1, NOW_US + 42):
        sums = dict.fromkeys(CLASSES, 0)
        for entry in everything:
            sums[entry.token_class] += entry.amount if entry.created_at_us < at_us else 0
        assert await statements.balances_at(account.id, at_us) == sums


async def test_the_changes_around_an_entry_are_the_nearest_two_of_the_wallet(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100)
    for number in range(12):
        token_class = CLASSES[number % 3 == 0]
        await db.accounts.grant(email="a@x", tokens=5, reason="r", now_us=NOW_US, token_class=token_class)
        await spend(db, account_id=account.id, key_id=key.id, tokens=1, token_class=token_class)

    def compare(tx: sa.Connection) -> None:
        changes = changes_of(tx, account.id)
        assert [len(changes[name]) for name in CLASSES] == [9, 4]
        for name, of_class in changes.items():
            for first_id in range(of_class[-1].id + 2):
                around = changes_around(tx, account.id, name, first_id)
                before = [change for change in of_class if change.id < first_id]
                after = [change for change in of_class if change.id >= first_id]
                assert around == before[-1:] + after[:1]

    await db.store.read(compare)


async def test_entries_of_one_time_are_on_one_page_each(db: Opened) -> None:
    statements = SqlStatements(db.store)
    account_id = await filled(db, "a@x", [5_000_000] * 20)
    entries = await whole(statements, account_id, rows_max=3)
    assert [entry.amount for entry in entries] == list(range(20, 0, -1))


async def test_an_entry_of_another_account_starts_no_page(db: Opened) -> None:
    statements = SqlStatements(db.store)
    await filled(db, "a@x", [1_000_000])
    account_id = await filled(db, "b@x", [500_000, 2_000_000])
    (own, _) = await statements.entries(account_id, rows_max=9)
    for before in ("1000000-1-premium", "", "1", "x-1-standard", f"{10**19}-1-premium", own.id + "x", "²-1-premium"):
        assert await statements.entries(account_id, before=before, rows_max=9) == []
    assert own.id == "2000000-1-standard"
    assert len(await statements.entries(account_id, before=own.id, rows_max=9)) == 1
    assert await statements.first_entry_at_us(account_id) == 500_000


async def test_an_account_without_entries_has_an_empty_statement(db: Opened) -> None:
    statements = SqlStatements(db.store)
    account = await db.accounts.create(email="a@x", tokens=0, now_us=1)
    assert await statements.entries(account.id, since_us=0, until_us=10**16, rows_max=9) == []
    assert await statements.balances_at(account.id, 10**16) == {"standard": 0}
    assert await statements.first_entry_at_us(account.id) is None


def test_months_follow_each_other_without_a_gap_in_every_zone() -> None:
    for zone in map(ZoneInfo, ZONES):
        month = Month(2009, 12)
        for _ in range(240):
            assert month.following.preceding == month
            assert month.ends_at_us(zone) == month.following.starts_at_us(zone) > month.starts_at_us(zone)
            assert month_at(month.starts_at_us(zone), zone) == month
            assert month_at(month.starts_at_us(zone) - 1, zone) == month.preceding
            month = month.following


def test_a_month_is_a_year_and_a_month() -> None:
    assert (parse_month("2026-02"), str(Month(2026, 2)), Month(2026, 2).title) == (
        Month(2026, 2),
        "2026-02",
        "February 2026",
    )
    for text in ("", "2026", "2026-13", "2026-1", "0000-01", "9999-01", "²026-01", "2026-02-01", " 2026-02"):
        assert parse_month(text) is None
    assert Month(2026, 12).starts_at_us(UTC) == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 10**6
