"""The billing details of accounts in SQL, behind the `Billing` port."""

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import billing_details
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.billing import NO_DETAILS, BillingDetails

_SAVE = sa.text(
    "INSERT INTO billing_details (account_id, details) VALUES (:account_id, :details)"
    " ON CONFLICT (account_id) DO UPDATE SET details = excluded.details"
)


class SqlBilling:
    """The `Billing` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def details(self, account_id: str) -> BillingDetails:
        query = sa.select(billing_details.c.details).where(billing_details.c.account_id == account_id)
        stored = await self._store.read(lambda tx: tx.scalar(query))
        return NO_DETAILS if stored is None else msgspec.json.decode(stored, type=BillingDetails)

    async def save(self, account_id: str, details: BillingDetails) -> None:
        values = {"account_id": account_id, "details": msgspec.json.encode(details).decode()}
        await self._store.write(lambda tx: tx.execute(_SAVE, values) and None)
