"""How often a secret may be tried. Knows no clock and keeps no count.

The count goes up before the attempt is evaluated, so a burst of attempts gets no further than a sequence of them.
"""

import hashlib
from enum import StrEnum

import msgspec


class AttemptKind(StrEnum):
    """What an attempt tries to prove. Each kind counts on its own."""

    SECOND_FACTOR = "second_factor"
    """A TOTP or recovery code. The subject is the user."""

    CONFIRMATION = "confirmation"
    """A password that a page asks for again, or that confirms an email address. The subject is the user."""

    REDEEM_CODE = "redeem_code"
    """The subject is the account."""

    PASSKEY = "passkey"
    """A sign-in with a passkey. The subject is the client's address, because the user is not known yet."""


class AttemptLimit(msgspec.Struct, frozen=True, kw_only=True):
    """At most `attempts_max` attempts, until `quiet_us` microseconds pass without one."""

    attempts_max: int
    quiet_us: int


QUIET_US = 900_000_000

LIMITS = {
    AttemptKind.SECOND_FACTOR: AttemptLimit(attempts_max=6, quiet_us=QUIET_US),
    AttemptKind.CONFIRMATION: AttemptLimit(attempts_max=10, quiet_us=QUIET_US),
    AttemptKind.REDEEM_CODE: AttemptLimit(attempts_max=10, quiet_us=QUIET_US),
    AttemptKind.PASSKEY: AttemptLimit(attempts_max=30, quiet_us=QUIET_US),
}


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """One counted attempt. `since_us` is the time of the first attempt that counts together with it."""

    kind: AttemptKind
    subject: bytes
    since_us: int


class TooMany(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt was not counted and must not be evaluated. The next one counts in `wait_us` microseconds."""

    wait_us: int


def subject_digest(subject: str) -> bytes:
    """The form in which a subject is stored: the database needs no client addresses."""
    return hashlib.sha256(subject.encode(errors="surrogatepass")).digest()
