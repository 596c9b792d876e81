"""Low-balance alerts: email the owner each time the balance falls below the threshold that the owner set."""

from collections.abc import Callable

from tok0n.domain.ledger import STANDARD
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.mail import Mailer, Notices
from tok0n.services import mails
from tok0n.services.checks import check_optional_count

ROWS_MAX = 100

_ONLY_STANDARD = TokenClasses()


class LowBalances:
    """Sets thresholds and sends alerts about standard tokens. `url_of` turns a path into a full URL."""

    def __init__(
        self,
        notices: Notices,
        mailer: Mailer,
        url_of: Callable[[str], str],
        token_classes: TokenClasses = _ONLY_STANDARD,
    ) -> None:
        self._notices = notices
        self._mailer = mailer
        self._url_of = url_of
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
        for low in await self._notices.claim_due(rows_max=ROWS_MAX):
            fields = {"posted": low.posted, "threshold": low.threshold_tokens, "overview": overview}
            fields["of_class"] = self._of_class
            await mails.send(self._mailer, mails.LOW_BALANCE, to=low.email, **fields)
