"""Limits on guesses of passwords and codes. Keeps no counts.

Callers count an attempt before they check it, so a burst of concurrent attempts can't exceed the limit.
"""

import hashlib
from enum import StrEnum

import msgspec


class AttemptKind(StrEnum):
    """The kind of secret that an attempt guesses. Each kind has its own count and limit."""

    TWO_FACTOR = "second_factor"
    """A TOTP or recovery code. The subject is the user."""

    CONFIRMATION = "confirmation"
    """A password that confirms an action or an email address. The subject is the user."""

    REDEEM_CODE = "redeem_code"
    """The subject is the account."""

    EXPORT = "export"
    """An export of all data of an account, the subject. It guesses nothing, but reads everything."""

    PASSKEY = "passkey"
    """A sign-in with a passkey. The subject is the client IP, because the user is not known yet."""


class AttemptLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Allows `attempts_max` attempts. The count resets after `quiet_us` microseconds without an attempt."""

    attempts_max: int
    quiet_us: int


QUIET_US = 900_000_000

LIMITS = {
    AttemptKind.TWO_FACTOR: AttemptLimit(attempts_max=6, quiet_us=QUIET_US),
    AttemptKind.CONFIRMATION: AttemptLimit(attempts_max=10, quiet_us=QUIET_US),
    AttemptKind.REDEEM_CODE: AttemptLimit(attempts_max=10, quiet_us=QUIET_US),
    AttemptKind.EXPORT: AttemptLimit(attempts_max=5, quiet_us=4 * QUIET_US),
    AttemptKind.PASSKEY: AttemptLimit(attempts_max=30, quiet_us=QUIET_US),
}


class CountedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A counted attempt. `since_us` is the time of the first attempt in the same count."""

    kind: AttemptKind
    subject: bytes
    since_us: int


class TooMany(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected attempt. The caller must not check it. The next attempt is allowed in `wait_us` microseconds."""

    wait_us: int


def subject_digest(subject: str) -> bytes:
    """Hash a subject, because the database must not store client IPs."""
    return hashlib.sha256(subject.encode(errors="surrogatepass")).digest()
