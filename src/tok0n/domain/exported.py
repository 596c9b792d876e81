"""Rows that only the export of an account shows. Times are microseconds since the Unix epoch."""

import msgspec


class AccountFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An account and its user, without secrets. `known_devices` are the last uses of browsers that signed in."""

    status: str
    created_at_us: int
    user_created_at_us: int
    known_devices: list[int]


class PastBudgetPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent and reserved in one period of a budget, in tokens. A `total` budget has no end."""

    budget_id: str
    starts_at_us: int
    ends_at_us: int | None
    spent: int
    pending: int


class RejectedCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests of a key were rejected in a quarter hour, and how many of them have a row of their own.

    `model` is empty if the request named no declared model.
    """

    since_us: int
    api_key_id: str
    model: str
    code: str
    requests: int
    stored: int
