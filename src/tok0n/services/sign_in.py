"""Sign up, sign in, sign out, and handle emailed links.

The response, and the time it takes, never reveal whether an address has an account: a separate task sends the emails.
"""

import secrets
from collections.abc import Callable

import msgspec

from tok0n.domain.attempts import AttemptKind
from tok0n.domain.email import parse_email
from tok0n.domain.errors import AlreadyExists, LimitReached, NotFound, OperatorError
from tok0n.domain.users import SECRET_BYTES, UTC, Agent, LinkPurpose, Registration, Session, User, Welcome, digest
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts
from tok0n.ports.mail import Mailer
from tok0n.ports.users import Passwords, Sessions, Users
from tok0n.services import emails
from tok0n.services.attempts import AttemptLimiter, count_attempt
from tok0n.services.emailed_links import EMAILS_MAX, EmailedLinks
from tok0n.services.passwords import (
    FormError,
    check_length,
    check_too_long,
    clean_email,
    hash_new_password,
    too_many_attempts,
)
from tok0n.services.profile import known_time_zone
from tok0n.services.two_factor import TwoFactor

FAILURES_MAX = 10
FAILURES_SECONDS = 900.0
FAILURES_PER_CLIENT_MAX = 100
"""The most failed sign-ins of one client in `FAILURES_SECONDS`, for any email addresses."""

CHOICES_MAX = 10
"""The most new passwords that one link can try in `FAILURES_SECONDS`, because each strength check is expensive."""

SIGN_UPS_MAX = 30
SIGN_UPS_SECONDS = 3_600.0
RESETS_MAX = 30
RESETS_SECONDS = 3_600.0
AGENT_CHARACTERS_MAX = 200
SECRET_CHARACTERS_MAX = 100
DELETED_ROWS_MAX = 1_000
NOT_OPEN = "You need an invitation to create an account. Contact support to get one."


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A new session. Its `secret` goes into the cookie and nowhere else.

    `device` is the secret of the device cookie.
    """

    secret: str
    awaits_two_factor: bool
    device: str


class NewSignUp(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-up that awaits its emailed link. Its `secret` goes into the browser's cookie and nowhere else."""

    email: str
    secret: str


class SignIn:
    """Signs users up, in and out. `url_of` turns a path into a full URL. `limit_key` identifies the client."""

    def __init__(
        self,
        *,
        users: Users,
        sessions: Sessions,
        attempts: Attempts,
        passwords: Passwords,
        mailer: Mailer,
        clock: Clock,
        url_of: Callable[[str], str],
        registration: Registration,
        welcome: Welcome | None = None,
        sends_email: bool = True,
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._attempts = attempts
        self._passwords = passwords
        self._clock = clock
        self._registration = registration
        self._welcome = welcome
        self._sends_email = sends_email
        self._links = EmailedLinks(users, mailer, clock, url_of)
        self._two_factor = TwoFactor(users, clock)
        self._failures = AttemptLimiter(clock, attempts_max=FAILURES_MAX, seconds=FAILURES_SECONDS)
        self._by_client = AttemptLimiter(clock, attempts_max=FAILURES_PER_CLIENT_MAX, seconds=FAILURES_SECONDS)
        self._choices = AttemptLimiter(clock, attempts_max=CHOICES_MAX, seconds=FAILURES_SECONDS)
        self._sign_ups = AttemptLimiter(clock, attempts_max=SIGN_UPS_MAX, seconds=SIGN_UPS_SECONDS)
        self._resets = AttemptLimiter(clock, attempts_max=RESETS_MAX, seconds=RESETS_SECONDS)

    @property
    def is_open(self) -> bool:
        """Whether users can sign up without an invitation."""
        return self._registration is Registration.OPEN

    async def sign_up(self, *, email: str, password: str, limit_key: str, time_zone: str = "") -> NewSignUp:
        """Email a link that confirms the address. The browser that signs up gets a secret. Raises `FormError`.

        An unknown `time_zone` counts as UTC.
        """
        if not self.is_open:
            raise FormError(NOT_OPEN, field="email")
        email = clean_email(email)
        check_length(password)
        if seconds := self._sign_ups.count_attempt(limit_key):
            raise too_many_attempts(seconds, field="email")
        password_hash = await hash_new_password(self._passwords, password, email=email)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        registered = self._links.register(
            email=email,
            password_hash=password_hash,
            browser_digest=digest(secret),
            time_zone=known_time_zone(time_zone),
        )
        self._links.in_background(registered)
        return NewSignUp(email=email, secret=secret)

    async def is_valid(self, secret: str, purpose: LinkPurpose) -> bool:
        """Whether an emailed link still works. Doesn't consume it."""
        return await self._users.has_link(digest(secret), purpose=purpose, now_us=self._clock.now_us())

    async def confirm_by_browser(self, secret: str, *, browser_secret: str, agent: Agent) -> NewSession | None:
        """Confirm an address in the browser whose sign-up created the link, and sign in.

        None if the link is invalid or belongs to the sign-up of another browser, whose user has to enter the password.
        """
        if len(browser_secret) > SECRET_CHARACTERS_MAX:
            return None
        user = await self._users.verify(
            digest(secret),
            now_us=self._clock.now_us(),
            may_open=self._registration.may_open(LinkPurpose.VERIFY),
            browser_digest=digest(browser_secret),
            welcome=self._welcome,
        )
        return None if user is None else await self.begin_session(user, agent=agent)

    async def confirm_by_password(self, secret: str, *, password: str, agent: Agent) -> NewSession | None:
        """Confirm an address with its emailed link and the password, and sign in. None if the link is invalid.

        Other browsers than that of the sign-up use this. The password is required because an attacker may have signed
        up with another person's address. If the link alone were enough, its owner would open an account that the
        attacker can sign in to. Raises `FormError`.
        """
        now_us = self._clock.now_us()
        user = await self._users.find_by_link(digest(secret), purpose=LinkPurpose.VERIFY, now_us=now_us)
        if user is None:
            return None
        self._require_open(user, LinkPurpose.VERIFY, field="password")
        check_too_long(password)
        counted = await count_attempt(self._attempts, self._clock, AttemptKind.CONFIRMATION, user.id, field="password")
        if not await self._passwords.matches(password, user.password_hash):
            raise FormError("Incorrect password. Try again, or sign up again.", field="password")
        await self._attempts.take_back(counted)
        may_open = self._registration.may_open(LinkPurpose.VERIFY)
        user = await self._users.verify(digest(secret), now_us=now_us, may_open=may_open, welcome=self._welcome)
        return None if user is None else await self.begin_session(user, agent=agent)

    async def sign_in(self, *, email: str, password: str, limit_key: str, agent: Agent) -> NewSession:
        """Begin a session. Raises the same `FormError`, after the same time, for a wrong address and a wrong password.

        Attempts count per client, and per pair of client and email address, so an attacker can't lock out an owner
        who uses another client. They count before the user is looked up.
        """
        email = clean_email(email)
        check_too_long(password)
        self._count_sign_in(limit_key=limit_key, email=email)
        user = await self._users.find(email)
        password_hash = None if user is None else user.password_hash
        if not await self._passwords.matches(password, password_hash):
            raise FormError("Incorrect email or password.", field="password")
        assert user is not None
        self._failures.take_back((limit_key, email))
        self._by_client.take_back(limit_key)
        if user.closed_at_us is not None:
            raise FormError("This account is closed. Contact support for help.", field="email")
        if user.account_id is None:
            self._require_open(user, LinkPurpose.VERIFY, field="email")
            await self._links.send(user, LinkPurpose.VERIFY, emails.VERIFY)
            source = "We sent you a new link." if self._sends_email else "Contact support to get the link."
            raise FormError(f"Confirm your email first. {source}", field="email")
        return await self.begin_session(user, agent=agent)

    async def submit_code(self, secret: str | None, *, code: str, agent: Agent) -> NewSession | None:
        """Complete a sign-in with a code of two-factor authentication, in a new session. None if no session waits.

        Raises `FormError` if the code is wrong.
        """
        user = await self.find_waiting_user(secret)
        if secret is None or user is None or user.totp_secret is None:
            return None
        counted = await count_attempt(self._attempts, self._clock, AttemptKind.TWO_FACTOR, user.id, field="code")
        if not await self._two_factor.use_code(code, user_id=user.id, totp_secret=user.totp_secret):
            raise FormError("This code is incorrect or was already used. Try the next one.", field="code")
        await self._attempts.take_back(counted)
        return await self.begin_session(user, agent=agent, two_factor_passed=True, replaces=digest(secret))

    async def find_session(self, secret: str | None) -> Session | None:
        """Return the active session of a cookie's secret, or None."""
        if not secret or len(secret) > SECRET_CHARACTERS_MAX:
            return None
        return await self._sessions.find(digest(secret), now_us=self._clock.now_us())

    async def find_waiting_user(self, secret: str | None) -> User | None:
        """Return the user of the cookie's session. None unless it waits for two-factor authentication."""
        if not secret or len(secret) > SECRET_CHARACTERS_MAX:
            return None
        return await self._sessions.find_waiting_user(digest(secret), now_us=self._clock.now_us())

    async def sign_out(self, session: Session, *, everywhere: bool) -> None:
        """End this session, or all sessions of its user."""
        if everywhere:
            await self._sessions.end_all(session.user_id)
        else:
            await self._sessions.end(session.digest)

    async def end_session(self, session: Session, session_id: str) -> bool:
        """End a session of the user by the id in the list of sessions. Returns False if there is none."""
        return await self._sessions.end_by_id(session.user_id, session_id)

    async def sign_out_elsewhere(self, session: Session) -> None:
        """End every other session of the user."""
        await self._sessions.end_all(session.user_id, except_digest=session.digest)

    async def request_reset(self, email: str, *, limit_key: str) -> str:
        """Email a link for a new password if the address has an account. Return the address. Raises `FormError`."""
        email = clean_email(email)
        if seconds := self._resets.count_attempt(limit_key):
            raise too_many_attempts(seconds, field="email")
        self._links.in_background(self._email_reset_link(email))
        return email

    async def choose_password(
        self, secret: str, *, purpose: LinkPurpose, password: str, agent: Agent, time_zone: str = ""
    ) -> NewSession | None:
        """Set the password that the user chose through an emailed link, and sign in. None if the link is invalid.

        An invited user also gets the `time_zone`. Raises `FormError`.
        """
        user = await self._users.find_by_link(digest(secret), purpose=purpose, now_us=self._clock.now_us())
        if user is None:
            return None
        self._require_open(user, purpose, field="password")
        check_length(password)
        if seconds := self._choices.count_attempt(user.id):
            raise too_many_attempts(seconds, field="password")
        password_hash = await hash_new_password(self._passwords, password, email=user.email)
        user = await self._users.choose_password(
            digest(secret),
            purpose=purpose,
            password_hash=password_hash,
            now_us=self._clock.now_us(),
            may_open=self._registration.may_open(purpose),
            welcome=self._welcome,
        )
        if user is None:
            return None
        if purpose is LinkPurpose.INVITE:
            await self._set_time_zone(user, time_zone)
        return await self.begin_session(user, agent=agent)

    async def invite(self, email: str) -> str:
        """Email an invitation, and return its link.

        Raises `AlreadyExists` if the user has an account, `LimitReached` if the user got too many emails recently, and
        `OperatorError` for an invalid address or where registration is closed.
        """
        if not self._registration.may_open(LinkPurpose.INVITE):
            raise OperatorError('accounts.registration is "closed": set it to "invite" or "open" first.')
        email = parse_email(email)
        user = await self._users.register(email=email, password_hash="", now_us=self._clock.now_us())
        if user.account_id:
            raise AlreadyExists(f"{email} can already sign in and needs no invitation.")
        link = await self._links.send(user, LinkPurpose.INVITE, emails.INVITE)
        if link is None:
            raise LimitReached(f"We sent {EMAILS_MAX} emails to {email} in the last hour. Try again later.")
        return link

    async def recover(self, email: str) -> str:
        """Turn off two-factor authentication, remove the passkeys, and return a link for a new password.

        Raises `NotFound` if there is no such user, and `OperatorError` for an invalid address.
        """
        email = parse_email(email)
        user = await self._users.find(email)
        if user is None:
            raise NotFound(f"{email} can't sign in yet. Invite the user: tok0n accounts invite {email}")
        await self._users.delete_factors(user.id)
        return await self._links.create_url(user.id, LinkPurpose.RESET)

    async def create_set_up_url(self) -> str | None:
        """Return a link to set up the operator's account, for the console. None if the operator has an account."""
        if await self._users.has_operator():
            return None
        return await self._links.create_url(None, LinkPurpose.SET_UP)

    async def set_up(
        self, secret: str, *, email: str, password: str, agent: Agent, time_zone: str = ""
    ) -> NewSession | None:
        """Create the operator's account, and sign in. None if the link is invalid. Raises `FormError`."""
        email = clean_email(email)
        link = digest(secret)
        if not await self._users.has_link(link, purpose=LinkPurpose.SET_UP, now_us=self._clock.now_us()):
            return None
        check_length(password)
        if seconds := self._choices.count_attempt(link):
            raise too_many_attempts(seconds, field="password")
        password_hash = await hash_new_password(self._passwords, password, email=email)
        user = await self._users.set_up(
            digest(secret), email=email, password_hash=password_hash, now_us=self._clock.now_us()
        )
        if user is None:
            return None
        await self._set_time_zone(user, time_zone)
        return await self.begin_session(user, agent=agent)

    async def delete_expired(self) -> None:
        """Delete expired sessions, links, attempt counts and unconfirmed sign-ups."""
        now_us = self._clock.now_us()
        await self._sessions.delete_ended(now_us=now_us)
        await self._users.delete_stale(now_us=now_us, rows_max=DELETED_ROWS_MAX)
        while await self._attempts.delete_expired(now_us=now_us, rows_max=DELETED_ROWS_MAX) == DELETED_ROWS_MAX:
            pass  # anyone can add these rows, so delete all expired ones, in short transactions

    async def wait_until_idle(self) -> None:
        """Wait until all background tasks have finished."""
        await self._links.wait_until_idle()

    async def begin_session(
        self, user: User, *, agent: Agent, two_factor_passed: bool = False, replaces: bytes | None = None
    ) -> NewSession:
        """Begin a session. It waits for two-factor authentication if that is on, unless `two_factor_passed`.

        A session in an unknown device that doesn't wait tells the owner, unless it is the user's first device.
        Raises `CredentialsChanged` if the credentials have changed since `user` was read.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        awaits_two_factor = user.totp_secret is not None and not two_factor_passed
        is_device = len(agent.device) == len(secret)
        device = agent.device if is_device else secrets.token_urlsafe(SECRET_BYTES)
        await self._sessions.begin(
            user=user,
            digest=digest(secret),
            agent=agent.user_agent[:AGENT_CHARACTERS_MAX],
            network=agent.network,
            device=digest(device),
            now_us=self._clock.now_us(),
            awaits_two_factor=awaits_two_factor,
            replaces=replaces,
        )
        return NewSession(secret=secret, awaits_two_factor=awaits_two_factor, device=device)

    async def _set_time_zone(self, user: User, time_zone: str) -> None:
        """Set the time zone that the browser of a new user reports, if it does."""
        time_zone = known_time_zone(time_zone)
        if time_zone != UTC:
            await self._users.set_time_zone(user_id=user.id, time_zone=time_zone)

    def _count_sign_in(self, *, limit_key: str, email: str) -> None:
        """Count an attempt to sign in. Raises `FormError`. Synchronous, so that a burst can't exceed the limits."""
        pair = (limit_key, email)
        if seconds := self._failures.count_attempt(pair):
            raise too_many_attempts(seconds, field="password")
        if seconds := self._by_client.count_attempt(limit_key):
            self._failures.take_back(pair)
            raise too_many_attempts(seconds, field="password")

    async def _email_reset_link(self, email: str) -> None:
        user = await self._users.find(email)
        if user is None or user.closed_at_us is not None:
            return
        if user.account_id is not None or self._registration.may_open(LinkPurpose.RESET):
            await self._links.send(user, LinkPurpose.RESET, emails.RESET)

    def _require_open(self, user: User, purpose: LinkPurpose, *, field: str) -> None:
        """Raise `FormError` if this link would open an account, and the registration mode doesn't allow that."""
        if user.account_id is None and not self._registration.may_open(purpose):
            raise FormError(NOT_OPEN, field=field)
