"""Purchases of packs and redeem codes."""

from typing import Protocol

from tok0n.domain.forms import Submission
from tok0n.domain.history import LedgerEntry
from tok0n.domain.orders import OpenedOrder, Order, Payment
from tok0n.domain.packs import Pack


class Orders(Protocol):
    """Purchases of packs, what is known of their payments, and what the ledger made of it; and redeem codes."""

    async def open(
        self, *, account_id: str, pack: Pack, currency: str, now_us: int, submission: Submission | None = None
    ) -> OpenedOrder:
        """Open an order, with tokens and price as they are now, in one transaction that locks the account first.

        Gives the order that the same `submission` opened before; else the account's open order of the same pack; else a
        new one; or, when the account has `OPEN_CHECKOUTS_MAX` open orders, the oldest, which must be expired first.
        Raises `NotFound` without such an open account, `LimitReached` for one that starts too many purchases.
        """

    async def attach_checkout(self, order_id: str, *, checkout_id: str) -> bool:
        """Remember the provider's name for an order's checkout. False when the order has expired, or has another."""

    async def abandon(self, order_id: str) -> None:
        """Expire an order that never got a checkout: the process died first. Does nothing to any other order."""

    async def get(self, order_id: str) -> Order:
        """Return an order of any account, for payments and the operator. Raises `NotFound`."""

    async def get_in_account(self, *, account_id: str, order_id: str) -> Order:
        """Return an order of the account. Raises `NotFound`."""

    async def find_by_payment(self, payment_id: str) -> Order | None:
        """The order of a payment, by the provider's name for it."""

    async def of(self, account_id: str, *, before: str | None, rows_max: int, with_expired: bool = True) -> list[Order]:
        """At most `rows_max` orders of the account, newest first, from before the id `before`."""

    async def entries(self, *, account_id: str, order_id: str) -> list[LedgerEntry]:
        """The ledger entries of an order of the account, oldest first."""

    async def record(self, order_id: str, facts: Payment, *, payment_id: str | None, now_us: int) -> Order:
        """Add what became known of a payment, and append the entries that follow, in one transaction.

        Repeated or out of order, it ends the same. What is to be taken back and is reserved by calls in flight is taken
        by a repetition after they have ended: see `Order.is_settled`. Raises `NotFound`, or `AlreadyExists` when the
        payment or a dispute belongs to another order.
        """

    async def debt(self, account_id: str) -> int:
        """Tokens that were refunded or disputed after they were spent, and that the next purchase covers first."""

    async def create_code(
        self,
        *,
        digest: bytes,
        masked: str,
        tokens: int,
        uses_max: int,
        expires_at_us: int | None,
        reason: str,
        now_us: int,
    ) -> None:
        """Store a code that grants `tokens`, once to each account and `uses_max` times in all. Pages show `masked`."""

    async def redeem(self, *, account_id: str, digest: bytes, now_us: int, submission: Submission | None = None) -> int:
        """Grant the tokens of a code; gives how many.

        Raises `NotFound`, `AlreadyExists` for a second time, or `AlreadySubmitted` with the tokens that the first
        submission of the same form granted.
        """
