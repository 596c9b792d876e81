"""The emails about purchases that are due, behind the `PurchaseEmails` port."""

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import account, document, pack_order, purchase_email
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.documents import Document, DocumentKind
from tok0n.ports.mail import PaidPurchase

_IS_DUE = purchase_email.c.claimed_at_us.is_(None)


class SqlPurchaseEmails:
    """The `PurchaseEmails` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def claim_due(self, *, now_us: int, rows_max: int) -> list[PaidPurchase]:
        due = sa.select(purchase_email.c.order_id).where(_IS_DUE).order_by(purchase_email.c.order_id).limit(rows_max)
        order_ids = await self._store.read(lambda tx: list(tx.scalars(due)))
        if not order_ids:
            return []

        def fn(tx: sa.Connection) -> list[PaidPurchase]:
            claim = sa.update(purchase_email).where(purchase_email.c.order_id.in_(order_ids), _IS_DUE)
            claimed = list(tx.scalars(claim.values(claimed_at_us=now_us).returning(purchase_email.c.order_id)))
            query = (
                sa.select(account.c.id, account.c.email, document.c.body, pack_order.c.tokens, pack_order.c.token_class)
                .join(pack_order, pack_order.c.account_id == account.c.id)
                .join(document, document.c.order_id == pack_order.c.id)
                .where(pack_order.c.id.in_(claimed), document.c.kind != DocumentKind.CREDIT_NOTE)
                .where(account.c.status != "closed")
                .order_by(pack_order.c.id)
            )
            return [
                PaidPurchase(
                    account_id=row.id,
                    email=row.email,
                    tokens=row.tokens,
                    token_class=row.token_class,
                    document=msgspec.json.decode(row.body, type=Document),
                )
                for row in tx.execute(query)
            ]

        return await self._store.write(fn)


def schedule(tx: sa.Connection, order_id: str) -> None:
    """Schedule the email about an order, in the transaction that records its payment."""
    tx.execute(sa.insert(purchase_email).values(order_id=order_id))
