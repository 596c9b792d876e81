"""Run the roll-ups to their end."""

from support.ledgers import Opened
from tok0n.adapters.sql.repositories.daily_use import SqlDailyUse
from tok0n.adapters.sql.repositories.outcome_rollup import SqlOutcomeRollup


async def roll_up(db: Opened, *, now_us: int, accounts_max: int = 2) -> None:
    """Add up every past day, a few accounts at a time."""
    daily_use = SqlDailyUse(db.store)
    while await daily_use.roll_up(now_us=now_us, accounts_max=accounts_max):
        pass


async def roll_up_outcomes(db: Opened, *, now_us: int) -> None:
    """Count every request that has ended long enough ago."""
    outcomes = SqlOutcomeRollup(db.store)
    while await outcomes.roll_up(now_us=now_us):
        pass
