"""Let signed-in users change their own account. Sensitive changes require the password again."""

import functools
import secrets
import zoneinfo
from collections.abc import Callable

from tok0n.domain.attempts import AttemptKind
from tok0n.domain.errors import AlreadyExists
from tok0n.domain.users import LINK_LIFETIME_US, SECRET_BYTES, UTC, LinkPurpose, Session, digest
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts
from tok0n.ports.mail import Mailer
from tok0n.ports.users import Passwords, Users
from tok0n.services import emails
from tok0n.services.attempts import AttemptLimiter, count_attempt
from tok0n.services.passwords import (
    FormError,
    check_length,
    check_too_long,
    clean_email,
    hash_new_password,
    too_many_attempts,
)
from tok0n.services.two_factor import TwoFactor, is_secret

CHOICES_MAX = 10
CHOICES_SECONDS = 900.0
"""The period in which a user can try at most `CHOICES_MAX` new passwords, because each strength check is expensive."""

NOT_ZONES = {"localtime", "Factory"}
"""Entries of the time zone database that are not time zones."""


@functools.cache
def time_zones() -> frozenset[str]:
    """Return the names of the time zones that a user can choose. The first call reads the time zone database."""
    return frozenset(zoneinfo.available_timezones() - NOT_ZONES)


def known_time_zone(text: str) -> str:
    """Return a time zone that a browser reports, or UTC if users can't choose it."""
    return text if text in time_zones() else UTC


class Profile:
    """Changes a user's password, email address, time zone and two-factor authentication, and closes accounts."""

    def __init__(
        self,
        *,
        users: Users,
        attempts: Attempts,
        passwords: Passwords,
        mailer: Mailer,
        clock: Clock,
        url_of: Callable[[str], str],
    ) -> None:
        self._users = users
        self._attempts = attempts
        self._passwords = passwords
        self._mailer = mailer
        self._clock = clock
        self._url_of = url_of
        self._two_factor = TwoFactor(users, clock)
        self._choices = AttemptLimiter(clock, attempts_max=CHOICES_MAX, seconds=CHOICES_SECONDS)

    async def change_password(self, session: Session, *, current: str, password: str) -> None:
        """Change the password, and end every other session. Raises `FormError`."""
        check_length(password)
        await self.check_password(session, current, field="current")
        if seconds := self._choices.count_attempt(session.user_id):
            raise too_many_attempts(seconds, field="password")
        password_hash = await hash_new_password(self._passwords, password, email=session.email)
        await self._users.change_password(
            user_id=session.user_id,
            password_hash=password_hash,
            session_digest=session.digest,
            now_us=self._clock.now_us(),
        )

    async def request_email_change(self, session: Session, *, password: str, email: str) -> str:
        """Email a link to the new address and a warning to the current one. Return the new one. Raises `FormError`."""
        email = clean_email(email)
        await self.check_password(session, password, field="email_password")
        secret = secrets.token_urlsafe(SECRET_BYTES)
        await self._users.create_link(
            user_id=session.user_id,
            purpose=LinkPurpose.EMAIL,
            digest=digest(secret),
            expires_at_us=self._clock.now_us() + LINK_LIFETIME_US,
            email=email,
            session_digest=session.digest,
        )
        url, reset = self._url_of(f"/new-address?link={secret}"), self._url_of("/reset-password")
        await emails.send(self._mailer, emails.NEW_EMAIL, to=email, url=url)
        await emails.send(self._mailer, emails.EMAIL_CHANGES, to=session.email, email=email, reset=reset)
        return email

    async def change_email(self, secret: str, *, session: Session | None) -> str | None:
        """Change the email address and return it. None if the link is invalid or another user has the address.

        Ends every session except `session`, the one of the browser that opens the link.
        """
        user = await self._users.change_email(
            digest(secret), now_us=self._clock.now_us(), keep_session=None if session is None else session.digest
        )
        return None if user is None else user.email

    async def set_time_zone(self, session: Session, time_zone: str) -> None:
        """Set the time zone in which pages show times. Raises `FormError`."""
        if time_zone not in time_zones():
            raise FormError("Choose a time zone from the list.", field="time_zone")
        await self._users.set_time_zone(user_id=session.user_id, time_zone=time_zone)

    async def turn_on_totp(self, session: Session, *, password: str, secret: str, code: str) -> list[str]:
        """Turn on two-factor authentication, and return the recovery codes. Raises `FormError`."""
        await self.check_password(session, password, field="password")
        codes = None
        if is_secret(secret):
            try:
                codes = await self._two_factor.turn_on(session, secret=secret, code=code)
            except AlreadyExists as error:
                raise FormError(error.message, field="code") from error
        if codes is None:
            raise FormError(
                "Incorrect code. Check the clock on your device, then enter the current code.", field="code"
            )
        return codes

    async def turn_off_totp(self, session: Session, *, password: str) -> None:
        """Turn off two-factor authentication. Raises `FormError`."""
        await self.check_password(session, password, field="password")
        await self._two_factor.turn_off(session)

    async def close_account(self, session: Session, *, password: str) -> None:
        """Close the account. Its keys and sessions stop working, and its ledger is kept. Raises `FormError`."""
        await self.check_password(session, password, field="close_password")
        await self._users.close_account(user_id=session.user_id, now_us=self._clock.now_us())

    async def check_password(self, session: Session, password: str, *, field: str) -> None:
        """Check the user's password, in case someone else is using the browser. Raises `FormError`."""
        check_too_long(password, field=field)
        counted = await count_attempt(
            self._attempts, self._clock, AttemptKind.CONFIRMATION, session.user_id, field=field
        )
        user = await self._users.get(session.user_id)
        if not await self._passwords.matches(password, user.password_hash):
            raise FormError("Incorrect password.", field=field)
        await self._attempts.take_back(counted)
