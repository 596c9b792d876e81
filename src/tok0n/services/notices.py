"""Alerts: email the owner when the balance falls below a threshold, and when a key has used most of a budget."""

from collections.abc import Callable

from tok0n.domain.ledger import STANDARD
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.clock import Clock
from tok0n.ports.mail import BudgetNotices, Mailer, Notices
from tok0n.services import mails
from tok0n.services.checks import check_optional_count
from tok0n.services.token_sources import TokenSources

ROWS_MAX = 100

_ONLY_STANDARD = TokenClasses()


class LowBalances:
    """Sets thresholds and sends alerts about standard tokens. `url_of` turns a path into a full URL."""

    def __init__(
        self,
        notices: Notices,
        mailer: Mailer,
        url_of: Callable[[str], str],
        token_sources: TokenSources,
        token_classes: TokenClasses = _ONLY_STANDARD,
    ) -> None:
        self._notices = notices
        self._mailer = mailer
        self._url_of = url_of
        self._token_sources = token_sources
        self._of_class = f" of {token_classes.title(STANDARD)}" if token_classes.are_several() else ""

    async def threshold_tokens(self, account_id: str) -> int | None:
        """Return the balance in tokens below which the owner gets an email, or None if no alert is set."""
        return await self._notices.threshold_tokens(account_id)

    async def set_threshold(self, account_id: str, threshold_tokens: int | None) -> None:
        """Alert the owner once each time the balance falls below the threshold. None turns the alert off.

        Raises `InvalidRequest` unless the threshold is from 1 to `TOKENS_MAX`.
        """
        check_optional_count(threshold_tokens, most=TOKENS_MAX, param="threshold_tokens")
        await self._notices.set_threshold(account_id, threshold_tokens)

    async def notify(self) -> None:
        """Email each owner whose posted balance fell below the threshold since the last alert.

        Reservations don't count, because they may be released. The alert is recorded before the email is sent, so a
        crash can lose an email but never sends it twice.
        """
        overview = self._url_of("/dashboard")
        due = await self._notices.claim_due(rows_max=ROWS_MAX)
        advice = await self._token_sources.advice(STANDARD, is_named=bool(self._of_class)) if due else ""
        for low in due:
            fields = {"posted": low.posted, "threshold": low.threshold_tokens, "overview": overview}
            fields |= {"of_class": self._of_class, "advice": advice}
            await mails.send(self._mailer, mails.LOW_BALANCE, to=low.email, **fields)


class BudgetAlerts:
    """Emails the owner of a key when it has spent 80 % and 100 % of a budget. `url_of` turns a path into a full URL."""

    def __init__(self, notices: BudgetNotices, mailer: Mailer, clock: Clock, url_of: Callable[[str], str]) -> None:
        self._notices = notices
        self._mailer = mailer
        self._clock = clock
        self._url_of = url_of

    async def notify(self) -> None:
        """Email each owner once for each share and period. Reservations don't count, because they may be released.

        The alert is recorded before the email is sent, so a crash can lose an email but never sends it twice.
        """
        now_us = self._clock.now_us()
        for spent in await self._notices.claim_due(now_us=now_us, rows_max=ROWS_MAX):
            await mails.send(
                self._mailer,
                mails.BUDGET_SPENT if spent.percent >= 100 else mails.BUDGET_NEARLY_SPENT,
                to=spent.email,
                name=spent.key_name,
                spent=spent.spent,
                budget=spent.budget.description,
                resets=spent.budget.resets(now_us),
                key=self._url_of(f"/dashboard/keys/{spent.api_key_id}"),
            )
