"""Invoices, receipts and credit notes, and the billing details of accounts. `Orders.record` issues documents."""

from collections.abc import Sequence
from typing import Protocol

from tok0n.domain.billing import BillingDetails
from tok0n.domain.documents import Document


class Documents(Protocol):
    """The documents of orders. They never change."""

    async def list_for_order(self, *, account_id: str, order_id: str) -> list[Document]:
        """Return the documents of an order of the account: that of the sale, then its credit notes."""

    async def list_for_orders(self, *, account_id: str, order_ids: Sequence[str]) -> list[Document]:
        """Return the documents of these orders of the account, in no order."""

    async def sale_numbers(self, *, account_id: str, order_ids: Sequence[str]) -> dict[str, str]:
        """Return the number of the invoice or receipt of each of these orders of the account that has one."""


class Billing(Protocol):
    """The billing details of accounts, which new orders take."""

    async def details(self, account_id: str) -> BillingDetails:
        """Return the billing details of an account, which may be empty."""

    async def save(self, account_id: str, details: BillingDetails) -> None:
        """Replace the billing details of an account."""
