"""The rows of an account that only its export reads."""

from typing import Protocol

from tok0n.domain.exported import AccountFacts, PastBudgetPeriod, RejectedCount


class ExportedRows(Protocol):
    """Reads rows of one account in pages, newest first."""

    async def facts(self, *, account_id: str, user_id: str) -> AccountFacts:
        """Return the account and its user."""

    async def budget_periods(
        self, account_id: str, *, budget_id: str, before: PastBudgetPeriod | None, rows_max: int
    ) -> list[PastBudgetPeriod]:
        """Return at most `rows_max` periods of a budget of the account that start before another one."""

    async def rejected_counts(
        self, account_id: str, *, before: RejectedCount | None, rows_max: int
    ) -> list[RejectedCount]:
        """Return at most `rows_max` counts of rejected requests that precede another one."""
