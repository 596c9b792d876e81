"""API keys as tests make and list them: by the email address of the account."""

import secrets

from tok0n.domain import api_key
from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.ports.accounts import Accounts

NO_LIMITS = KeyLimits()


async def keys_of(accounts: Accounts, email: str) -> list[ApiKey]:
    """All keys of an account, oldest first."""
    return await accounts.list_keys((await accounts.get(email)).id)


async def create_key(
    accounts: Accounts, email: str, *, name: str = "test", limits: KeyLimits = NO_LIMITS, now_us: int = 1
) -> tuple[ApiKey, str]:
    """A new key and its secret."""
    secret = api_key.make_api_key(secrets.token_bytes(32))
    key = await accounts.create_key(
        account_id=(await accounts.get(email)).id,
        name=name,
        digest=api_key.digest(secret),
        prefix=api_key.shown_prefix(secret),
        last_four=api_key.last_four(secret),
        now_us=now_us,
        limits=limits,
    )
    return key, secret
