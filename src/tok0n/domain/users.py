"""Users, sessions, links and passkeys, and their lifetimes. Session ids and links are stored as digests only."""

import hashlib
from enum import StrEnum

import msgspec

from tok0n.domain.ledger import MICROSECONDS_PER_DAY

PASSWORD_CHARACTERS_MIN = 10
PASSWORD_CHARACTERS_MAX = 200
SESSION_IDLE_US = 7 * MICROSECONDS_PER_DAY
SESSION_LIFETIME_US = 30 * MICROSECONDS_PER_DAY
"""A session ends 7 days after its last use, and at most 30 days after sign-in (OWASP, session management)."""

TWO_FACTOR_LIFETIME_US = 600_000_000
"""After the password, a user has 10 minutes to complete two-factor authentication."""

LINK_LIFETIME_US = MICROSECONDS_PER_DAY
"""An emailed link expires after a day. It works once."""

PASSKEY_LIFETIME_US = 300_000_000
"""A passkey challenge expires after 5 minutes."""

INVITATION_LIFETIME_US = 7 * LINK_LIFETIME_US
SECRET_BYTES = 32
DEVICE_LIFETIME_US = 400 * MICROSECONDS_PER_DAY
"""Browsers keep the cookie of a known device for at most 400 days (RFC 6265bis)."""

DEVICES_MAX = 20
"""The most known devices of a user. Another one replaces the one used longest ago."""

RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 8
UTC = "UTC"


class LinkPurpose(StrEnum):
    """The purpose of a link. `SET_UP` creates the operator's account, so its link has no user.

    A passkey challenge is stored as a link too, because it also works once and expires.
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
        """Whether a link of this purpose may open an account. The operator can always set up an account."""
        return purpose in _OPENED_BY[self]


_OPENED_BY = {
    Registration.OPEN: {LinkPurpose.VERIFY, LinkPurpose.RESET, LinkPurpose.INVITE, LinkPurpose.SET_UP},
    Registration.INVITE: {LinkPurpose.INVITE, LinkPurpose.SET_UP},
    Registration.CLOSED: {LinkPurpose.SET_UP},
}


class Hint(StrEnum):
    """A hint on the overview that a user can dismiss."""

    CHECKLIST = "checklist"
    TIME_ZONE = "time_zone"


class SignUpLink(msgspec.Struct, frozen=True, kw_only=True):
    """The link that confirms a sign-up, and the browser that signed up, which may use it without the password.

    Both are the digests of secrets: one is in the link, one in the browser's cookie.
    """

    digest: bytes
    browser_digest: bytes
    expires_at_us: int


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of the standard class that a new account gets, at most `grants_per_day` times on a UTC day."""

    tokens: int
    grants_per_day: int


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A human who signs in. `account_id` is None until the email address is verified.

    `password_hash` is empty until an invited user chooses a password. `totp_secret` is base32, or None without
    two-factor authentication. `credential_changes` counts the changes of credentials.
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
    """The public key of a user's passkey. `sign_count` never decreases."""

    credential_id: bytes
    user_id: str
    public_key: bytes
    sign_count: int
    name: str
    created_at_us: int
    last_used_at_us: int | None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A user's session, and the account that it gives access to. The pages of a suspended account are read-only."""

    digest: bytes
    user_id: str
    email: str
    account_id: str
    time_zone: str
    is_operator: bool
    is_suspended: bool = False


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """The browser that a request comes from: its `User-Agent` header, IP network, and the secret of its device cookie.

    All of it comes from the browser, and may be empty.
    """

    user_agent: str = ""
    network: str = ""
    device: str = ""


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session in the user's list of sessions. `network` is the IP network of the sign-in."""

    digest: bytes
    agent: str
    network: str
    created_at_us: int
    seen_at_us: int

    @property
    def id(self) -> str:
        """An id that pages may contain. It reveals neither the session's secret nor its digest."""
        return session_id_of(self.digest)


def session_id_of(session_digest: bytes) -> str:
    """Return the id of a session for pages."""
    return hashlib.sha256(b"tok0n session id:" + session_digest).hexdigest()[:16]


def digest(secret: str) -> bytes:
    """Return the SHA-256 digest under which a session id, an emailed secret or a recovery code is stored."""
    return hashlib.sha256(secret.encode()).digest()
