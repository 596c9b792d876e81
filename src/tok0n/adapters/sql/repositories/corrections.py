"""The operator's corrections in SQL, behind the `Corrections` port."""

from collections.abc import Collection

import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import append_entry, lock_account, lock_wallets
from tok0n.adapters.sql.new_entries import Alert, check_again
from tok0n.adapters.sql.repositories import activity
from tok0n.adapters.sql.repositories.accounts import find_account
from tok0n.adapters.sql.schema import account, wallet
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.accounts import Account
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import EntryKind
from tok0n.domain.token_classes import EMPTY, RetiredClass


class SqlCorrections:
    """The `Corrections` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def adjust(
        self, *, email: str, tokens: int, token_class: str, reason: str, author: str, now_us: int
    ) -> Account:
        def fn(tx: sa.Connection) -> Account:
            account_id = find_account(tx, email).id
            lock_account(tx, account_id)
            lock_wallets(tx, [account_id])  # Reservations and charges wait, so the balance read next stays valid.
            balance = find_account(tx, email).wallets.get(token_class, EMPTY)
            if balance.available + tokens < 0:
                raise OperatorError(
                    f"{email} has {balance.available:,} tokens of the class {token_class} available, and"
                    f" {balance.pending:,} are reserved by requests in progress. You can take away at most"
                    f" {balance.available:,}."
                )
            append_entry(
                tx,
                account_id=account_id,
                kind=EntryKind.ADJUSTMENT,
                amount=tokens,
                token_class=token_class,
                reason=reason,
                author=author,
                now_us=now_us,
            )
            return find_account(tx, email)

        return await self._store.write(fn)

    async def set_suspended(self, *, email: str, suspended: bool, reason: str, actor: str, now_us: int) -> Account:
        status = "suspended" if suspended else "open"

        def fn(tx: sa.Connection) -> Account:
            account_id = find_account(tx, email).id
            current = lock_account(tx, account_id)
            if current == "closed":
                raise OperatorError(f"The account of {email} is closed, which is permanent.")
            if current == status:
                raise OperatorError(f"The account of {email} is already {status}. Nothing was changed.")
            tx.execute(sa.update(account).where(account.c.id == account_id).values(status=status))
            if not suspended:
                check_again(tx, account_id, *Alert)  # Alerts skip suspended accounts, so check all now.
            activity.append(
                tx,
                account_id=account_id,
                api_key_id=None,
                action="account_suspended" if suspended else "account_reopened",
                actor=actor,
                before={"status": current},
                after={"status": status, "reason": reason},
                now_us=now_us,
            )
            return find_account(tx, email)

        return await self._store.write(fn)

    async def retired_classes(self, declared: Collection[str]) -> list[RetiredClass]:
        columns = wallet.c
        accounts, tokens = sa.func.count(), sa.func.sum(columns.posted)
        query = sa.select(columns.token_class, accounts, tokens).join(account, account.c.id == columns.account_id)
        query = query.where(
            columns.token_class.not_in(declared), columns.posted > 0, account.c.status != "closed"
        ).group_by(columns.token_class)
        rows = await self._store.read(lambda tx: tx.execute(query.order_by(columns.token_class)).all())
        return [RetiredClass(token_class=row[0], accounts=row[1], tokens=int(row[2])) for row in rows]
