"""A change of credentials ends all outstanding links and all other sessions of that user, on both engines.

The tables hold every change, every kind of link and every way to open an account. Add new ones here.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from support.ledgers import ENGINES, NOW_US, Opened, open_engine, outcome, schema
from tok0n.adapters.sql.repositories.passkeys import SqlPasskeys
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.domain.errors import CredentialsChanged, LimitReached, NotFound
from tok0n.domain.users import LINK_LIFETIME_US, LinkPurpose, Passkey, Registration, User

pytestmark = pytest.mark.anyio

CURRENT = b"current session"
OTHERS = {b"other session": False, b"waits for a second factor": True}
ADA = "ada@x"


class World(msgspec.Struct, kw_only=True):
    """Ada, who has a passkey and is signed in in several places, and Bob, whom nothing of this concerns."""

    db: Opened
    users: SqlUsers
    sessions: SqlSessions
    passkeys: SqlPasskeys
    ada: User
    bob: User

    async def link(self, user: User, purpose: LinkPurpose, digest: bytes, *, email: str | None = None) -> bytes:
        await self.users.create_link(
            user_id=user.id,
            purpose=purpose,
            digest=digest,
            expires_at_us=NOW_US + LINK_LIFETIME_US,
            email=email,
        )
        return digest

    async def digests(self, user: User) -> set[bytes]:
        """The links and sessions of a user that are left."""
        rows = await self.db.rows(schema.mail_link) + await self.db.rows(schema.session)
        return {row["digest"] for row in rows if row["user_id"] == user.id}


@pytest.fixture(params=ENGINES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with open_engine(request.param, tmp_path) as db:
        users, sessions, passkeys = SqlUsers(db.store), SqlSessions(db.store), SqlPasskeys(db.store)
        ada = await joined(users, ADA)
        await sessions.begin(user=ada, digest=CURRENT, agent="", now_us=NOW_US, awaits_two_factor=False)
        await passkeys.add(passkey(ada, b"first"), passkeys_max=20, session_digest=CURRENT)
        ada = await users.get(ada.id)
        for digest, waits in OTHERS.items():
            await sessions.begin(user=ada, digest=digest, agent="", now_us=NOW_US, awaits_two_factor=waits)
        bob = await joined(users, "bob@x")
        await sessions.begin(user=bob, digest=b"bob's session", agent="", now_us=NOW_US, awaits_two_factor=False)
        world = World(db=db, users=users, sessions=sessions, passkeys=passkeys, ada=ada, bob=bob)
        await world.link(bob, LinkPurpose.RESET, b"bob's link")
        yield world


async def joined(users: SqlUsers, email: str) -> User:
    user = await users.register(email=email, password_hash="h1", now_us=NOW_US)
    await users.create_link(
        user_id=user.id, purpose=LinkPurpose.VERIFY, digest=b"v", expires_at_us=NOW_US + 1, email=None
    )
    made = await users.verify(b"v", now_us=NOW_US, may_open=True)
    assert made is not None
    return made


def passkey(user: User, credential_id: bytes) -> Passkey:
    return Passkey(
        credential_id=credential_id,
        user_id=user.id,
        public_key=b"p",
        sign_count=0,
        name="n",
        created_at_us=NOW_US,
        last_used_at_us=None,
    )


async def ask_email(world: World) -> None:
    await world.users.create_link(
        user_id=world.ada.id,
        purpose=LinkPurpose.EMAIL,
        digest=b"e",
        expires_at_us=NOW_US + 1,
        email="new@x",
        session_digest=CURRENT,
    )


async def change_password(world: World) -> None:
    await world.users.change_password(user_id=world.ada.id, password_hash="h2", session_digest=CURRENT, now_us=NOW_US)


async def two_factor_on(world: World) -> None:
    await world.users.set_totp(
        user_id=world.ada.id, secret="S", step=1, recovery_codes=[b"r"], session_digest=CURRENT, now_us=NOW_US
    )


async def two_factor_off(world: World) -> None:
    await world.users.set_totp(
        user_id=world.ada.id, secret=None, step=0, recovery_codes=[], session_digest=CURRENT, now_us=NOW_US
    )


async def add_passkey(world: World) -> None:
    await world.passkeys.add(passkey(world.ada, b"second"), passkeys_max=20, session_digest=CURRENT)


async def remove_passkey(world: World) -> None:
    await world.passkeys.remove(user_id=world.ada.id, credential_id=b"first", session_digest=CURRENT)


async def change_email(world: World) -> None:
    digest = await world.link(world.ada, LinkPurpose.EMAIL, b"used", email="new@x")
    assert await world.users.change_email(digest, now_us=NOW_US, keep_session=CURRENT) is not None


async def change_email_elsewhere(world: World) -> None:
    digest = await world.link(world.ada, LinkPurpose.EMAIL, b"used", email="new@x")
    assert await world.users.change_email(digest, now_us=NOW_US, keep_session=b"bob's session") is not None


async def reset_password(world: World) -> None:
    digest = await world.link(world.ada, LinkPurpose.RESET, b"used")
    changed = await world.users.choose_password(
        digest, purpose=LinkPurpose.RESET, password_hash="h2", now_us=NOW_US, may_open=False
    )
    assert changed is not None


async def confirm_again(world: World) -> None:
    digest = await world.link(world.ada, LinkPurpose.VERIFY, b"used")
    assert await world.users.verify(digest, now_us=NOW_US, may_open=False) is not None


async def recover(world: World) -> None:
    await world.users.delete_factors(world.ada.id)


async def set_up_operator(world: World) -> None:
    await world.users.create_link(
        user_id=None, purpose=LinkPurpose.SET_UP, digest=b"used", expires_at_us=NOW_US + 1, email=None
    )
    assert await world.users.set_up(b"used", email=ADA, password_hash="h2", now_us=NOW_US) is not None


async def close_account(world: World) -> None:
    await world.users.close_account(user_id=world.ada.id, now_us=NOW_US)


Change = Callable[[World], Awaitable[None]]
IN_A_SESSION: list[Change] = [change_password, two_factor_on, two_factor_off, add_passkey, remove_passkey]
ENDING_ALL: list[Change] = [
    change_email_elsewhere,
    reset_password,
    confirm_again,
    recover,
    set_up_operator,
    close_account,
]
CHANGES = {change: {CURRENT} for change in [*IN_A_SESSION, change_email]} | {change: set() for change in ENDING_ALL}
"""Every change of credentials, and the sessions that survive it."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_credential_change_ends_every_link_and_every_other_session(world: World, change: Change) -> None:
    for purpose in LinkPurpose:
        await world.link(world.ada, purpose, purpose.encode(), email="thief@x")
    await change(world)
    assert await world.digests(world.ada) == CHANGES[change]
    assert await world.digests(world.bob) == {b"bob's session", b"bob's link"}
    for purpose in (LinkPurpose.RESET, LinkPurpose.INVITE):
        used = await world.users.choose_password(
            purpose.encode(), purpose=purpose, password_hash="thief", now_us=NOW_US, may_open=True
        )
        assert used is None
    assert await world.users.verify(b"verify", now_us=NOW_US, may_open=True) is None
    assert await world.users.change_email(b"email", now_us=NOW_US, keep_session=None) is None
    assert not await world.users.use_link(b"passkey", purpose=LinkPurpose.PASSKEY, now_us=NOW_US)
    assert (await world.sessions.find(CURRENT, now_us=NOW_US) is not None) == (CURRENT in CHANGES[change])
    for digest in OTHERS:
        assert await world.sessions.find(digest, now_us=NOW_US) is None
        assert await world.sessions.find_waiting_user(digest, now_us=NOW_US) is None


@pytest.mark.parametrize("change", [ask_email, *IN_A_SESSION], ids=lambda change: change.__name__)
async def test_a_session_that_has_ended_changes_no_credential(world: World, change: Change) -> None:
    await world.sessions.end(CURRENT)
    before = await world.users.get(world.ada.id)
    with pytest.raises(CredentialsChanged):
        await change(world)
    assert await world.users.get(world.ada.id) == before
    assert [one.credential_id for one in await world.passkeys.list_for_user(world.ada.id)] == [b"first"]
    assert await world.digests(world.ada) == set(OTHERS)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_sign_in_that_began_before_a_credential_change_does_not_finish(world: World, change: Change) -> None:
    await change(world)
    with pytest.raises(CredentialsChanged):
        await world.sessions.begin(user=world.ada, digest=b"late", agent="", now_us=NOW_US, awaits_two_factor=False)


async def test_parallel_changes_in_two_sessions_leave_one_session(world: World) -> None:
    await world.db.open_connections()
    changes = [
        world.users.change_password(
            user_id=world.ada.id, password_hash=session_digest.decode(), session_digest=session_digest, now_us=NOW_US
        )
        for session_digest in (CURRENT, b"other session")
    ]
    results = await asyncio.gather(*map(outcome, changes))
    assert Counter(map(type, results)) == {type(None): 1, CredentialsChanged: 1}
    (survivor,) = await world.digests(world.ada)
    assert (await world.users.get(world.ada.id)).password_hash == survivor.decode()


@pytest.mark.parametrize("purpose", [one for one in LinkPurpose if one is not LinkPurpose.SET_UP])
async def test_of_links_made_at_once_one_works(world: World, purpose: LinkPurpose) -> None:
    await world.db.open_connections()
    await asyncio.gather(*(world.link(world.ada, purpose, bytes([number]), email="n@x") for number in range(12)))
    assert len(await world.digests(world.ada) - {CURRENT, *OTHERS}) == 1


async def test_a_link_used_at_once_by_several_works_for_one(world: World) -> None:
    await world.db.open_connections()
    digest = await world.link(world.ada, LinkPurpose.RESET, b"r")
    used = [
        world.users.choose_password(
            digest, purpose=LinkPurpose.RESET, password_hash=str(number), now_us=NOW_US, may_open=False
        )
        for number in range(12)
    ]
    winners = [user for user in await asyncio.gather(*used) if user is not None]
    assert [user.password_hash for user in winners] == [(await world.users.get(world.ada.id)).password_hash]


async def test_of_a_reset_and_an_email_change_at_once_one_works(world: World) -> None:
    await world.db.open_connections()
    reset = await world.link(world.ada, LinkPurpose.RESET, b"r")
    email = await world.link(world.ada, LinkPurpose.EMAIL, b"e", email="thief@x")
    results = await asyncio.gather(
        world.users.choose_password(
            reset, purpose=LinkPurpose.RESET, password_hash="h2", now_us=NOW_US, may_open=False
        ),
        world.users.change_email(email, now_us=NOW_US, keep_session=None),
    )
    assert sum(user is not None for user in results) == 1


async def test_a_sign_in_that_waits_continues_once(world: World) -> None:
    await world.db.open_connections()
    (waiting,) = (digest for digest, waits in OTHERS.items() if waits)
    begun = [
        world.sessions.begin(
            user=world.ada, digest=bytes([number]), agent="", now_us=NOW_US, awaits_two_factor=False, replaces=waiting
        )
        for number in range(12)
    ]
    results = await asyncio.gather(*map(outcome, begun))
    assert Counter(map(type, results)) == {type(None): 1, CredentialsChanged: 11}


async def test_nobody_has_more_passkeys_than_allowed(world: World) -> None:
    await world.db.open_connections()
    added = [
        world.passkeys.add(passkey(world.ada, bytes([number])), passkeys_max=7, session_digest=CURRENT)
        for number in range(20)
    ]
    results = await asyncio.gather(*map(outcome, added))
    assert Counter(map(type, results)) == {type(None): 6, LimitReached: 14}
    assert len(await world.passkeys.list_for_user(world.ada.id)) == 7


async def test_concurrent_sign_ups_with_one_address_create_one_user(world: World) -> None:
    await world.db.open_connections()
    made = await asyncio.gather(
        *(world.users.register(email="new@x", password_hash=str(number), now_us=NOW_US) for number in range(12))
    )
    assert len({user.id for user in made}) == 1


async def test_a_stranger_who_signs_up_does_not_end_the_operators_invitation(world: World) -> None:
    invited = await world.users.register(email="new@x", password_hash="", now_us=NOW_US)
    for purpose in (LinkPurpose.INVITE, LinkPurpose.RESET, LinkPurpose.VERIFY):
        await world.link(invited, purpose, purpose.encode())
    await world.users.register(email="new@x", password_hash="stranger", now_us=NOW_US)
    assert await world.digests(invited) == {b"invite"}


async def test_nobody_gets_a_link_who_is_not_there(world: World) -> None:
    with pytest.raises(NotFound):
        await world.link(msgspec.structs.replace(world.ada, id="nobody"), LinkPurpose.RESET, b"r")


OPENED_BY = {
    Registration.OPEN: {LinkPurpose.VERIFY, LinkPurpose.RESET, LinkPurpose.INVITE},
    Registration.INVITE: {LinkPurpose.INVITE},
    Registration.CLOSED: set[LinkPurpose](),
}


@pytest.mark.parametrize("purpose", [one for one in LinkPurpose if one is not LinkPurpose.SET_UP])
@pytest.mark.parametrize("registration", Registration)
async def test_a_link_opens_an_account_only_where_registration_allows_it(
    world: World, registration: Registration, purpose: LinkPurpose
) -> None:
    may_open = registration.may_open(purpose)
    assert may_open == (purpose in OPENED_BY[registration])
    user = await world.users.register(email="new@x", password_hash="h", now_us=NOW_US)
    digest = await world.link(user, purpose, b"l", email="newer@x")
    if purpose is LinkPurpose.VERIFY:
        await world.users.verify(digest, now_us=NOW_US, may_open=may_open)
    elif purpose is LinkPurpose.EMAIL:
        assert await world.users.change_email(digest, now_us=NOW_US, keep_session=None) is None
    elif purpose is LinkPurpose.PASSKEY:
        assert not await world.users.use_link(digest, purpose=purpose, now_us=NOW_US)
    else:
        await world.users.choose_password(digest, purpose=purpose, password_hash="h2", now_us=NOW_US, may_open=may_open)
    found = await world.users.get(user.id)
    assert (found.account_id is not None, found.verified_at_us is not None) == (may_open, may_open)
    assert len(await world.db.accounts.list_all()) == 2 + may_open
