"""Create an API key. The key itself is never stored in clear.

A form that created one keeps it for 10 minutes, sealed with the form's id, so that a double click shows it.
"""

import secrets

import msgspec

from tok0n.domain import api_key
from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.errors import AlreadySubmitted, OperatorError
from tok0n.domain.forms import NONCE_BYTES, Submission
from tok0n.ports.accounts import Accounts
from tok0n.ports.clock import Clock

NAME_CHARACTERS_MAX = 100
KEY_BYTES = 32
_NO_LIMITS = KeyLimits()


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key: `secret` is what the customer sends."""

    key: ApiKey
    secret: str


class IssuedOnce(msgspec.Struct, frozen=True, kw_only=True):
    """The key that a form created, now or when it was first submitted. `secret` is None once it is no longer shown."""

    key_id: str
    secret: str | None
    is_repetition: bool


async def issue_key(
    accounts: Accounts, clock: Clock, *, email: str, name: str, limits: KeyLimits = _NO_LIMITS
) -> IssuedKey:
    """Make a key for the account of `email`. Raises `NotFound`, or `OperatorError` for an unusable name."""
    name = check_name(name)
    secret = api_key.make_api_key(secrets.token_bytes(KEY_BYTES))
    key = await accounts.create_key(
        email=email,
        name=name,
        digest=api_key.digest(secret),
        prefix=api_key.shown_prefix(secret),
        last_four=api_key.last_four(secret),
        now_us=clock.now_us(),
        limits=limits,
    )
    return IssuedKey(key=key, secret=secret)


async def issue_key_once(
    accounts: Accounts, clock: Clock, *, email: str, name: str, limits: KeyLimits, keys_max: int, submission: Submission
) -> IssuedOnce:
    """Create an API key for a submitted form; submitted again, it shows the same key and creates none.

    Raises `NotFound`, `LimitReached`, or `OperatorError` for an unusable name.
    """
    name = check_name(name)
    secret = api_key.make_api_key(secrets.token_bytes(KEY_BYTES))
    try:
        key = await accounts.create_key(
            email=email,
            name=name,
            digest=api_key.digest(secret),
            prefix=api_key.shown_prefix(secret),
            last_four=api_key.last_four(secret),
            now_us=clock.now_us(),
            limits=limits,
            keys_max=keys_max,
            submission=submission,
            sealed=submission.seal(secret, nonce=secrets.token_bytes(NONCE_BYTES)),
        )
    except AlreadySubmitted as first:
        shown = None if first.sealed is None else submission.unseal(first.sealed)
        return IssuedOnce(key_id=str(first.result), secret=shown, is_repetition=True)
    return IssuedOnce(key_id=key.id, secret=secret, is_repetition=False)


def check_name(name: str) -> str:
    """A key's name without space around it. Raises `OperatorError`."""
    name = name.strip()
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise OperatorError(f"A key name must be 1 to {NAME_CHARACTERS_MAX} printable characters.")
    return name
