"""What is done before an answer is the same for known and unknown addresses; the rest is done after it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fakes import FakeClock
from support.ledgers import NOW_US, Opened, open_engine
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.domain.users import Agent, Registration, User
from tok0n.ports.mail import MailBrand
from tok0n.services.passwords import GUESSES_MIN, FormError
from tok0n.services.sign_in import SignIn

pytestmark = pytest.mark.anyio

KNOWN, UNKNOWN = "ada@example.com", "eve@example.com"


class CountingPasswords:
    """Every password is "right"; what is asked is counted."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def hash(self, password: str) -> str:
        self.asked.append("hash")
        return f"hash of {password}"

    async def matches(self, password: str, password_hash: str | None) -> bool:
        self.asked.append("matches")
        return bool(password_hash) and password == "right"

    async def guesses(self, password: str, *, known_words: list[str]) -> int:
        del password, known_words
        self.asked.append("guesses")
        return GUESSES_MIN


class Mails:
    """Keeps mails until the gate is open."""

    brand = MailBrand()

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.sent: list[str] = []

    async def send(self, *, to: str, subject: str, text: str) -> None:
        await self.gate.wait()
        self.sent.append(to)


class CountingUsers(SqlUsers):
    """Counts what the task that made it asks the database."""

    def __init__(self, db: Opened) -> None:
        super().__init__(db.store)
        self.asked = 0
        self._task = asyncio.current_task()

    async def find(self, email: str) -> User | None:
        self.asked += asyncio.current_task() is self._task
        return await super().find(email)


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine("sqlite", tmp_path) as opened:
        yield opened


async def test_known_and_unknown_addresses_cost_the_same_before_the_answer(db: Opened) -> None:
    passwords, mails, users = CountingPasswords(), Mails(), CountingUsers(db)
    await users.register(email=KNOWN, password_hash="hash", now_us=NOW_US)
    sign_in = SignIn(
        users=users,
        sessions=SqlSessions(db.store),
        attempts=SqlAttempts(db.store),
        passwords=passwords,
        mailer=mails,
        clock=FakeClock(),
        url_of=str,
        registration=Registration.OPEN,
    )
    costs = []
    for email in (KNOWN, UNKNOWN):
        passwords.asked.clear()
        users.asked = 0
        with pytest.raises(FormError):
            await sign_in.sign_in(email=email, password="wrong", limit_key="a", agent=Agent())
        first_cost = (list(passwords.asked), users.asked)
        await sign_in.request_reset(email, limit_key="a")
        await sign_in.sign_up(email=email, password="plenty of quiet rivers", limit_key="a")
        costs.append((first_cost, list(passwords.asked), users.asked))
    assert costs[0] == costs[1]
    assert costs[0][:2] == ((["matches"], 1), ["matches", "guesses", "hash"])
    assert mails.sent == [], "no answer waited for a mail"
    mails.gate.set()
    await sign_in.wait_until_idle()
    assert set(mails.sent) == {KNOWN, UNKNOWN}
