"""Who signs in, and for how long. Holds no password and no session id: those are known by their digests."""

import hashlib
from enum import StrEnum

import msgspec

from tok0n.domain.ledger import MICROSECONDS_PER_DAY

PASSWORD_CHARACTERS_MIN = 10
PASSWORD_CHARACTERS_MAX = 200
SESSION_IDLE_US = 7 * MICROSECONDS_PER_DAY
SESSION_LIFE_US = 30 * MICROSECONDS_PER_DAY
"""A session ends a week after it was last used, and a month after it began (OWASP, session management)."""

SECOND_FACTOR_LIFE_US = 600_000_000
"""How long a sign-in waits for its second factor."""

LINK_LIFE_US = MICROSECONDS_PER_DAY
"""A mailed link works for a day, and once."""

PASSKEY_LIFE_US = 300_000_000
"""How long a user has to use a passkey after asking for the challenge."""

INVITATION_LIFE_US = 7 * LINK_LIFE_US
SECRET_BYTES = 32
RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 8
UTC = "UTC"


class LinkPurpose(StrEnum):
    """What a link is for. One to set up the operator's account belongs to nobody yet.

    The challenge that a passkey signs is kept like a link: it works once, and not for long.
    """

    VERIFY = "verify"
    RESET = "reset"
    INVITE = "invite"
    EMAIL = "email"
    SET_UP = "set_up"
    PASSKEY = "passkey"


class Registration(StrEnum):
    """Who may sign up."""

    OPEN = "open"
    INVITE = "invite"
    CLOSED = "closed"

    def may_open(self, purpose: LinkPurpose) -> bool:
        """Whether a link of this purpose may open an account now. The operator's own account is always allowed."""
        return purpose in _OPENED_BY[self]


_OPENED_BY = {
    Registration.OPEN: {LinkPurpose.VERIFY, LinkPurpose.RESET, LinkPurpose.INVITE, LinkPurpose.SET_UP},
    Registration.INVITE: {LinkPurpose.INVITE, LinkPurpose.SET_UP},
    Registration.CLOSED: {LinkPurpose.SET_UP},
}


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A human who signs in. The account exists once the email address is verified.

    `password_hash` is empty until an invited user chooses a password. `totp_secret` is base32, as
    authenticator apps take it; None without a second factor. `credential_changes` counts the changes of credentials.
    """

    id: str
    account_id: str | None
    email: str
    password_hash: str
    verified_at_us: int | None
    time_zone: str
    is_operator: bool
    totp_secret: str | None
    closed_at_us: int | None
    credential_changes: int


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """A key pair on a device of a user, of which we have the public half. `sign_count` never falls."""

    credential_id: bytes
    user_id: str
    public_key: bytes
    sign_count: int
    name: str
    created_at_us: int
    last_used_at_us: int | None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A user's session, and the account that it may see."""

    digest: bytes
    user_id: str
    email: str
    account_id: str
    time_zone: str
    is_operator: bool


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One of a user's sessions, as the user is shown it."""

    digest: bytes
    agent: str
    created_at_us: int
    seen_at_us: int


class LowBalance(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose balance fell below its owner's threshold. Amounts are tokens."""

    email: str
    threshold_tokens: int
    posted: int


def digest(secret: str) -> bytes:
    """How a session id, a mailed secret or a recovery code is stored."""
    return hashlib.sha256(secret.encode()).digest()
