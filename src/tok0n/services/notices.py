"""Alerts: email the owner when a balance falls below a threshold, and when a key has used most of a budget."""

from collections.abc import Callable, Sequence

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import STANDARD
from tok0n.domain.notices import BALANCE_ALERTS_MAX, BalanceAlert, NoticeKind
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.clock import Clock
from tok0n.ports.mail import BalanceAlerts, BudgetNotices, Mailer
from tok0n.services import emails
from tok0n.services.checks import check_count
from tok0n.services.notice_preferences import NoticePreferences
from tok0n.services.token_sources import TokenSources

ROWS_MAX = 100

_ONLY_STANDARD = TokenClasses()


class LowBalances:
    """Sets and sends alerts of low balances. `url_of` turns a path into a full URL."""

    def __init__(
        self,
        alerts: BalanceAlerts,
        preferences: NoticePreferences,
        mailer: Mailer,
        url_of: Callable[[str], str],
        token_sources: TokenSources,
        token_classes: TokenClasses = _ONLY_STANDARD,
    ) -> None:
        self._alerts = alerts
        self._preferences = preferences
        self._mailer = mailer
        self._url_of = url_of
        self._token_sources = token_sources
        self._token_classes = token_classes

    async def threshold_tokens(self, account_id: str) -> int | None:
        """Return the highest balance of standard tokens that alerts the owner, or None if there is none."""
        alerts = await self._alerts.list_for_account(account_id)
        thresholds = [alert.threshold_tokens for alert in alerts if alert.token_class == STANDARD]
        return max(thresholds, default=None)

    async def alerts(self, account_id: str) -> list[BalanceAlert]:
        """Return the alerts of an account, by token class and then by balance."""
        return await self._alerts.list_for_account(account_id)

    async def set_alerts(self, account_id: str, alerts: Sequence[BalanceAlert]) -> None:
        """Alert the owner once each time a balance falls below one of these.

        An account has at most `BALANCE_ALERTS_MAX`, each from 1 to `TOKENS_MAX` tokens of a declared class or of one
        that an alert already counts. Raises `InvalidRequest`.
        """
        alerts = sorted(set(alerts))
        if len(alerts) > BALANCE_ALERTS_MAX:
            raise InvalidRequest(f"You can set at most {BALANCE_ALERTS_MAX} alerts.", param="threshold_tokens")
        existing = {alert.token_class for alert in await self._alerts.list_for_account(account_id)}
        for alert in alerts:
            check_count(alert.threshold_tokens, most=TOKENS_MAX, param="threshold_tokens")
            if alert.token_class not in existing.union(self._token_classes.ids):
                message = f"There is no token class {alert.token_class}. Choose from the list."
                raise InvalidRequest(message, param="threshold_tokens")
        await self._alerts.replace(account_id, alerts)

    async def notify(self) -> None:
        """Email each owner whose posted balance fell below an alert since the last call.

        Reservations don't count, because they may be released. The alert is recorded before the email is sent, so a
        crash can lose an email but never sends it twice.
        """
        overview = self._url_of("/dashboard")
        for low in await self._alerts.claim_due(rows_max=ROWS_MAX):
            if not await self._preferences.is_enabled(low.account_id, NoticeKind.LOW_BALANCE):
                continue
            fields = {"posted": low.posted, "threshold": low.threshold_tokens, "overview": overview}
            fields["of_class"] = self._of_class(low.token_class)
            is_named = bool(fields["of_class"])
            fields["advice"] = await self._token_sources.advice(low.token_class, is_named=is_named)
            await emails.send(self._mailer, emails.LOW_BALANCE, to=low.email, **fields)

    def _of_class(self, token_class: str) -> str:
        """Return the words that name the class, unless it is the only one."""
        if not self._token_classes.are_several([token_class]):
            return ""
        return f" of {self._token_classes.title(token_class)}"


class BudgetAlerts:
    """Emails the owner of a key when it has spent 80 % and 100 % of a budget. `url_of` turns a path into a full URL."""

    def __init__(
        self,
        notices: BudgetNotices,
        preferences: NoticePreferences,
        mailer: Mailer,
        clock: Clock,
        url_of: Callable[[str], str],
    ) -> None:
        self._notices = notices
        self._preferences = preferences
        self._mailer = mailer
        self._clock = clock
        self._url_of = url_of

    async def notify(self) -> None:
        """Email each owner once for each share and period. Reservations don't count, because they may be released.

        The alert is recorded before the email is sent, so a crash can lose an email but never sends it twice.
        """
        now_us = self._clock.now_us()
        for spent in await self._notices.claim_due(now_us=now_us, rows_max=ROWS_MAX):
            if not await self._preferences.is_enabled(spent.account_id, NoticeKind.BUDGET):
                continue
            await emails.send(
                self._mailer,
                emails.BUDGET_SPENT if spent.percent >= 100 else emails.BUDGET_NEARLY_SPENT,
                to=spent.email,
                name=spent.key_name,
                spent=spent.spent,
                budget=spent.budget.description,
                resets=spent.budget.resets(now_us),
                key=self._url_of(f"/dashboard/keys/{spent.api_key_id}"),
            )
