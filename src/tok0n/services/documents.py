"""Show the documents of orders. `SellPacks` issues them when an order is paid or refunded."""

from collections.abc import Sequence

from tok0n.domain.documents import NO_ISSUER, Document, Issuer
from tok0n.domain.orders import Order, Payment
from tok0n.ports.clock import Clock
from tok0n.ports.documents import Documents
from tok0n.ports.orders import Orders


class OrderDocuments:
    """The invoices, receipts and credit notes of an account's orders."""

    def __init__(self, documents: Documents, orders: Orders, clock: Clock, issuer: Issuer = NO_ISSUER) -> None:
        self._documents = documents
        self._orders = orders
        self._clock = clock
        self._issuer = issuer

    async def list_for_order(self, order: Order) -> list[Document]:
        """Return the documents of an order, the sale first.

        An order that was paid before Tok0n issued documents gets them now, with a number of this year.
        """
        if order.payment.paid_cents is None:
            return []
        documents = await self._documents.list_for_order(account_id=order.account_id, order_id=order.id)
        if documents:
            return documents
        now_us = self._clock.now_us()
        await self._orders.record(order.id, Payment(), payment_id=None, now_us=now_us, issuer=self._issuer)
        return await self._documents.list_for_order(account_id=order.account_id, order_id=order.id)

    async def numbers(self, account_id: str, order_ids: Sequence[str]) -> dict[str, str]:
        """Return the number of the invoice or receipt of each order that has one."""
        return await self._documents.sale_numbers(account_id=account_id, order_ids=order_ids)
