"""API keys as tests make and list them: by the email address of the account."""

import secrets
from typing import Any

from tok0n.domain import api_key, ids
from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.key_edits import KeyEdit
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


def budget(tokens: int, period: ResetPeriod = ResetPeriod.TOTAL, *, token_class: str | None = None) -> KeyBudget:
    """A new budget, whose periods begin at midnight in UTC."""
    budget_id = ids.budget_id(secrets.token_bytes(ids.RANDOM_BYTES))
    return KeyBudget(id=budget_id, tokens=tokens, period=period, token_class=token_class)


async def edit_key(accounts: Accounts, key: ApiKey, *, now_us: int = 2, actor: str = "a@x", **changes: Any) -> ApiKey:
    """Edit a key, with the members of a `KeyEdit`."""
    return await accounts.edit_key(
        account_id=key.account_id,
        key_id=key.id,
        edit=KeyEdit(**changes),
        actor=actor,
        now_us=now_us,
        time_zone="UTC",
        keys_max=100,
    )


async def rotate_key(accounts: Accounts, key: ApiKey, *, now_us: int, ends_at_us: int, secrets_max: int = 4) -> str:
    """Rotate a key. Returns its new secret."""
    secret = api_key.make_api_key(secrets.token_bytes(32))
    await accounts.rotate_key(
        account_id=key.account_id,
        key_id=key.id,
        digest=api_key.digest(secret),
        prefix=api_key.shown_prefix(secret),
        last_four=api_key.last_four(secret),
        ends_at_us=ends_at_us,
        secrets_max=secrets_max,
        actor="a@x",
        now_us=now_us,
    )
    return secret
