"""Invoices, receipts and credit notes in SQL, behind the `Documents` port.

A document and its number are written in the transaction that records the payment or the refund. The row of a series is
locked until that transaction ends, so racing transactions get consecutive numbers, and a rollback returns its number.
"""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import account, document
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.documents import Document, DocumentKind, Issuer, Series, credit_note, sale_document, sale_kind
from tok0n.domain.orders import Order

_NEXT = sa.text(
    "INSERT INTO document_series (is_live, prefix, year, last) VALUES (:is_live, :prefix, :year, 1)"
    " ON CONFLICT (is_live, prefix, year) DO UPDATE SET last = document_series.last + 1 RETURNING last"
)


_IS_SALE = document.c.kind != sa.literal_column("'credit_note'")
"""The condition of the index `document_of_sale`. With a parameter, SQLite could not use the index."""


class SqlDocuments:
    """The `Documents` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def list_for_order(self, *, account_id: str, order_id: str) -> list[Document]:
        columns = document.c
        query = sa.select(columns.body).where(columns.order_id == order_id, columns.account_id == account_id)
        query = query.order_by(columns.issued_at_us, columns.kind == DocumentKind.CREDIT_NOTE, columns.number)
        return await self._store.read(lambda tx: [_decode(body) for body in tx.scalars(query)])

    async def list_for_orders(self, *, account_id: str, order_ids: Sequence[str]) -> list[Document]:
        columns = document.c
        query = sa.select(columns.body).where(columns.order_id.in_(order_ids), columns.account_id == account_id)
        return await self._store.read(lambda tx: [_decode(body) for body in tx.scalars(query)])

    async def sale_numbers(self, *, account_id: str, order_ids: Sequence[str]) -> dict[str, str]:
        columns = document.c
        query = sa.select(columns.order_id, columns.number).where(
            columns.order_id.in_(order_ids), columns.account_id == account_id, _IS_SALE
        )
        return await self._store.read(lambda tx: {row.order_id: row.number for row in tx.execute(query)})


def issue(tx: sa.Connection, order: Order, *, issuer: Issuer, now_us: int) -> None:
    """Issue the documents of a paid order that are missing. The caller has locked the account's wallets."""
    paid_cents = order.payment.paid_cents
    if paid_cents is None:
        return
    columns = document.c
    rows = tx.execute(sa.select(columns.kind, columns.cents, columns.body).where(columns.order_id == order.id)).all()
    sales = [_decode(row.body) for row in rows if row.kind != DocumentKind.CREDIT_NOTE]
    sale = sales[0] if sales else _issue_sale(tx, order, issuer=issuer, now_us=now_us)
    credited_cents = sum(row.cents for row in rows if row.kind == DocumentKind.CREDIT_NOTE)
    due_cents = min(order.payment.refunded_cents, paid_cents) - credited_cents
    if due_cents > 0:
        number = _next_number(tx, DocumentKind.CREDIT_NOTE, is_live=sale.is_live, now_us=now_us)
        note = credit_note(sale, order, number=number, cents=due_cents, already_cents=credited_cents, now_us=now_us)
        _insert(tx, order, note)


def _issue_sale(tx: sa.Connection, order: Order, *, issuer: Issuer, now_us: int) -> Document:
    email = tx.scalar(sa.select(account.c.email).where(account.c.id == order.account_id))
    number = _next_number(tx, sale_kind(issuer.seller), is_live=order.is_live, now_us=now_us)
    sale = sale_document(order, number=number, email=str(email), issuer=issuer, now_us=now_us)
    _insert(tx, order, sale)
    return sale


def _next_number(tx: sa.Connection, kind: DocumentKind, *, is_live: bool, now_us: int) -> str:
    series = Series.current(kind, is_live=is_live, now_us=now_us)
    values = {"is_live": int(series.is_live), "prefix": series.prefix, "year": series.year}
    return series.number(tx.execute(_NEXT, values).scalar_one())


def _insert(tx: sa.Connection, order: Order, issued: Document) -> None:
    tx.execute(
        sa.insert(document).values(
            is_live=int(issued.is_live),
            number=issued.number,
            account_id=order.account_id,
            order_id=order.id,
            kind=issued.kind,
            cents=issued.total_cents,
            issued_at_us=issued.issued_at_us,
            body=msgspec.json.encode(issued).decode(),
        )
    )


def _decode(body: str) -> Document:
    return msgspec.json.decode(body, type=Document)
