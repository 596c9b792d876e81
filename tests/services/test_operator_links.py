"""The links that the operator hands out, to invite a user or to let one recover, and to whom they are denied."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from support.fakes import FakeClock
from support.ledgers import NOW_US, Opened, open_engine
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.domain.errors import AlreadyExists, LimitReached, NotFound, OperatorError
from tok0n.domain.users import Agent, LinkPurpose, Registration
from tok0n.ports.mail import MailBrand
from tok0n.services.emailed_links import EMAILS_MAX
from tok0n.services.passwords import GUESSES_MIN
from tok0n.services.sign_in import SignIn

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
PASSWORD = "plenty of quiet rivers"


class FakePasswords:
    """Hashes that a test can read."""

    async def hash(self, password: str) -> str:
        return f"hash of {password}"

    async def matches(self, password: str, password_hash: str | None) -> bool:
        return password_hash == f"hash of {password}"

    async def guesses(self, password: str, *, known_words: list[str]) -> int:
        del password, known_words
        return GUESSES_MIN


class FakeMailer:
    brand = MailBrand()

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, *, to: str, subject: str, text: str) -> None:
        del subject, text
        self.sent.append(to)


class World(msgspec.Struct, kw_only=True):
    db: Opened
    mailer: FakeMailer
    users: SqlUsers
    sessions: SqlSessions

    def sign_in(self, registration: Registration = Registration.INVITE) -> SignIn:
        return SignIn(
            users=self.users,
            sessions=self.sessions,
            attempts=SqlAttempts(self.db.store),
            passwords=FakePasswords(),
            mailer=self.mailer,
            clock=FakeClock(now_us=NOW_US),
            url_of=str,
            registration=registration,
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_engine("sqlite", tmp_path) as db:
        yield World(db=db, mailer=FakeMailer(), users=SqlUsers(db.store), sessions=SqlSessions(db.store))


async def accept(sign_in: SignIn, link: str, *, purpose: LinkPurpose = LinkPurpose.INVITE) -> bytes:
    """Choose a password with a link; gives the digest of the session."""
    new = await sign_in.choose_password(link.partition("link=")[2], purpose=purpose, password=PASSWORD, agent=Agent())
    assert new is not None
    session = await sign_in.find_session(new.secret)
    assert session is not None
    return session.digest


async def test_an_invitation_is_emailed_and_opens_an_account_once(world: World) -> None:
    sign_in = world.sign_in()
    link = await sign_in.invite(" Ada@Example.com ")
    assert world.mailer.sent == [ADA]
    await accept(sign_in, link)
    with pytest.raises(AlreadyExists, match="needs no invitation"):
        await sign_in.invite(ADA)


async def test_nobody_is_invited_to_a_closed_gateway_or_to_no_address(world: World) -> None:
    with pytest.raises(OperatorError, match="registration"):
        await world.sign_in(Registration.CLOSED).invite(ADA)
    with pytest.raises(OperatorError, match=r"name@example\.com"):
        await world.sign_in().invite("nonsense")
    assert world.mailer.sent == []


async def test_a_mailbox_gets_a_few_invitations_an_hour(world: World) -> None:
    sign_in = world.sign_in()
    for _ in range(EMAILS_MAX):
        await sign_in.invite(ADA)
    with pytest.raises(LimitReached):
        await sign_in.invite(ADA)
    assert len(world.mailer.sent) == EMAILS_MAX


async def test_a_recovery_needs_a_user_and_its_link_is_not_emailed(world: World) -> None:
    sign_in = world.sign_in()
    with pytest.raises(NotFound, match="accounts invite"):
        await sign_in.recover(ADA)
    await accept(sign_in, await sign_in.invite(ADA))
    world.mailer.sent.clear()
    link = await sign_in.recover(ADA)
    assert world.mailer.sent == []
    await accept(sign_in, link, purpose=LinkPurpose.RESET)


async def test_signing_out_elsewhere_keeps_this_session_alone(world: World) -> None:
    sign_in = world.sign_in()
    await accept(sign_in, await sign_in.invite(ADA))
    user = await world.users.find(ADA)
    assert user is not None
    secrets = [(await sign_in.begin_session(user, agent=Agent())).secret for _ in range(2)]
    session = await sign_in.find_session(secrets[0])
    assert session is not None
    await sign_in.sign_out_elsewhere(session)
    assert [item.digest for item in await world.sessions.list_for_user(user.id, now_us=NOW_US)] == [session.digest]
