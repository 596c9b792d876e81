"""Low-balance alerts: the threshold that an owner sets, and one email each time the balance falls below it."""

from collections.abc import Callable

from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.mail import Mailer, Notices
from tok0n.services import mails
from tok0n.services.checks import check_optional_count

ROWS_MAX = 100


class LowBalances:
    """The use cases. `url_of` turns a path into a full URL."""

    def __init__(self, notices: Notices, mailer: Mailer, url_of: Callable[[str], str]) -> None:
        self._notices = notices
        self._mailer = mailer
        self._url_of = url_of

    async def threshold_tokens(self, account_id: str) -> int | None:
        """Return the balance below which the owner gets an email. None: no alert is set."""
        return await self._notices.threshold_tokens(account_id)

    async def set_threshold(self, account_id: str, threshold_tokens: int | None) -> None:
        """Alert the owner once each time the balance falls below the threshold. None turns the alert off.

        Raises `InvalidRequest` unless the threshold is from 1 to `TOKENS_MAX`.
        """
        check_optional_count(threshold_tokens, most=TOKENS_MAX, param="threshold_tokens")
        await self._notices.set_threshold(account_id, threshold_tokens)

    async def notify(self) -> None:
        """Email the owners of accounts that fell below their threshold, once for each crossing, recorded first."""
        subject, text = mails.LOW_BALANCE
        for low in await self._notices.claim_due(rows_max=ROWS_MAX):
            filled = text.format(posted=low.posted, threshold=low.threshold_tokens, overview=self._url_of("/dashboard"))
            await self._mailer.send(to=low.email, subject=subject, text=filled)
