"""Tell the owner of an account that its balance is low: once each time it falls below what the owner chose."""

from collections.abc import Callable

from tok0n.ports.mail import Mailer, Notices
from tok0n.services import mails

ROWS_MAX = 100


class LowBalances:
    """Looks for them, and mails."""

    def __init__(self, notices: Notices, mailer: Mailer, url_of: Callable[[str], str]) -> None:
        self._notices = notices
        self._mailer = mailer
        self._url_of = url_of

    async def tell(self) -> None:
        """Email the owners of accounts that fell below their threshold, once for each crossing, recorded first."""
        subject, text = mails.LOW_BALANCE
        for low in await self._notices.claim_due(rows_max=ROWS_MAX):
            filled = text.format(posted=low.posted, threshold=low.threshold_tokens, overview=self._url_of("/dashboard"))
            await self._mailer.send(to=low.email, subject=subject, text=filled)
