"""The column `request.budget_periods`: the periods of budgets that a request counts in, as JSON.

Each period is an array of the budget's id, its start, and its end or null, in microseconds since the Unix epoch.
"""

import msgspec

from tok0n.domain.budgets import BudgetPeriod
from tok0n.domain.ledger_rules import PeriodId

_DECODER = msgspec.json.Decoder(tuple[tuple[str, int, int | None], ...])


def encode(periods: tuple[BudgetPeriod, ...]) -> str | None:
    """Return the value of the column, which is None for a request without budgets."""
    if not periods:
        return None
    return msgspec.json.encode(
        [(period.budget_id, period.starts_at_us, period.ends_at_us) for period in periods]
    ).decode()


def period_ids(column: str | None) -> tuple[PeriodId, ...]:
    """Return the ids of the periods in a value of the column."""
    if column is None:
        return ()
    return tuple((budget_id, starts_at_us) for budget_id, starts_at_us, _ in _DECODER.decode(column))
