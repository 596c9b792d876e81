"""Purchases of packs and redeem codes."""

from typing import Protocol

from tok0n.domain.billing import NO_DETAILS, BillingDetails
from tok0n.domain.documents import NO_ISSUER, Issuer
from tok0n.domain.forms import Submission
from tok0n.domain.history import LedgerEntry
from tok0n.domain.ledger import STANDARD
from tok0n.domain.orders import OpenedOrder, Order, Payment, Redeemed
from tok0n.domain.packs import Pack


class UsableCodes(Protocol):
    """The redeem codes that can still be used."""

    async def exist(self, *, now_us: int) -> bool:
        """Whether a code has uses left and hasn't expired."""


class Orders(Protocol):
    """Purchases of packs, the facts about their payments, their ledger entries, and redeem codes."""

    async def open(
        self,
        *,
        account_id: str,
        pack: Pack,
        currency: str,
        now_us: int,
        quantity: int = 1,
        billing: BillingDetails = NO_DETAILS,
        submission: Submission | None = None,
    ) -> OpenedOrder:
        """Open an order of `quantity` packs with their current terms, in one transaction that locks the account.

        Returns the first that exists of: the order that the same `submission` opened, the account's open order with the
        same terms, which gets the new `billing` details, a new order. If the account has `OPEN_CHECKOUTS_MAX` open
        orders, it returns the oldest as `must_expire` instead of opening one. Raises `NotFound` if no such account is
        open, and `LimitReached` if the account started too many purchases.
        """

    async def attach_checkout(self, order_id: str, *, checkout_id: str) -> bool:
        """Store the provider's checkout id of an order. Returns False if the order has expired or has another one."""

    async def abandon(self, order_id: str) -> None:
        """Expire an order without a checkout, which a killed process leaves. Does nothing to any other order."""

    async def get(self, order_id: str) -> Order:
        """Return an order of any account, for payments and the operator. Raises `NotFound`."""

    async def get_in_account(self, *, account_id: str, order_id: str) -> Order:
        """Return an order of the account. Raises `NotFound`."""

    async def find_by_payment(self, payment_id: str) -> Order | None:
        """Return the order with the provider's payment id, or None."""

    async def list_for_account(
        self, account_id: str, *, before: str | None, rows_max: int, expired_at_us: int | None = None
    ) -> list[Order]:
        """Return at most `rows_max` orders of the account with ids below `before`, newest first.

        `expired_at_us` leaves out orders whose checkout had expired by then, even if no event has reported it.
        """

    async def entries(self, *, account_id: str, order_id: str) -> list[LedgerEntry]:
        """Return the ledger entries of an order of the account, oldest first."""

    async def record(
        self, order_id: str, facts: Payment, *, payment_id: str | None, now_us: int, issuer: Issuer = NO_ISSUER
    ) -> Order:
        """Store facts about a payment, append the entries due and issue the documents due, in one transaction.

        Returns the order. The call that records the payment also schedules the email about it. Without new facts, it
        issues the documents of an order that was paid before Tok0n issued any.

        Facts can arrive repeatedly and in any order. If requests in progress have reserved tokens that a refund
        must remove, repeat the call after they end, until `Order.is_fully_applied`.

        Raises `NotFound`, or `AlreadyExists` if the payment or a dispute belongs to another order.
        """

    async def debts(self, account_id: str) -> dict[str, int]:
        """Return the tokens of each class that were refunded or disputed after they were spent. Omits zeros.

        The next purchase of the same class pays them first.
        """

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
        token_class: str = STANDARD,
    ) -> None:
        """Store a code for `tokens`. It works once for each account, `uses_max` times in all. Pages show `masked`."""

    async def redeem(
        self, *, account_id: str, digest: bytes, now_us: int, submission: Submission | None = None
    ) -> Redeemed:
        """Grant the tokens of a code, even if their class is retired. Returns the grant.

        Raises `NotFound` for an invalid code, `AlreadyExists` if the account has redeemed it, `AccountSuspended`, or
        `AlreadySubmitted` with the `Redeemed.result` of the first submission of the same form.
        """
