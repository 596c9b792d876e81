"""Codes that are good for tokens, for trials and partners. Only their digests are kept."""

import secrets

from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.users import digest
from tok0n.ports.clock import Clock
from tok0n.ports.orders import Orders

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""No letters and digits that are taken for each other."""

CHARACTERS = 16
GROUP = 4


async def make_code(orders: Orders, clock: Clock, *, tokens: int, uses_max: int, days: int | None, reason: str) -> str:
    """A new code, which is shown once."""
    code = "".join(secrets.choice(ALPHABET) for _ in range(CHARACTERS))
    now_us = clock.now_us()
    await orders.create_code(
        digest=digest(code),
        shown=f"{code[:GROUP]}\N{HORIZONTAL ELLIPSIS}",
        tokens=tokens,
        uses_max=uses_max,
        expires_at_us=None if days is None else now_us + days * MICROSECONDS_PER_DAY,
        reason=reason,
        now_us=now_us,
    )
    return "-".join(code[place : place + GROUP] for place in range(0, CHARACTERS, GROUP))


def normal_code(text: str) -> str:
    """A code as somebody typed it, in the one spelling that it is known by."""
    return "".join(text.upper().replace("-", "").split())[:100]
