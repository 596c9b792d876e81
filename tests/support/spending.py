"""Spend tokens of an account as requests would."""

import itertools

from support.ledgers import NOW_US, Opened
from tok0n.domain import ids
from tok0n.domain.ledger import STANDARD, NewReservation, Release, Settlement
from tok0n.domain.usage import Usage

_numbers = itertools.count()


async def spend(
    db: Opened,
    *,
    account_id: str,
    key_id: str,
    tokens: int,
    model: str = "demo",
    at_us: int = NOW_US,
    token_class: str = STANDARD,
) -> str:
    """One request that is charged `tokens`; gives its id."""
    request_id = await reserve(
        db, account_id=account_id, key_id=key_id, tokens=tokens, model=model, at_us=at_us, token_class=token_class
    )
    usage = Usage(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens, details={})
    await db.ledger.settle(Settlement(request_id=request_id, usage=usage, resolved_at_us=at_us, upstream_ms=1))
    return request_id


async def fail(db: Opened, *, account_id: str, key_id: str, tokens: int, at_us: int = NOW_US) -> str:
    """One request that costs nothing; gives its id."""
    request_id = await reserve(db, account_id=account_id, key_id=key_id, tokens=tokens, model="demo", at_us=at_us)
    await db.ledger.release(
        Release(request_id=request_id, code="upstream_error", dispatched=True, resolved_at_us=at_us)
    )
    return request_id


async def reserve(
    db: Opened,
    *,
    account_id: str,
    key_id: str,
    tokens: int,
    model: str = "demo",
    at_us: int = NOW_US,
    token_class: str = STANDARD,
) -> str:
    """One request that is in flight; gives its id."""
    request_id = ids.request_id(at_us, next(_numbers).to_bytes(ids.RANDOM_BYTES))
    await db.ledger.reserve(
        NewReservation(
            request_id=request_id,
            account_id=account_id,
            api_key_id=key_id,
            model=model,
            tokens=tokens,
            created_at_us=at_us,
            expires_at_us=at_us + 10**6,
            token_class=token_class,
        )
    )
    return request_id
