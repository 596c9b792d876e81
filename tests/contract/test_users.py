"""What users, their sessions and their links promise, whatever database is behind them."""

import asyncio

import msgspec
import pytest

from support.ledgers import NOW_US, Opened, schema
from tok0n.adapters.sql.repositories.passkeys import SqlPasskeys
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.domain.errors import AlreadyExists
from tok0n.domain.users import (
    LINK_LIFETIME_US,
    SESSION_IDLE_US,
    SESSION_LIFETIME_US,
    TWO_FACTOR_LIFETIME_US,
    LinkPurpose,
    Passkey,
    User,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def users(db: Opened) -> SqlUsers:
    return SqlUsers(db.store)


@pytest.fixture
def sessions(db: Opened) -> SqlSessions:
    return SqlSessions(db.store)


async def link(
    users: SqlUsers, user: User | None, purpose: LinkPurpose, digest: bytes, *, email: str | None = None
) -> bytes:
    await users.create_link(
        user_id=None if user is None else user.id,
        purpose=purpose,
        digest=digest,
        expires_at_us=NOW_US + LINK_LIFETIME_US,
        email=email,
    )
    return digest


async def verified(users: SqlUsers, email: str = "a@x") -> User:
    user = await users.register(email=email, password_hash="h1", now_us=NOW_US)
    digest = await link(users, user, LinkPurpose.VERIFY, email.encode())
    made = await users.verify(digest, now_us=NOW_US, may_open=True)
    assert made is not None
    return made


async def test_registering_again_changes_the_password_only_until_the_address_is_verified(users: SqlUsers) -> None:
    await users.register(email="a@x", password_hash="h1", now_us=NOW_US)
    again = await users.register(email="a@x", password_hash="h2", now_us=NOW_US)
    assert (again.password_hash, again.account_id) == ("h2", None)
    await users.verify(await link(users, again, LinkPurpose.VERIFY, b"d"), now_us=NOW_US, may_open=True)
    assert (await users.register(email="a@x", password_hash="h3", now_us=NOW_US)).password_hash == "h2"


async def test_a_link_works_once_and_not_after_its_time(users: SqlUsers) -> None:
    user = await users.register(email="a@x", password_hash="h", now_us=NOW_US)
    late = await link(users, user, LinkPurpose.VERIFY, b"late")
    assert await users.verify(late, now_us=NOW_US + LINK_LIFETIME_US, may_open=True) is None
    digest = await link(users, user, LinkPurpose.VERIFY, b"d")
    results = await asyncio.gather(*(users.verify(digest, now_us=NOW_US, may_open=True) for _ in range(8)))
    assert sum(result is not None for result in results) == 1


async def test_only_the_newest_link_works_and_only_for_its_purpose(users: SqlUsers) -> None:
    user = await users.register(email="a@x", password_hash="h", now_us=NOW_US)
    old = await link(users, user, LinkPurpose.RESET, b"old")
    new = await link(users, user, LinkPurpose.RESET, b"new")
    assert await users.find_by_link(old, purpose=LinkPurpose.RESET, now_us=NOW_US) is None
    assert await users.find_by_link(new, purpose=LinkPurpose.VERIFY, now_us=NOW_US) is None
    assert await users.verify(new, now_us=NOW_US, may_open=True) is None
    assert await users.find_by_link(new, purpose=LinkPurpose.RESET, now_us=NOW_US) == user


async def test_whoever_proves_an_address_gets_the_account_that_the_operator_opened(users: SqlUsers, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=7, now_us=NOW_US)
    assert (await verified(users, "a@x")).account_id == account.id
    made = await verified(users, "b@x")
    assert (await db.accounts.get("b@x")).id == made.account_id


async def test_a_new_password_ends_every_session(users: SqlUsers, sessions: SqlSessions) -> None:
    user = await verified(users)
    await sessions.begin(user=user, digest=b"s", agent="", now_us=NOW_US, awaits_two_factor=False)
    digest = await link(users, user, LinkPurpose.RESET, b"r")
    changed = await users.choose_password(
        digest, purpose=LinkPurpose.RESET, password_hash="h9", now_us=NOW_US, may_open=True
    )
    assert changed is not None
    assert (changed.password_hash, await sessions.find(b"s", now_us=NOW_US)) == ("h9", None)


async def test_there_is_one_operator_whoever_is_first(users: SqlUsers) -> None:
    links = [await link(users, None, LinkPurpose.SET_UP, str(number).encode()) for number in range(4)]
    made = await asyncio.gather(
        *(
            users.set_up(digest, email=f"{number}@x", password_hash="h", now_us=NOW_US)
            for number, digest in enumerate(links)
        )
    )
    assert sum(user is not None for user in made) == 1
    assert await users.has_operator()
    assert [user.is_operator for user in made if user is not None] == [True]


async def test_an_address_moves_with_the_account_unless_it_is_taken(users: SqlUsers, db: Opened) -> None:
    user = await verified(users, "a@x")
    await verified(users, "b@x")
    await db.accounts.create(email="c@x", tokens=0, now_us=NOW_US)
    for taken in ("b@x", "c@x"):
        digest = await link(users, user, LinkPurpose.EMAIL, taken.encode(), email=taken)
        assert await users.change_email(digest, now_us=NOW_US, keep_session=None) is None
    digest = await link(users, user, LinkPurpose.EMAIL, b"e", email="new@x")
    changed = await users.change_email(digest, now_us=NOW_US, keep_session=None)
    assert changed is not None
    assert (changed.email, (await db.accounts.get("new@x")).id) == ("new@x", user.account_id)


async def test_a_session_ends_when_unused_and_when_old(users: SqlUsers, sessions: SqlSessions) -> None:
    user = await verified(users)
    await sessions.begin(user=user, digest=b"s", agent="x", now_us=NOW_US, awaits_two_factor=False)
    assert await sessions.find(b"s", now_us=NOW_US + SESSION_IDLE_US) is None
    at = NOW_US
    while at < NOW_US + SESSION_LIFETIME_US - SESSION_IDLE_US // 2:
        at += SESSION_IDLE_US // 2
        found = await sessions.find(b"s", now_us=at)
        assert (found and found.user_id) == (user.id if at < NOW_US + SESSION_LIFETIME_US else None)
    assert await sessions.find(b"s", now_us=NOW_US + SESSION_LIFETIME_US) is None


async def test_a_session_that_waits_is_not_signed_in(users: SqlUsers, sessions: SqlSessions) -> None:
    user = await verified(users)
    await sessions.begin(user=user, digest=b"s", agent="", now_us=NOW_US, awaits_two_factor=True)
    assert await sessions.find(b"s", now_us=NOW_US) is None
    assert await sessions.find_waiting_user(b"s", now_us=NOW_US) == user
    assert await sessions.find_waiting_user(b"s", now_us=NOW_US + TWO_FACTOR_LIFETIME_US) is None
    assert await sessions.list_for_user(user.id, now_us=NOW_US) == []


async def test_signing_out_elsewhere_leaves_this_session(users: SqlUsers, sessions: SqlSessions) -> None:
    user, other = await verified(users), await verified(users, "b@x")
    for owner, digest in ((user, b"1"), (user, b"2"), (other, b"3")):
        await sessions.begin(user=owner, digest=digest, agent="", now_us=NOW_US, awaits_two_factor=False)
    await sessions.end_all(user.id, except_digest=b"1")
    assert [one.digest for one in await sessions.list_for_user(user.id, now_us=NOW_US)] == [b"1"]
    assert await sessions.find(b"3", now_us=NOW_US) is not None


async def test_codes_are_used_once(users: SqlUsers, sessions: SqlSessions) -> None:
    user = await verified(users)
    await sessions.begin(user=user, digest=b"s", agent="", now_us=NOW_US, awaits_two_factor=False)
    await users.set_totp(
        user_id=user.id, secret="S", step=10, recovery_codes=[b"a", b"b"], session_digest=b"s", now_us=NOW_US
    )
    steps = await asyncio.gather(*(users.use_totp_step(user_id=user.id, step=11) for _ in range(8)))
    codes = await asyncio.gather(*(users.use_recovery_code(user_id=user.id, digest=b"a") for _ in range(8)))
    assert (sum(steps), sum(codes)) == (1, 1)
    assert not await users.use_totp_step(user_id=user.id, step=10)
    assert await users.recovery_codes_left(user.id) == 1
    await users.set_totp(user_id=user.id, secret=None, step=0, recovery_codes=[], session_digest=b"s", now_us=NOW_US)
    assert await users.recovery_codes_left(user.id) == 0


async def test_a_closed_account_lets_nobody_in(users: SqlUsers, sessions: SqlSessions, db: Opened) -> None:
    user = await verified(users)
    assert user.account_id is not None
    await db.accounts.create_key(
        account_id=user.account_id, name="k", digest=b"k", prefix="p", last_four="4", now_us=NOW_US
    )
    await sessions.begin(user=user, digest=b"s", agent="", now_us=NOW_US, awaits_two_factor=False)
    await users.close_account(user_id=user.id, now_us=NOW_US)
    closed = await users.get(user.id)
    await sessions.begin(user=closed, digest=b"t", agent="", now_us=NOW_US, awaits_two_factor=False)
    assert await sessions.find(b"s", now_us=NOW_US) is None
    assert await sessions.find(b"t", now_us=NOW_US) is None
    assert await db.callers.find(b"k", now_us=NOW_US) is None
    assert (await db.accounts.get("a@x")).status == "closed"


async def test_what_nobody_needs_any_more_is_forgotten(users: SqlUsers, sessions: SqlSessions, db: Opened) -> None:
    kept = await verified(users, "kept@x")
    await sessions.begin(user=kept, digest=b"old", agent="", now_us=NOW_US, awaits_two_factor=False)
    waiting = await users.register(email="waiting@x", password_hash="h", now_us=NOW_US)
    await link(users, waiting, LinkPurpose.VERIFY, b"w")
    at_us = NOW_US + LINK_LIFETIME_US - 1
    assert await users.delete_stale(now_us=at_us, rows_max=10) == 0
    at_us += SESSION_LIFETIME_US
    await sessions.begin(user=kept, digest=b"new", agent="", now_us=at_us, awaits_two_factor=False)
    await sessions.delete_ended(now_us=at_us)
    assert [row["digest"] for row in await db.rows(schema.session)] == [b"new"]
    assert await users.delete_stale(now_us=at_us, rows_max=10) == 2, "the link and the user"
    assert (await users.find("waiting@x"), await users.find("kept@x")) == (None, kept)


async def test_a_passkey_belongs_to_one_user(users: SqlUsers, sessions: SqlSessions, db: Opened) -> None:
    passkeys = SqlPasskeys(db.store)
    mine, other = await verified(users, "a@x"), await verified(users, "b@x")
    for owner, digest in ((mine, b"m"), (other, b"o")):
        await sessions.begin(user=owner, digest=digest, agent="", now_us=NOW_US, awaits_two_factor=False)
    made = Passkey(
        credential_id=b"c",
        user_id=mine.id,
        public_key=b"p",
        sign_count=0,
        name="n",
        created_at_us=NOW_US,
        last_used_at_us=None,
    )
    await passkeys.add(made, passkeys_max=2, session_digest=b"m")
    with pytest.raises(AlreadyExists):
        await passkeys.add(msgspec.structs.replace(made, user_id=other.id), passkeys_max=2, session_digest=b"o")
    await passkeys.record_use(b"c", sign_count=3, now_us=NOW_US + 1)
    used = msgspec.structs.replace(made, sign_count=3, last_used_at_us=NOW_US + 1)
    found = await passkeys.find(b"c")
    assert found is not None
    assert (found[0], found[1].id) == (used, mine.id)
    await passkeys.remove(user_id=other.id, credential_id=b"c", session_digest=b"o")
    assert (await passkeys.list_for_user(mine.id), await passkeys.list_for_user(other.id)) == ([used], [])
    await passkeys.remove(user_id=mine.id, credential_id=b"c", session_digest=b"m")
    assert await passkeys.find(b"c") is None


async def test_a_challenge_is_used_once(users: SqlUsers) -> None:
    await link(users, None, LinkPurpose.PASSKEY, b"1")
    await link(users, None, LinkPurpose.PASSKEY, b"2")
    used = [users.use_link(b"1", purpose=LinkPurpose.PASSKEY, now_us=NOW_US) for _ in range(4)]
    assert sum(await asyncio.gather(*used)) == 1
    assert not await users.use_link(b"2", purpose=LinkPurpose.PASSKEY, now_us=NOW_US + LINK_LIFETIME_US)
