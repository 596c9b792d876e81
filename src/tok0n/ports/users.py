"""Users, their sessions, passkeys and passwords. Secrets are passed as digests."""

from typing import Protocol

from tok0n.domain.users import LinkPurpose, Passkey, Session, SessionRecord, User


class Users(Protocol):
    """Who may sign in, and the links that were mailed to them. Secrets come in as digests.

    A change of credentials (password, email address, second factor, recovery codes, passkeys) ends every outstanding
    link and every other session of the user in the same transaction.
    """

    async def find(self, email: str) -> User | None:
        """The user of this e-mail address."""

    async def get(self, user_id: str) -> User:
        """The user of this id. Raises `NotFound`."""

    async def has_operator(self) -> bool:
        """Whether the operator has set up an account."""

    async def register(self, *, email: str, password_hash: str, now_us: int) -> User:
        """A user who is not verified yet. Of one who is, nothing changes; else the new password counts."""

    async def create_link(
        self,
        *,
        user_id: str | None,
        purpose: LinkPurpose,
        digest: bytes,
        expires_at_us: int,
        email: str | None,
        made_in: bytes | None = None,
    ) -> None:
        """Store a link. An earlier one of this user for the same purpose stops working; links without a user stay.

        Raises `CredentialsChanged` if the session `made_in` has ended, and `NotFound` without such a user.
        """

    async def find_by_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> User | None:
        """Whose link it is, if it works; it goes on working."""

    async def has_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        """Whether a link works, also one that belongs to nobody yet; it goes on working."""

    async def use_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        """Use a link up. False when it does not work."""

    async def verify(self, digest: bytes, *, now_us: int, may_open: bool) -> User | None:
        """Use a link up: its user is verified, and has the account of that address. None if it does not work.

        Without `may_open`, a link does not work for a user who has no account yet.
        """

    async def choose_password(
        self, digest: bytes, *, purpose: LinkPurpose, password_hash: str, now_us: int, may_open: bool
    ) -> User | None:
        """Use a link up: the new password counts, and the address is proven. None and `may_open` as above."""

    async def set_up(self, digest: bytes, *, email: str, password_hash: str, now_us: int) -> User | None:
        """Use a set-up link up: the operator, with an account. None as above, or when there is an operator already."""

    async def change_email(self, digest: bytes, *, now_us: int, keep_session: bytes | None) -> User | None:
        """Use a link up: user and account have the address it was mailed to. None as above, or when that is taken."""

    async def change_password(self, *, user_id: str, password_hash: str, made_in: bytes) -> None:
        """The new password counts. Raises `CredentialsChanged` if the session `made_in` has ended."""

    async def set_time_zone(self, *, user_id: str, time_zone: str) -> None:
        """Remember in which zone this user reads times."""

    async def set_totp(
        self, *, user_id: str, secret: str | None, step: int, recovery_codes: list[bytes], made_in: bytes
    ) -> None:
        """Take a second factor on, used up to the time step `step`, with its recovery codes; None takes it away.

        Raises `AlreadyExists` when one is on already, and `CredentialsChanged` if the session `made_in` has ended.
        """

    async def use_totp_step(self, *, user_id: str, step: int) -> bool:
        """Use the code of a time step up. False when it, or a later one, was used before."""

    async def use_recovery_code(self, *, user_id: str, digest: bytes) -> bool:
        """Use a recovery code up. False when it is none, or was used before."""

    async def recovery_codes_left(self, user_id: str) -> int:
        """How many recovery codes are unused."""

    async def forget_factors(self, user_id: str) -> None:
        """Remove the second factor, the recovery codes and the passkeys."""

    async def forget_stale(self, *, now_us: int, rows_max: int) -> int:
        """Remove links whose time is over, and users who never confirmed and have no link; gives how many rows."""

    async def close_account(self, *, user_id: str, now_us: int) -> None:
        """Close the user's account: its keys are revoked and every session ends. Its ledger stays as it is."""


class Sessions(Protocol):
    """Where users are signed in. The secrets come in as digests."""

    async def begin(
        self, *, user: User, digest: bytes, agent: str, now_us: int, waits: bool, replaces: bytes | None = None
    ) -> None:
        """Store a session. If it `waits`, the user gave the password but not yet the second factor.

        It `replaces` a session that waited. Raises `CredentialsChanged` if that has ended, or if the credentials have
        changed since `user` was read: a password that was right then proves nothing now.
        """

    async def find(self, digest: bytes, *, now_us: int) -> Session | None:
        """Who is signed in by this session, if it has not ended, waits for nothing, and the account is open."""

    async def waiting(self, digest: bytes, *, now_us: int) -> User | None:
        """Whose second factor this session waits for, if it does not wait too long already."""

    async def of(self, user_id: str, *, now_us: int) -> list[SessionRecord]:
        """Where a user is signed in, the latest used first."""

    async def end(self, digest: bytes) -> None:
        """Sign out here."""

    async def end_all(self, user_id: str, *, but: bytes | None = None) -> None:
        """Sign out everywhere, or everywhere else."""

    async def forget_ended(self, *, now_us: int) -> None:
        """Remove the sessions whose time is over."""


class Passkeys(Protocol):
    """The public halves of users' passkeys."""

    async def add(self, passkey: Passkey, *, passkeys_max: int, made_in: bytes) -> None:
        """Remember one. Raises `AlreadyExists`, `LimitReached`, or `CredentialsChanged` if `made_in` has ended."""

    async def of(self, user_id: str) -> list[Passkey]:
        """A user's passkeys, oldest first."""

    async def find(self, credential_id: bytes) -> tuple[Passkey, User] | None:
        """A passkey, and whose it is."""

    async def used(self, credential_id: bytes, *, sign_count: int, now_us: int) -> None:
        """Remember when it was used, and how often it has signed."""

    async def remove(self, *, user_id: str, credential_id: bytes, made_in: bytes) -> None:
        """Forget one of this user's. Raises `CredentialsChanged` if the session `made_in` has ended."""


class Authenticator(Protocol):
    """The protocol that browsers speak with passkeys (W3C Web Authentication, level 3). What they send is JSON text."""

    def creation_options(self, *, user_id: str, email: str, known: list[bytes]) -> tuple[str, bytes]:
        """What a browser needs to make a passkey, and the challenge in it. `known` are the user's other ones."""

    def request_options(self) -> tuple[str, bytes]:
        """What a browser needs to use a passkey, and the challenge in it."""

    def read(self, credential: str) -> tuple[bytes, bytes]:
        """The id and the challenge in what a browser sent. Raises `PasskeyInvalid`; nothing of it is proven yet."""

    def created(self, credential: str, *, challenge: bytes) -> tuple[bytes, bytes, int]:
        """The id, public key and count of a passkey that was made for this challenge. Raises `PasskeyInvalid`."""

    def used(self, credential: str, *, challenge: bytes, passkey: Passkey) -> int:
        """The count of a passkey that has signed this challenge, its user verified. Raises `PasskeyInvalid`."""


class Passwords(Protocol):
    """Hashes and judges passwords, slowly, on a bounded queue that serves no page. All raise `Overloaded`."""

    async def hash(self, password: str) -> str:
        """What to store."""

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password. Takes as long for None and for "", which no password matches."""

    async def guesses(self, password: str, *, known: list[str]) -> int:
        """Estimate how many guesses a user needs who tries likely passwords first, and knows the words `known`."""
