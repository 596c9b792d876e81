"""Welcome tokens: once for an email address, ever, and at most so often on a UTC day, however requests race."""

import asyncio
from collections import Counter

import pytest

from support.ledgers import NOW_US, Opened, schema
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.adapters.sql.repositories.welcome import WELCOME_REASON
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.users import LINK_LIFETIME_US, Hint, LinkPurpose, SignUpLink, User, Welcome, digest

pytestmark = pytest.mark.anyio

WELCOME = Welcome(tokens=1_000, grants_per_day=5)


@pytest.fixture
def users(db: Opened) -> SqlUsers:
    return SqlUsers(db.store)


async def registered(users: SqlUsers, email: str, *, browser: bytes = b"browser", now_us: int = NOW_US) -> User:
    link = SignUpLink(digest=email.encode(), browser_digest=browser, expires_at_us=now_us + LINK_LIFETIME_US)
    return await users.register(email=email, password_hash="h", now_us=now_us, link=link, time_zone="Asia/Kolkata")


async def opened(users: SqlUsers, email: str, *, welcome: Welcome | None = WELCOME, now_us: int = NOW_US) -> User:
    await registered(users, email, now_us=now_us)
    user = await users.verify(email.encode(), now_us=now_us, may_open=True, welcome=welcome)
    assert user is not None
    return user


async def posted(db: Opened, email: str) -> int:
    return (await db.accounts.get(email)).balance.posted


async def test_a_new_account_gets_a_grant_with_a_fixed_reason(users: SqlUsers, db: Opened) -> None:
    user = await opened(users, "a@x")
    assert (await posted(db, "a@x"), user.time_zone) == (1_000, "Asia/Kolkata")
    (entry,) = await db.rows(schema.ledger_entry)
    assert (entry["kind"], entry["amount"], entry["reason"]) == ("grant", 1_000, WELCOME_REASON)
    assert [row["email_digest"] for row in await db.rows(schema.welcome_grant)] == [digest("a@x")]
    assert (await db.ledger.audit()).ok


async def test_no_tokens_are_granted_unless_the_settings_say_so(users: SqlUsers, db: Opened) -> None:
    await opened(users, "a@x", welcome=None)
    assert (await posted(db, "a@x"), await db.rows(schema.welcome_grant)) == (0, [])


async def test_an_account_of_the_operator_gets_no_welcome_tokens(users: SqlUsers, db: Opened) -> None:
    await db.accounts.create(email="a@x", tokens=7, now_us=NOW_US)
    await opened(users, "a@x")
    assert (await posted(db, "a@x"), await db.rows(schema.welcome_grant)) == (7, [])


async def test_an_invited_user_gets_welcome_tokens(users: SqlUsers, db: Opened) -> None:
    user = await users.register(email="a@x", password_hash="", now_us=NOW_US)
    invitation = {"user_id": user.id, "purpose": LinkPurpose.INVITE, "expires_at_us": NOW_US + 1, "email": None}
    await users.create_link(**invitation, digest=b"i")  # type: ignore[arg-type]
    chosen = {"purpose": LinkPurpose.INVITE, "password_hash": "h", "now_us": NOW_US, "may_open": True}
    assert await users.choose_password(b"i", **chosen, welcome=WELCOME) is not None  # type: ignore[arg-type]
    assert await posted(db, "a@x") == 1_000


async def test_an_address_gets_them_once_even_after_its_account_took_another_address(
    users: SqlUsers, db: Opened
) -> None:
    user = await opened(users, "a@x")
    change = {"user_id": user.id, "purpose": LinkPurpose.EMAIL, "expires_at_us": NOW_US + 1, "email": "b@x"}
    await users.create_link(**change, digest=b"e")  # type: ignore[arg-type]
    assert await users.change_email(b"e", now_us=NOW_US, keep_session=None) is not None
    await opened(users, "a@x")
    assert (await posted(db, "b@x"), await posted(db, "a@x")) == (1_000, 0)


async def test_a_racing_link_grants_once(users: SqlUsers, db: Opened) -> None:
    await registered(users, "a@x")
    race = (users.verify(b"a@x", now_us=NOW_US, may_open=True, welcome=WELCOME) for _ in range(8))
    assert sum(user is not None for user in await asyncio.gather(*race)) == 1
    assert await posted(db, "a@x") == 1_000


async def test_racing_accounts_never_exceed_the_limit_of_a_day_and_all_open(users: SqlUsers, db: Opened) -> None:
    emails = [f"{number}@x" for number in range(16)]
    for email in emails:
        await registered(users, email)
    race = (users.verify(email.encode(), now_us=NOW_US, may_open=True, welcome=WELCOME) for email in emails)
    assert all(user is not None and user.account_id for user in await asyncio.gather(*race))
    assert Counter([await posted(db, email) for email in emails]) == {1_000: 5, 0: 11}
    assert len(await db.rows(schema.welcome_grant)) == 5
    await opened(users, "next@x", now_us=NOW_US + MICROSECONDS_PER_DAY)
    assert await posted(db, "next@x") == 1_000, "the limit is that of a UTC day"
    assert (await db.ledger.audit()).ok


async def test_a_link_of_another_browser_is_not_consumed(users: SqlUsers) -> None:
    await registered(users, "a@x")
    verify = {"now_us": NOW_US, "may_open": True}
    assert await users.verify(b"a@x", browser_digest=b"other", **verify) is None  # type: ignore[arg-type]
    await registered(users, "b@x", browser=b"other")
    assert await users.verify(b"a@x", browser_digest=b"other", **verify) is None  # type: ignore[arg-type]
    user = await users.verify(b"a@x", browser_digest=b"browser", **verify)  # type: ignore[arg-type]
    assert user is not None
    assert user.email == "a@x"


async def test_a_dismissed_hint_stays_dismissed_for_its_user(users: SqlUsers) -> None:
    ada, bob = await opened(users, "a@x"), await opened(users, "b@x")
    await asyncio.gather(*(users.dismiss_hint(Hint.CHECKLIST, user_id=ada.id) for _ in range(4)))
    assert await users.dismissed_hints(ada.id) == {Hint.CHECKLIST}
    assert await users.dismissed_hints(bob.id) == set()
