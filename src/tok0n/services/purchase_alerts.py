"""Email the owner of an account about each paid order, with the number of the invoice or receipt."""

from collections.abc import Callable

from tok0n.domain.documents import DocumentKind
from tok0n.domain.notices import NoticeKind
from tok0n.domain.token_classes import TokenClasses
from tok0n.ports.clock import Clock
from tok0n.ports.mail import Mailer, PaidPurchase, PurchaseEmails
from tok0n.services import emails
from tok0n.services.notice_preferences import NoticePreferences

ROWS_MAX = 100


class PurchaseAlerts:
    """Sends the emails. `url_of` turns a path into a full URL."""

    def __init__(
        self,
        purchases: PurchaseEmails,
        mailer: Mailer,
        clock: Clock,
        url_of: Callable[[str], str],
        token_classes: TokenClasses,
        preferences: NoticePreferences,
    ) -> None:
        self._purchases = purchases
        self._mailer = mailer
        self._clock = clock
        self._url_of = url_of
        self._token_classes = token_classes
        self._preferences = preferences

    async def notify(self) -> None:
        """Email the owner of each order that was paid since the last call, unless they turned these emails off.

        The email is recorded before it is sent, so a crash can lose an email but never sends it twice.
        """
        for purchase in await self._purchases.claim_due(now_us=self._clock.now_us(), rows_max=ROWS_MAX):
            if await self._preferences.is_enabled(purchase.account_id, NoticeKind.PURCHASE):
                await self._send(purchase)

    async def _send(self, purchase: PaidPurchase) -> None:
        paid = purchase.document
        path = f"/dashboard/orders/{paid.order_id}"
        are_several = self._token_classes.are_several([purchase.token_class])
        await emails.send(
            self._mailer,
            emails.PURCHASE,
            to=purchase.email,
            document="invoice" if paid.kind is DocumentKind.INVOICE else "receipt",
            number=paid.number,
            name=", ".join(f"{line.quantity} x {line.name}" for line in paid.lines),
            tokens=purchase.tokens,
            of_class=f" of {self._token_classes.title(purchase.token_class)}" if are_several else "",
            dollars=paid.total_cents / 100,
            url=self._url_of(f"{path}/documents/{paid.number}"),
        )
