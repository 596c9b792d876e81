"""Email, and the alerts of balances and budgets."""

from typing import Protocol

from tok0n.domain.budgets import SpentBudget
from tok0n.domain.users import LowBalance


class Mailer(Protocol):
    """Sends email."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Queue a message. Failures are logged, and never raised to the caller."""


class Notices(Protocol):
    """Low-balance alerts of accounts."""

    async def threshold_tokens(self, account_id: str) -> int | None:
        """Return the balance below which the owner gets an email. None: no alert is set."""

    async def set_threshold(self, account_id: str, threshold_tokens: int | None) -> None:
        """Alert the owner once each time the balance falls below the threshold. None turns the alert off."""

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        """Return the accounts that fell below their threshold since the last call, once for each crossing."""


class BudgetNotices(Protocol):
    """The alerts of budgets that are nearly or wholly spent."""

    async def claim_due(self, *, now_us: int, rows_max: int) -> list[SpentBudget]:
        """Return the budgets that reached one of `NOTICE_PERCENTS` since the last call, each share once in a period."""
