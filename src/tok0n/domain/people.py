"""Who signs in, and for how long. Holds no password and no session id: those are known by their digests."""

import hashlib
from enum import StrEnum

import msgspec

PASSWORD_CHARACTERS_MIN = 10
PASSWORD_CHARACTERS_MAX = 200
SESSION_IDLE_US = 7 * 86_400_000_000
SESSION_LIFE_US = 30 * 86_400_000_000
"""A session ends a week after it was last used, and a month after it began (OWASP, session management)."""

LINK_LIFE_US = 86_400_000_000
"""A mailed link works for a day, and once."""

SECRET_BYTES = 32


class LinkPurpose(StrEnum):
    """What a mailed link is for."""

    VERIFY = "verify"
    RESET = "reset"


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who signs in. There is an account once the e-mail address is verified."""

    id: str
    account_id: str | None
    email: str
    password_hash: str
    verified_at_us: int | None


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A person's session, and the account that it may see."""

    digest: bytes
    person_id: str
    email: str
    account_id: str


def digest(secret: str) -> bytes:
    """How a session id or a mailed secret is stored."""
    return hashlib.sha256(secret.encode()).digest()
