"""Users, their sessions, passkeys and passwords. Secrets are passed as digests."""

from typing import Protocol

from tok0n.domain.users import UTC, Hint, LinkPurpose, Passkey, Session, SessionRecord, SignUpLink, User, Welcome


class Users(Protocol):
    """Users, and the links that were emailed to them. Secrets are passed as digests.

    A change of credentials (password, email address, TOTP secret, recovery codes, passkeys) also ends every outstanding
    link and every other session of the user, and stores a notice for the owner, in the same transaction.
    """

    async def find(self, email: str) -> User | None:
        """Return the user of an email address, or None."""

    async def get(self, user_id: str) -> User:
        """Return a user. Raises `NotFound`."""

    async def has_operator(self) -> bool:
        """Whether the operator has set up an account."""

    async def register(
        self, *, email: str, password_hash: str, now_us: int, link: SignUpLink | None = None, time_zone: str = UTC
    ) -> User:
        """Create an unverified user, or set the password of an existing unverified one. Returns the user.

        Stores the `link` that verifies the user in the same transaction, so a link always belongs to the password of
        its sign-up. Doesn't change a verified user, and stores no link for one.
        """

    async def create_link(
        self,
        *,
        user_id: str | None,
        purpose: LinkPurpose,
        digest: bytes,
        expires_at_us: int,
        email: str | None,
        session_digest: bytes | None = None,
    ) -> None:
        """Store a link, and remove the user's earlier links for the same purpose.

        Raises `CredentialsChanged` if the session has ended, and `NotFound` if the user doesn't exist.
        """

    async def find_by_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> User | None:
        """Return the user of a link, without consuming it. None if the link is invalid."""

    async def has_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        """Whether a link, with or without a user, is valid. Doesn't consume it."""

    async def use_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        """Consume a link. Returns False if it is invalid."""

    async def verify(
        self,
        digest: bytes,
        *,
        now_us: int,
        may_open: bool,
        browser_digest: bytes | None = None,
        welcome: Welcome | None = None,
    ) -> User | None:
        """Consume a link, verify its user, and open the user's account. Returns None if the link is invalid.

        Without `may_open`, the link of a user without an account is invalid. With a `browser_digest`, the link of
        another browser is invalid, and isn't consumed. A new account gets the `welcome` tokens, unless its email
        address has got some before or the day's limit is reached.
        """

    async def choose_password(
        self,
        digest: bytes,
        *,
        purpose: LinkPurpose,
        password_hash: str,
        now_us: int,
        may_open: bool,
        welcome: Welcome | None = None,
    ) -> User | None:
        """Consume a link, set its user's password, and verify the user. Returns None as `verify` does."""

    async def set_up(self, digest: bytes, *, email: str, password_hash: str, now_us: int) -> User | None:
        """Consume a set-up link, and create the operator's user and account.

        Returns None if the link is invalid or an operator exists.
        """

    async def change_email(self, digest: bytes, *, now_us: int, keep_session: bytes | None) -> User | None:
        """Consume a link, and change the email address of its user and account to the link's.

        Returns None if the link is invalid or another user or account has the address.
        """

    async def change_password(self, *, user_id: str, password_hash: str, session_digest: bytes, now_us: int) -> None:
        """Set the user's password. Raises `CredentialsChanged` if the session has ended."""

    async def set_time_zone(self, *, user_id: str, time_zone: str) -> None:
        """Set the time zone in which pages show times to the user."""

    async def dismiss_hint(self, hint: Hint, *, user_id: str) -> None:
        """Remember that the user has dismissed a hint."""

    async def dismissed_hints(self, user_id: str) -> set[Hint]:
        """Return the hints that the user has dismissed."""

    async def set_totp(
        self,
        *,
        user_id: str,
        secret: str | None,
        step: int,
        recovery_codes: list[bytes],
        session_digest: bytes,
        now_us: int,
    ) -> None:
        """Set the TOTP secret and the recovery codes, or remove them if `secret` is None.

        Codes up to the time step `step` count as used. Raises `AlreadyExists` if the user has a TOTP secret, and
        `CredentialsChanged` if the session has ended.
        """

    async def use_totp_step(self, *, user_id: str, step: int) -> bool:
        """Mark a time step's code as used. Returns False if this or a later step was used before."""

    async def use_recovery_code(self, *, user_id: str, digest: bytes) -> bool:
        """Consume a recovery code. Returns False if the user has no such code."""

    async def recovery_codes_left(self, user_id: str) -> int:
        """Return the number of unused recovery codes."""

    async def delete_factors(self, user_id: str) -> None:
        """Remove the user's TOTP secret, recovery codes and passkeys."""

    async def delete_stale(self, *, now_us: int, rows_max: int) -> int:
        """Remove expired links, and at most `rows_max` unverified users without links. Returns how many rows."""

    async def close_account(self, *, user_id: str, now_us: int) -> None:
        """Close the user's account, revoke its API keys, and end every session. Doesn't change the ledger."""


class Sessions(Protocol):
    """The sessions of users. Secrets are passed as digests."""

    async def begin(
        self,
        *,
        user: User,
        digest: bytes,
        agent: str,
        now_us: int,
        awaits_two_factor: bool,
        replaces: bytes | None = None,
        network: str = "",
        device: bytes | None = None,
    ) -> None:
        """Store a session, which isn't active while it `awaits_two_factor`.

        The `device` of an active session becomes a known device of the user. A session in an unknown one stores a
        notice, unless the user had no known device.

        `replaces` is the digest of the waiting session to end. Raises `CredentialsChanged` if that has already ended,
        or if the credentials have changed since `user` was read, because the password check is then out of date.
        """

    async def find(self, digest: bytes, *, now_us: int) -> Session | None:
        """Return an active session. None if it has ended or waits, or if the account is closed."""

    async def find_waiting_user(self, digest: bytes, *, now_us: int) -> User | None:
        """Return the user of a session that waits for two-factor authentication. None if it has expired."""

    async def list_for_user(self, user_id: str, *, now_us: int) -> list[SessionRecord]:
        """Return the user's active sessions, the most recently used first."""

    async def end(self, digest: bytes) -> None:
        """End a session."""

    async def end_by_id(self, user_id: str, session_id: str) -> bool:
        """End the user's session with this `SessionRecord.id`. Returns False if there is none."""

    async def end_all(self, user_id: str, *, except_digest: bytes | None = None) -> None:
        """End all sessions of the user, except the one with the digest `except_digest`."""

    async def delete_ended(self, *, now_us: int) -> None:
        """Remove expired sessions."""


class Passkeys(Protocol):
    """The public keys of users' passkeys."""

    async def add(self, passkey: Passkey, *, passkeys_max: int, session_digest: bytes) -> None:
        """Store a passkey.

        Raises `AlreadyExists`, `LimitReached` if the user has `passkeys_max`, or `CredentialsChanged` if the session
        has ended.
        """

    async def list_for_user(self, user_id: str) -> list[Passkey]:
        """Return the user's passkeys, oldest first."""

    async def find(self, credential_id: bytes) -> tuple[Passkey, User] | None:
        """Return a passkey and its user, or None."""

    async def record_use(self, credential_id: bytes, *, sign_count: int, now_us: int) -> None:
        """Store a passkey's new sign count, and the time of its last use."""

    async def remove(self, *, user_id: str, credential_id: bytes, session_digest: bytes) -> None:
        """Remove a passkey of the user. Raises `CredentialsChanged` if the session has ended."""


class Authenticator(Protocol):
    """The server's side of W3C Web Authentication, level 3. Options and the browser's responses are JSON text."""

    def creation_options(self, *, user_id: str, email: str, existing_ids: list[bytes]) -> tuple[str, bytes]:
        """Return the options for creating a passkey, and their challenge. The user has the passkeys `existing_ids`."""

    def sign_in_options(self) -> tuple[str, bytes]:
        """Return the options for signing in with a passkey, and their challenge."""

    def read_response(self, credential: str) -> tuple[bytes, bytes]:
        """Return the credential id and the challenge of a browser's response, unverified. Raises `PasskeyInvalid`."""

    def verify_creation(self, credential: str, *, challenge: bytes) -> tuple[bytes, bytes, int]:
        """Verify the response to `creation_options`. Returns id, public key and sign count. Raises `PasskeyInvalid`."""

    def verify_assertion(self, credential: str, *, challenge: bytes, passkey: Passkey) -> int:
        """Verify the response to `sign_in_options`. Returns the new sign count. Raises `PasskeyInvalid`."""


class Passwords(Protocol):
    """Slow password functions, on their own bounded queue. All raise `Overloaded`."""

    async def hash(self, password: str) -> str:
        """Hash a password for storage."""

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether `password` has this hash. None and "" match no password, but take the same time."""

    async def guesses(self, password: str, *, known_words: list[str]) -> int:
        """Estimate the guesses of an attacker who tries likely passwords first and knows the `known_words`."""
