"""Email, the alerts of balances and budgets, and the notices of events."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from tok0n.domain.budgets import SpentBudget
from tok0n.domain.documents import Document
from tok0n.domain.notices import BalanceAlert, DueNotices, LowBalance


class PaidPurchase(msgspec.Struct, frozen=True, kw_only=True):
    """A paid order whose owner gets an email, with the invoice or receipt."""

    account_id: str
    email: str
    tokens: int
    token_class: str
    document: Document


class MailBrand(msgspec.Struct, frozen=True, kw_only=True):
    """The service's name in emails, and the address of its support, which may be empty."""

    name: str = "Tok0n"
    support_email: str = ""


class Mailer(Protocol):
    """Sends email."""

    @property
    def brand(self) -> MailBrand:
        """Return the brand that the texts of emails name."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Queue a message. Failures are logged, and never raised to the caller."""


class BalanceAlerts(Protocol):
    """Alerts of low balances."""

    async def list_for_account(self, account_id: str) -> list[BalanceAlert]:
        """Return the alerts of an account, by token class and then by balance."""

    async def replace(self, account_id: str, alerts: Sequence[BalanceAlert]) -> None:
        """Replace the alerts of an account. A new one counts as sent if the balance is already below it."""

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        """Return the balances that fell below an alert since the last call, once for each time.

        If a balance fell below several alerts at once, returns the lowest of them.
        """


class BudgetNotices(Protocol):
    """The alerts of budgets that are nearly or wholly spent."""

    async def claim_due(self, *, now_us: int, rows_max: int) -> list[SpentBudget]:
        """Return the budgets that reached one of `NOTICE_PERCENTS` since the last call, each share once in a period."""


class NoticeOutbox(Protocol):
    """The notices of events. The transaction that changes something stores its notice, so a crash loses none."""

    async def claim_due(self, *, now_us: int) -> list[DueNotices]:
        """Return the emails to send now, each once, and drop the notices that the owner has turned off.

        An account gets at most `EMAILS_PER_HOUR_MAX` emails of each kind in an hour. Further notices wait, and are then
        due as one summary.
        """


class Preferences(Protocol):
    """Which kinds of notices an account gets, by channel. Every kind is on until the owner turns it off."""

    async def turned_off(self, account_id: str) -> set[tuple[str, str]]:
        """Return the pairs of kind and channel that are off."""

    async def replace(self, account_id: str, values: Mapping[tuple[str, str], bool]) -> None:
        """Turn pairs of kind and channel on or off."""


class PurchaseEmails(Protocol):
    """The emails about paid orders. `Orders.record` schedules them."""

    async def claim_due(self, *, now_us: int, rows_max: int) -> list[PaidPurchase]:
        """Return the orders that were paid since the last call, each once. Leaves out those of closed accounts."""
