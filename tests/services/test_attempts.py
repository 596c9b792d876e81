"""No burst gets more attempts evaluated than the limit allows, and expensive work comes after the count."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pyotp
import pytest

from support.fakes import FakeClock
from support.ledgers import ENGINES, NOW_US, Opened, open_engine, schema
from tok0n.adapters.passkeys import WebAuthn
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.passkeys import SqlPasskeys
from tok0n.adapters.sql.repositories.sessions import SqlSessions
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.domain.attempts import LIMITS, AttemptKind
from tok0n.domain.errors import Overloaded, PasskeyInvalid
from tok0n.domain.users import Agent, LinkPurpose, Registration, Session, User, digest
from tok0n.ports.mail import MailBrand
from tok0n.services import profile as profiles
from tok0n.services import sign_in as sign_ins
from tok0n.services.attempts import AttemptLimiter
from tok0n.services.passkeys import SignInByPasskey
from tok0n.services.passwords import GUESSES_MIN, FormError
from tok0n.services.profile import Profile
from tok0n.services.sign_in import SignIn
from tok0n.services.two_factor import TwoFactor

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
RIGHT, NEW = "the right password", "plenty of quiet rivers"


class CountingPasswords:
    """Yields once for each piece of work, as a queue does, and counts it."""

    def __init__(self, *, guesses: int = GUESSES_MIN) -> None:
        self.work: list[str] = []
        self._guesses = guesses

    async def hash(self, password: str) -> str:
        await self._do("hash")
        return f"hash of {password}"

    async def matches(self, password: str, password_hash: str | None) -> bool:
        await self._do("matches")
        return password_hash == f"hash of {password}"

    async def guesses(self, password: str, *, known_words: list[str]) -> int:
        del password, known_words
        await self._do("guesses")
        return self._guesses

    async def _do(self, what: str) -> None:
        self.work.append(what)
        await asyncio.sleep(0)


class NoMail:
    brand = MailBrand()

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Drop it."""


class World(msgspec.Struct, kw_only=True):
    """The services around one user, who has a second factor."""

    db: Opened
    clock: FakeClock
    passwords: CountingPasswords
    users: SqlUsers
    sign_in: SignIn
    profile: Profile
    ada: User
    session: Session
    totp: pyotp.TOTP


def without_sessions(shared: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shared.items() if name != "sessions"}


async def make_world(db: Opened, *, guesses: int = GUESSES_MIN) -> World:
    clock, passwords = FakeClock(), CountingPasswords(guesses=guesses)
    users, sessions, attempts = SqlUsers(db.store), SqlSessions(db.store), SqlAttempts(db.store)
    shared: dict[str, Any] = {"users": users, "sessions": sessions, "attempts": attempts, "passwords": passwords}
    shared |= {"mailer": NoMail(), "clock": clock, "url_of": str}
    await users.register(email=ADA, password_hash=f"hash of {RIGHT}", now_us=NOW_US)
    ada = await users.find(ADA)
    assert ada is not None
    link = digest("a link")
    await users.create_link(
        user_id=ada.id, purpose=LinkPurpose.VERIFY, digest=link, expires_at_us=NOW_US * 2, email=None
    )
    ada = await users.verify(link, now_us=NOW_US, may_open=True)
    assert ada is not None
    totp = pyotp.TOTP(pyotp.random_base32())
    await sessions.begin(user=ada, digest=b"d", agent="", now_us=NOW_US, awaits_two_factor=False)
    session = await sessions.find(b"d", now_us=NOW_US)
    assert session is not None
    await TwoFactor(users, clock).turn_on(session, secret=totp.secret, code=totp.at(NOW_US // 1_000_000))
    ada = await users.get(ada.id)
    session = await sessions.find(b"d", now_us=NOW_US)
    assert session is not None
    return World(
        db=db,
        clock=clock,
        passwords=passwords,
        users=users,
        sign_in=SignIn(registration=Registration.OPEN, **shared),
        profile=Profile(**without_sessions(shared)),
        ada=ada,
        session=session,
        totp=totp,
    )


@pytest.fixture(params=ENGINES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with open_engine(request.param, tmp_path) as db:
        yield await make_world(db)


async def refusals(times: int, attempt: Callable[[int], Awaitable[object]]) -> list[str]:
    """Make so many attempts at once, all of them refused; gives the messages.

    On a busy machine, some of a burst get no database connection in time: these are not counted, nor evaluated.
    """
    outcomes = await asyncio.gather(*(attempt(number) for number in range(times)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {FormError, Overloaded}
    return [outcome.message for outcome in outcomes if isinstance(outcome, FormError)]


def evaluated(messages: list[str]) -> int:
    return sum("Too many attempts" not in message for message in messages)


async def test_of_64_passwords_in_one_burst_10_are_evaluated(world: World) -> None:
    def guess(number: int) -> Awaitable[object]:
        return world.sign_in.sign_in(email=ADA, password=f"guess {number}", limit_key="a", agent=Agent())

    assert evaluated(await refusals(64, guess)) == sign_ins.FAILURES_MAX
    assert world.passwords.work == ["matches"] * sign_ins.FAILURES_MAX
    for email in (ADA, "nobody@example.com"):

        def again(_: int, email: str = email) -> Awaitable[object]:
            return world.sign_in.sign_in(email=email, password="x", limit_key="b", agent=Agent())

        messages = await refusals(20, again)
        assert evaluated(messages) == sign_ins.FAILURES_MAX, "known and unknown addresses alike"


async def test_one_client_cannot_try_every_email_address(world: World) -> None:
    def guess(number: int) -> Awaitable[object]:
        return world.sign_in.sign_in(email=f"user{number}@example.com", password="x", limit_key="a", agent=Agent())

    assert evaluated(await refusals(150, guess)) == sign_ins.FAILURES_PER_CLIENT_MAX
    await world.sign_in.sign_in(email=ADA, password=RIGHT, limit_key="b", agent=Agent())


async def test_a_sign_in_takes_back_its_own_count_and_leaves_the_failures(world: World) -> None:
    async def sign_in(password: str) -> object:
        return await world.sign_in.sign_in(email=ADA, password=password, limit_key="a", agent=Agent())

    assert evaluated(await refusals(sign_ins.FAILURES_MAX - 1, lambda _: sign_in("wrong"))) == sign_ins.FAILURES_MAX - 1
    for _ in range(3):
        await sign_in(RIGHT)
    assert [evaluated(await refusals(1, lambda _: sign_in("wrong"))) for _ in range(2)] == [1, 0]


async def test_of_200_codes_in_one_burst_6_are_evaluated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await world.sign_in.sign_in(email=ADA, password=RIGHT, limit_key="a", agent=Agent())
    assert new.awaits_two_factor
    wrong = [f"{number:06}" for number in range(300) if not is_code(world, f"{number:06}")][:200]
    compared: list[str] = []
    find_step = TwoFactor.find_step

    def counting(self: TwoFactor, code: str, totp_secret: str) -> int | None:
        compared.append(code)
        return find_step(self, code, totp_secret)

    monkeypatch.setattr(TwoFactor, "find_step", counting)
    messages = await refusals(
        200, lambda number: world.sign_in.submit_code(new.secret, code=wrong[number], agent=Agent())
    )
    assert evaluated(messages) == len(compared) == 6


def is_code(world: World, code: str) -> bool:
    return TwoFactor(world.users, world.clock).find_step(code, world.totp.secret) is not None


async def test_a_restart_forgives_no_code(world: World) -> None:
    new = await world.sign_in.sign_in(email=ADA, password=RIGHT, limit_key="a", agent=Agent())
    await refusals(6, lambda _: world.sign_in.submit_code(new.secret, code="wrong", agent=Agent()))
    restarted = (await make_again(world)).sign_in
    messages = await refusals(1, lambda _: restarted.submit_code(new.secret, code="wrong", agent=Agent()))
    assert evaluated(messages) == 0


async def make_again(world: World) -> World:
    """What a second process makes of the same database."""
    shared: dict[str, Any] = {"users": world.users, "sessions": SqlSessions(world.db.store)}
    shared |= {"attempts": SqlAttempts(world.db.store), "passwords": world.passwords, "mailer": NoMail()}
    shared |= {"clock": world.clock, "url_of": str}
    again = msgspec.structs.replace(world)
    again.sign_in, again.profile = (
        SignIn(registration=Registration.OPEN, **shared),
        Profile(**without_sessions(shared)),
    )
    return again


async def test_the_right_code_takes_back_its_own_count(world: World) -> None:
    for number in range(8):
        new = await world.sign_in.sign_in(email=ADA, password=RIGHT, limit_key="a", agent=Agent())
        world.clock.advance(30)
        code = world.totp.at(world.clock.now_us() // 1_000_000)
        assert await world.sign_in.submit_code(new.secret, code=code, agent=Agent()) is not None, number


async def test_confirmation_passwords_count_together_over_all_processes(world: World) -> None:
    both = [world.profile, (await make_again(world)).profile]
    limit = LIMITS[AttemptKind.CONFIRMATION].attempts_max
    for _ in range(limit + 1):
        await both[0].check_password(world.session, RIGHT, field="password")
    world.passwords.work.clear()
    messages = await refusals(
        64, lambda number: both[number % 2].check_password(world.session, "wrong", field="password")
    )
    assert evaluated(messages) == len(world.passwords.work) == limit


class Unread:
    """An authenticator that counts the credentials it is asked to read."""

    def __init__(self) -> None:
        self.reads = 0

    def read_response(self, credential: str) -> tuple[bytes, bytes]:
        self.reads += 1
        raise PasskeyInvalid(f"{credential} is no passkey.")


async def test_passkeys_are_read_only_after_the_count(world: World) -> None:
    authenticator: Any = Unread()
    assert set(dir(Unread)) & set(dir(WebAuthn)) >= {"read_response"}
    passkeys = SignInByPasskey(
        passkeys=SqlPasskeys(world.db.store),
        authenticator=authenticator,
        users=world.users,
        attempts=SqlAttempts(world.db.store),
        profile=world.profile,
        sign_in=world.sign_in,
        clock=world.clock,
    )
    messages = await refusals(100, lambda _: passkeys.sign_in("{}", visitor="v", limit_key="a", agent=Agent()))
    limit = LIMITS[AttemptKind.PASSKEY].attempts_max
    assert evaluated(messages) == authenticator.reads == limit
    assert (
        evaluated(await refusals(1, lambda _: passkeys.sign_in("{}", visitor="v", limit_key="b", agent=Agent()))) == 1
    )


async def test_a_flood_of_sign_ups_judges_no_more_passwords_than_the_limit(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        world = await make_world(db, guesses=1)
        messages = await refusals(40, lambda _: world.sign_in.sign_up(email=ADA, password="x" * 72, limit_key="a"))
        assert evaluated(messages) == len(world.passwords.work) == sign_ins.SIGN_UPS_MAX
        world.passwords.work.clear()
        for password, words in (("short", "at least"), ("x" * 201, "at most")):
            with pytest.raises(FormError, match=words):
                await world.sign_in.sign_up(email=ADA, password=password, limit_key="b")
        assert world.passwords.work == []


async def test_housekeeping_removes_every_expired_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "DELETED_ROWS_MAX", 2)
    attempts, limit = SqlAttempts(world.db.store), LIMITS[AttemptKind.PASSKEY]
    for number in range(5):
        await attempts.count_attempt(
            AttemptKind.PASSKEY, bytes([number]), limit=limit, now_us=world.clock.now_us() + number // 4
        )
    world.clock.advance(limit.quiet_us / 1_000_000)
    await world.sign_in.delete_expired()
    assert [row["subject"] for row in await world.db.rows(schema.attempt)] == [bytes([4])]


async def test_no_password_is_judged_for_a_link_that_does_not_work(world: World) -> None:
    for purpose in (LinkPurpose.RESET, LinkPurpose.INVITE):
        assert await world.sign_in.choose_password("nonsense", purpose=purpose, password=NEW, agent=Agent()) is None
    assert await world.sign_in.set_up("nonsense", email=ADA, password=NEW, agent=Agent()) is None
    assert await world.sign_in.confirm_by_password("nonsense", password=NEW, agent=Agent()) is None
    assert world.passwords.work == []


async def test_a_link_that_works_judges_no_more_passwords_than_the_limit(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        world = await make_world(db, guesses=1)
        secret = str(await world.sign_in.recover(ADA)).partition("link=")[2]
        set_up = str(await world.sign_in.create_set_up_url()).partition("link=")[2]

        def reset(_: int) -> Awaitable[object]:
            return world.sign_in.choose_password(secret, purpose=LinkPurpose.RESET, password=NEW, agent=Agent())

        assert evaluated(await refusals(40, reset)) == len(world.passwords.work) == sign_ins.CHOICES_MAX
        world.passwords.work.clear()
        messages = await refusals(40, lambda _: world.sign_in.set_up(set_up, email=ADA, password=NEW, agent=Agent()))
        assert evaluated(messages) == len(world.passwords.work) == sign_ins.CHOICES_MAX
        world.passwords.work.clear()
        for _ in range(profiles.CHOICES_MAX + 2):
            await refusals(1, lambda _: world.profile.change_password(world.session, current=RIGHT, password=NEW))
        assert world.passwords.work.count("guesses") == profiles.CHOICES_MAX


async def test_a_password_that_is_too_long_is_refused_before_any_work(world: World) -> None:
    new = "x" * 201
    attempts = (
        world.sign_in.sign_in(email=ADA, password=new, limit_key="a", agent=Agent()),
        world.profile.check_password(world.session, new, field="password"),
        world.profile.change_password(world.session, current=RIGHT, password=new),
    )
    for attempt in attempts:
        with pytest.raises(FormError, match="at most 200 characters"):
            await attempt
    assert world.passwords.work == []


def test_an_attempt_limiter_counts_over_a_while_and_takes_back_one() -> None:
    clock = FakeClock()
    limiter = AttemptLimiter(clock, attempts_max=2, seconds=10)
    for _ in range(2):
        assert limiter.count_attempt("x") == 0
        clock.advance(3)
    assert limiter.count_attempt("x") == pytest.approx(4)
    assert limiter.count_attempt("y") == 0
    clock.advance(4)
    assert limiter.count_attempt("x") == 0
    assert limiter.count_attempt("x") > 0
    limiter.take_back("x")
    assert limiter.count_attempt("x") == 0
    limiter.take_back("nobody")


def test_an_attempt_limiter_forgets_the_subject_counted_longest_ago() -> None:
    limiter = AttemptLimiter(FakeClock(), attempts_max=1, seconds=10, subjects_max=2)
    assert [limiter.count_attempt(subject) > 0 for subject in ("a", "b", "c", "b", "a")] == [
        False,
        False,
        False,
        True,
        False,
    ]
