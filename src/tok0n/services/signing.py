"""Sign up, sign in, sign out, and what a mailed link does. Known and unknown addresses are answered alike."""

import secrets
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from tok0n.domain.accounts import clean_email
from tok0n.domain.errors import OperatorError
from tok0n.domain.people import (
    PASSWORD_CHARACTERS_MAX,
    PASSWORD_CHARACTERS_MIN,
    SECRET_BYTES,
    LinkPurpose,
    Person,
    SignedIn,
    digest,
)
from tok0n.ports import Clock, Mailer, Passwords, People

FAILURES_MAX = 10
FAILURES_SECONDS = 900.0
REMEMBERED_MAX = 50_000
AGENT_CHARACTERS_MAX = 200
GUESSES_MIN = 1_000_000
"""Fewer guesses than this, and an online attacker gets there (zxcvbn's own score 2 begins here)."""

_GUESSED_CHARACTERS_MAX = 72

_VERIFY = """Welcome to Tok0n.

Open this link to confirm your address; it works once, for a day:

{url}

If you did not sign up, do nothing: without this link there is no account.
"""
_KNOWN = """Somebody, perhaps you, signed up with this address, which has an account already.

Sign in: {sign_in}
Forgot the password? {reset}
"""
_RESET = """Open this link to choose a new password; it works once, for a day:

{url}

If you did not ask for it, do nothing: your password stays as it is.
"""


class Refused(Exception):
    """What somebody filled in cannot be taken. `field` is the input that it is about."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that has just begun: `secret` goes into the cookie and nowhere else."""

    secret: str
    person: Person


class Signing:
    """The use cases. `url_of` makes a path an address of this installation."""

    def __init__(
        self,
        *,
        people: People,
        passwords: Passwords,
        mailer: Mailer,
        clock: Clock,
        url_of: Callable[[str], str],
    ) -> None:
        self._people = people
        self._passwords = passwords
        self._mailer = mailer
        self._clock = clock
        self._url_of = url_of
        self._failures: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    async def sign_up(self, *, email: str, password: str) -> str:
        """Mail a link that confirms the address; gives the address as it was understood. Raises `Refused`."""
        email = _clean(email)
        check_password(password, email=email)
        password_hash = await self._passwords.hash(password)
        person = await self._people.register(email=email, password_hash=password_hash, now_us=self._clock.now_us())
        if person.verified_at_us is None:
            await self._mail_link(person, LinkPurpose.VERIFY, subject="Confirm your address", text=_VERIFY)
        else:
            text = _KNOWN.format(sign_in=self._url_of("/sign-in"), reset=self._url_of("/reset-password"))
            await self._mailer.send(to=email, subject="You have an account already", text=text)
        return email

    async def verify(self, secret: str, *, password: str, agent: str) -> NewSession | None:
        """Confirm an address by its mailed link AND the password, and sign in. None when the link does not work.

        Without the password, somebody who signs up with another's address and waits would share the account that the
        other then confirms. Raises `Refused`.
        """
        now_us = self._clock.now_us()
        person = await self._people.linked(digest(secret), purpose=LinkPurpose.VERIFY, now_us=now_us)
        if person is None:
            return None
        if not await self._passwords.matches(password[:PASSWORD_CHARACTERS_MAX], person.password_hash):
            raise Refused("This is not the password that was chosen for this address. Sign up again.", field="password")
        person = await self._people.verify(digest(secret), now_us=now_us)
        return None if person is None else await self._begin(person, agent=agent)

    async def sign_in(self, *, email: str, password: str, address: str, agent: str) -> NewSession:
        """Begin a session. Raises `Refused`, in the same words and time for a wrong address and a wrong password."""
        email = _clean(email)
        self._throttle(address, email)
        person = await self._people.find(email)
        password_hash = None if person is None else person.password_hash
        if not await self._passwords.matches(password[:PASSWORD_CHARACTERS_MAX], password_hash):
            self._failures.setdefault((address, email), []).append(self._clock.monotonic())
            raise Refused("The address or the password is not right.", field="password")
        assert person is not None
        if person.account_id is None:
            await self._mail_link(person, LinkPurpose.VERIFY, subject="Confirm your address", text=_VERIFY)
            raise Refused("Confirm your address first: we have mailed you a new link.", field="email")
        self._failures.pop((address, email), None)
        return await self._begin(person, agent=agent)

    async def who(self, secret: str | None) -> SignedIn | None:
        """Who is signed in by the secret of a cookie."""
        if not secret or len(secret) > 100:
            return None
        return await self._people.find_session(digest(secret), now_us=self._clock.now_us())

    async def sign_out(self, session: SignedIn, *, everywhere: bool) -> None:
        """End this session, or all of this person."""
        if everywhere:
            await self._people.end_sessions(session.person_id)
        else:
            await self._people.end_session(session.digest)

    async def ask_reset(self, email: str) -> str:
        """Mail a link for a new password, if there is somebody to mail it to; gives the address. Raises `Refused`."""
        email = _clean(email)
        person = await self._people.find(email)
        if person is not None:
            await self._mail_link(person, LinkPurpose.RESET, subject="Choose a new password", text=_RESET)
        return email

    async def reset(self, secret: str, *, password: str, agent: str) -> NewSession | None:
        """Take the new password, and sign in. None when the link does not work. Raises `Refused`."""
        check_password(password, email="")
        password_hash = await self._passwords.hash(password)
        person = await self._people.reset_password(
            digest(secret), password_hash=password_hash, now_us=self._clock.now_us()
        )
        return None if person is None else await self._begin(person, agent=agent)

    async def _begin(self, person: Person, *, agent: str) -> NewSession:
        secret = secrets.token_urlsafe(SECRET_BYTES)
        await self._people.begin_session(
            person_id=person.id,
            digest=digest(secret),
            agent=agent[:AGENT_CHARACTERS_MAX],
            now_us=self._clock.now_us(),
        )
        return NewSession(secret=secret, person=person)

    async def _mail_link(self, person: Person, purpose: LinkPurpose, *, subject: str, text: str) -> None:
        secret = secrets.token_urlsafe(SECRET_BYTES)
        await self._people.make_link(
            person_id=person.id, purpose=purpose, digest=digest(secret), now_us=self._clock.now_us()
        )
        path = "/verify" if purpose is LinkPurpose.VERIFY else "/new-password"
        url = self._url_of(f"{path}?link={secret}")
        await self._mailer.send(to=person.email, subject=subject, text=text.format(url=url))

    def _throttle(self, address: str, email: str) -> None:
        """By address AND account: whoever guesses at an account from elsewhere does not lock its owner out."""
        now = self._clock.monotonic()
        failures = [at for at in self._failures.get((address, email), ()) if at > now - FAILURES_SECONDS]
        self._failures[address, email] = failures
        self._failures.move_to_end((address, email))
        if len(self._failures) > REMEMBERED_MAX:
            self._failures.popitem(last=False)
        if len(failures) >= FAILURES_MAX:
            minutes = round((failures[0] + FAILURES_SECONDS - now) / 60) or 1
            raise Refused(
                f"Too many attempts. Try again in {minutes} minutes, or reset the password.", field="password"
            )
        if not failures:
            del self._failures[address, email]


def check_password(password: str, *, email: str) -> None:
    """Raises `Refused` for a password that is too short, too long, or among the first that anybody would guess."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise Refused(f"Use at least {PASSWORD_CHARACTERS_MIN} characters.", field="password")
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise Refused(f"Use at most {PASSWORD_CHARACTERS_MAX} characters.", field="password")
    from zxcvbn import zxcvbn  # noqa: PLC0415  its word lists take a tenth of a second

    known = [email, *email.split("@"), "tok0n", "token"]
    if (
        zxcvbn(password[:_GUESSED_CHARACTERS_MAX], user_inputs=[word for word in known if word])["guesses"]
        < GUESSES_MIN
    ):
        raise Refused("That password is among the first that anybody would guess. Use another.", field="password")


def _clean(email: str) -> str:
    try:
        return clean_email(email)
    except OperatorError:
        raise Refused("Write your address as name@example.com.", field="email") from None
