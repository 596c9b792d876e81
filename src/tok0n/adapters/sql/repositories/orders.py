"""Orders in SQL, behind the `Orders` port. One transaction stores a fact and appends the entries due."""

import os
from typing import Any

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import append_entry, lock_open_account, lock_wallets
from tok0n.adapters.sql.repositories import documents, forms, purchase_emails
from tok0n.adapters.sql.repositories.statement import entry_of_row
from tok0n.adapters.sql.schema import debt, ledger_entry, order_dispute, pack_order, redeem_code, redemption, wallet
from tok0n.adapters.sql.store import SqlStore, execute
from tok0n.domain import ids
from tok0n.domain.billing import NO_DETAILS, BillingDetails
from tok0n.domain.documents import NO_ISSUER, Issuer
from tok0n.domain.errors import AlreadyExists, AlreadySubmitted, LimitReached, NotFound
from tok0n.domain.forms import Submission
from tok0n.domain.history import LedgerEntry
from tok0n.domain.ledger import STANDARD, Balance, EntryKind
from tok0n.domain.orders import (
    CHECKOUT_LIFETIME_US,
    OPEN_CHECKOUTS_MAX,
    STARTED_CHECKOUTS_MAX,
    STARTED_CHECKOUTS_US,
    Applied,
    Dispute,
    DisputeStatus,
    OpenedOrder,
    Order,
    Payment,
    Redeemed,
    UnpaidReason,
    plan_entries,
)
from tok0n.domain.packs import Pack
from tok0n.domain.token_classes import EMPTY

DEBT_COVERED = "covers tokens that were refunded or disputed after they were spent"


class SqlOrders:
    """The `Orders` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

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
        order_id = ids.order_id(now_us, os.urandom(ids.RANDOM_BYTES))

        def fn(tx: sa.Connection) -> OpenedOrder:
            lock_open_account(tx, account_id)
            if submission is not None:
                try:
                    forms.check(tx, submission, now_us=now_us)
                except AlreadySubmitted as repeated:
                    return OpenedOrder(order=_get(tx, str(repeated.result)), is_repetition=True)
            open_orders = _open_orders(tx, account_id)
            for order in open_orders:
                is_alive = order.created_at_us > now_us - CHECKOUT_LIFETIME_US
                if is_alive and order.is_for(pack, quantity=quantity, currency=currency):
                    update = sa.update(pack_order).where(pack_order.c.id == order.id)
                    tx.execute(update.values(billing=_billing_json(billing)))
                    return OpenedOrder(order=_get(tx, order.id))
            _require_few_started(tx, account_id, now_us=now_us)
            if len(open_orders) >= OPEN_CHECKOUTS_MAX:
                return OpenedOrder(must_expire=open_orders[0])
            tx.execute(
                sa.insert(pack_order).values(
                    id=order_id,
                    account_id=account_id,
                    pack_id=pack.id,
                    pack_name=pack.name,
                    token_class=pack.token_class,
                    tokens=pack.tokens * quantity,
                    price_cents=pack.price_usd_cents * quantity,
                    quantity=quantity,
                    billing=_billing_json(billing),
                    currency=currency,
                    created_at_us=now_us,
                )
            )
            if submission is not None:
                forms.claim(tx, submission, result=order_id, now_us=now_us)
            return OpenedOrder(order=_get(tx, order_id))

        return await self._store.write(fn)

    async def attach_checkout(self, order_id: str, *, checkout_id: str) -> bool:
        orders = pack_order.c
        is_open_or_paid = sa.or_(orders.outcome.is_(None), orders.paid_cents.is_not(None))
        has_no_other = sa.or_(orders.checkout_id.is_(None), orders.checkout_id == checkout_id)
        update = sa.update(pack_order).where(orders.id == order_id, is_open_or_paid, has_no_other)
        return await execute(self._store, update.values(checkout_id=checkout_id)) == 1

    async def abandon(self, order_id: str) -> None:
        orders = pack_order.c
        update = sa.update(pack_order).where(
            orders.id == order_id, orders.checkout_id.is_(None), orders.outcome.is_(None), orders.paid_cents.is_(None)
        )
        await execute(self._store, update.values(outcome=UnpaidReason.EXPIRED))

    async def get(self, order_id: str) -> Order:
        return await self._store.read(lambda tx: _get(tx, order_id))

    async def get_in_account(self, *, account_id: str, order_id: str) -> Order:
        orders = pack_order.c
        query = sa.select(pack_order).where(orders.id == order_id, orders.account_id == account_id)
        return await self._store.read(lambda tx: _only(tx, query))

    async def find_by_payment(self, payment_id: str) -> Order | None:
        query = sa.select(pack_order).where(pack_order.c.payment_id == payment_id)
        return next(iter(await self._store.read(lambda tx: _find(tx, query))), None)

    async def list_for_account(
        self, account_id: str, *, before: str | None, rows_max: int, expired_at_us: int | None = None
    ) -> list[Order]:
        orders = pack_order.c
        query = sa.select(pack_order).where(orders.account_id == account_id)
        if expired_at_us is not None:
            is_too_old = sa.and_(orders.is_complete == 0, orders.created_at_us <= expired_at_us - CHECKOUT_LIFETIME_US)
            has_expired = sa.or_(sa.func.coalesce(orders.outcome, "") == UnpaidReason.EXPIRED, is_too_old)
            query = query.where(sa.or_(orders.paid_cents.is_not(None), ~has_expired))
        if before is not None:
            query = query.where(pack_order.c.id < before)
        query = query.order_by(pack_order.c.id.desc()).limit(rows_max)
        return await self._store.read(lambda tx: _find(tx, query))

    async def entries(self, *, account_id: str, order_id: str) -> list[LedgerEntry]:
        entries = ledger_entry.c
        query = sa.select(ledger_entry).where(entries.order_id == order_id, entries.account_id == account_id)
        query = query.order_by(entries.id)
        return await self._store.read(lambda tx: [entry_of_row(row) for row in tx.execute(query)])

    async def record(
        self, order_id: str, facts: Payment, *, payment_id: str | None, now_us: int, issuer: Issuer = NO_ISSUER
    ) -> Order:
        def fn(tx: sa.Connection) -> Order:
            lock_wallets(tx, [_get(tx, order_id).account_id])
            order = _get(tx, order_id)
            _require_not_of_another_order(tx, order, facts, payment_id=payment_id)
            merged = order.payment.merge(facts)
            _store_payment(tx, order, merged, payment_id=payment_id, now_us=now_us)
            _append_entries_due(tx, order, merged.tokens_due(order.tokens), now_us=now_us)
            recorded = _get(tx, order_id)
            documents.issue(tx, recorded, issuer=issuer, now_us=now_us)
            if order.payment.paid_cents is None and recorded.payment.paid_cents is not None:
                purchase_emails.schedule(tx, order_id)
            return recorded

        return await self._store.write(fn)

    async def debts(self, account_id: str) -> dict[str, int]:
        query = sa.select(debt.c.token_class, debt.c.tokens).where(debt.c.account_id == account_id, debt.c.tokens > 0)
        query = query.order_by(debt.c.token_class)
        return await self._store.read(lambda tx: {row.token_class: row.tokens for row in tx.execute(query)})

    async def create_code(
        self,
        *,
        digest: bytes,
        masked: str,
        tokens: int,
        token_class: str = STANDARD,
        uses_max: int,
        expires_at_us: int | None,
        reason: str,
        now_us: int,
    ) -> None:
        values: dict[str, object] = {"digest": digest, "shown": masked, "tokens": tokens, "token_class": token_class}
        values |= {"uses_max": uses_max, "expires_at_us": expires_at_us, "reason": reason, "created_at_us": now_us}
        await execute(self._store, sa.insert(redeem_code).values(values))

    async def redeem(
        self, *, account_id: str, digest: bytes, now_us: int, submission: Submission | None = None
    ) -> Redeemed:
        codes = redeem_code.c
        is_unexpired = sa.or_(codes.expires_at_us.is_(None), codes.expires_at_us > now_us)
        use = sa.update(redeem_code).where(codes.digest == digest, codes.uses < codes.uses_max, is_unexpired)

        def fn(tx: sa.Connection) -> Redeemed:
            lock_open_account(tx, account_id)
            if submission is not None:
                forms.check(tx, submission, now_us=now_us)
            existing = sa.select(redemption.c.digest).where(
                redemption.c.digest == digest, redemption.c.account_id == account_id
            )
            if tx.execute(existing).first() is not None:
                raise AlreadyExists("You've already redeemed this code.")
            used = use.values(uses=codes.uses + 1).returning(codes.tokens, codes.token_class, codes.reason)
            code = tx.execute(used).one_or_none()
            if code is None:
                raise NotFound("This code is invalid, has expired, or has been used up.")
            tx.execute(sa.insert(redemption).values(digest=digest, account_id=account_id, redeemed_at_us=now_us))
            append_entry(
                tx,
                account_id=account_id,
                kind=EntryKind.GRANT,
                amount=code.tokens,
                token_class=code.token_class,
                reason=f"code: {code.reason}",
                now_us=now_us,
            )
            redeemed = Redeemed(tokens=code.tokens, token_class=code.token_class)
            if submission is not None:
                forms.claim(tx, submission, result=redeemed.result, now_us=now_us)
            return redeemed

        return await self._store.write(fn)


def _billing_json(billing: BillingDetails) -> str:
    return msgspec.json.encode(billing).decode()


def _open_orders(tx: sa.Connection, account_id: str) -> list[Order]:
    """Return the account's open orders, oldest first. The caller has locked the account."""
    orders = pack_order.c
    query = sa.select(pack_order).where(
        orders.account_id == account_id,
        orders.paid_cents.is_(None),
        orders.outcome.is_(None),
        orders.is_complete == 0,
    )
    return _find(tx, query.order_by(orders.id))


def _require_few_started(tx: sa.Connection, account_id: str, *, now_us: int) -> None:
    """Raise `LimitReached` if the account started too many purchases lately. The caller has locked the account."""
    orders = pack_order.c
    since_us = now_us - STARTED_CHECKOUTS_US
    started = sa.select(sa.func.count()).where(
        orders.account_id == account_id,
        orders.id >= ids.first_order_id(since_us),
        orders.created_at_us > since_us,
        orders.paid_cents.is_(None),
        orders.is_complete == 0,
    )
    if tx.execute(started).scalar_one() >= STARTED_CHECKOUTS_MAX:
        raise LimitReached(
            f"You started {STARTED_CHECKOUTS_MAX} purchases in the last hour without paying."
            " Pay for one of your open orders, or try again in an hour."
        )


def _require_not_of_another_order(tx: sa.Connection, order: Order, facts: Payment, *, payment_id: str | None) -> None:
    """Raise `AlreadyExists` if the payment or a dispute belongs to another order.

    Two concurrent transactions can pass this check. The unique constraints then reject the second, and its retry fails
    here.
    """
    if payment_id is not None:
        other = tx.scalar(sa.select(pack_order.c.id).where(pack_order.c.payment_id == payment_id))
        if other not in {None, order.id}:
            raise AlreadyExists(f"the payment {payment_id} belongs to {other}, not to {order.id}")
    for dispute in facts.disputes:
        other = tx.scalar(sa.select(order_dispute.c.order_id).where(order_dispute.c.id == dispute.id))
        if other not in {None, order.id}:
            raise AlreadyExists(f"the dispute {dispute.id} belongs to {other}, not to {order.id}")


def _store_payment(tx: sa.Connection, order: Order, payment: Payment, *, payment_id: str | None, now_us: int) -> None:
    values: dict[str, object] = {
        "is_complete": int(payment.is_complete),
        "paid_cents": payment.paid_cents,
        "tax_cents": payment.tax_cents,
        "decline_code": payment.decline_code,
        "refunded_cents": payment.refunded_cents,
        "outcome": payment.outcome,
        "payment_id": order.payment_id or payment_id,
    }
    if order.paid_at_us is None and payment.paid_cents is not None:
        values["paid_at_us"] = now_us
    tx.execute(sa.update(pack_order).where(pack_order.c.id == order.id).values(**values))
    existing_ids = {dispute.id for dispute in order.payment.disputes}
    for dispute in payment.disputes:
        changes = {"cents": dispute.cents, "status": dispute.status}
        if dispute.id in existing_ids:
            tx.execute(sa.update(order_dispute).where(order_dispute.c.id == dispute.id).values(**changes))
        else:
            tx.execute(sa.insert(order_dispute).values(id=dispute.id, order_id=order.id, **changes))


def _append_entries_due(tx: sa.Connection, order: Order, due: Applied, *, now_us: int) -> None:
    """Append the entries for the tokens due. The caller has locked the account."""
    of_debt = debt.c.account_id == order.account_id, debt.c.token_class == order.token_class
    debt_tokens = tx.scalar(sa.select(debt.c.tokens).where(*of_debt)) or 0
    of_wallet = wallet.c.account_id == order.account_id, wallet.c.token_class == order.token_class
    row = tx.execute(sa.select(wallet.c.posted, wallet.c.pending).where(*of_wallet)).one_or_none()
    balance = EMPTY if row is None else Balance(posted=row.posted, pending=row.pending)
    plan = plan_entries(order.applied, due, balance=balance, debt=debt_tokens)
    for entry in plan.entries:
        append_entry(
            tx,
            account_id=order.account_id,
            kind=entry.kind,
            amount=entry.amount,
            token_class=order.token_class,
            reason=DEBT_COVERED if entry.kind is EntryKind.ADJUSTMENT else order.pack_name,
            now_us=now_us,
            order_id=order.id,
        )
    if plan.debt != debt_tokens:
        tx.execute(sa.delete(debt).where(*of_debt))
        owed = {"account_id": order.account_id, "token_class": order.token_class, "tokens": plan.debt}
        tx.execute(sa.insert(debt).values(owed))
    applied = {
        "purchase_applied": plan.applied.purchase,
        "refund_applied": plan.applied.refund,
        "dispute_applied": plan.applied.dispute,
    }
    tx.execute(sa.update(pack_order).where(pack_order.c.id == order.id).values(**applied))


def _get(tx: sa.Connection, order_id: str) -> Order:
    return _only(tx, sa.select(pack_order).where(pack_order.c.id == order_id))


def _only(tx: sa.Connection, query: sa.Select[Any]) -> Order:
    """The order that the query finds. Raises `NotFound`."""
    for order in _find(tx, query):
        return order
    raise NotFound("There is no such order.")


def _find(tx: sa.Connection, query: sa.Select[Any]) -> list[Order]:
    """Return the orders of the whole rows that the query selects, in its order."""
    rows = tx.execute(query).all()
    is_of_order = order_dispute.c.order_id.in_([row.id for row in rows])
    disputes: dict[str, list[Dispute]] = {row.id: [] for row in rows}
    for dispute in tx.execute(sa.select(order_dispute).where(is_of_order).order_by("id")):
        status = DisputeStatus(dispute.status)
        disputes[dispute.order_id].append(Dispute(id=dispute.id, cents=dispute.cents, status=status))
    return [_order(row, disputes[row.id]) for row in rows]


def _order(row: sa.Row[Any], disputes: list[Dispute]) -> Order:
    payment = Payment(
        is_complete=bool(row.is_complete),
        paid_cents=row.paid_cents,
        tax_cents=row.tax_cents,
        decline_code=row.decline_code,
        refunded_cents=row.refunded_cents,
        disputes=tuple(disputes),
        outcome=None if row.outcome is None else UnpaidReason(row.outcome),
    )
    return Order(
        id=row.id,
        account_id=row.account_id,
        pack_id=row.pack_id,
        pack_name=row.pack_name,
        token_class=row.token_class,
        tokens=row.tokens,
        price_cents=row.price_cents,
        currency=row.currency,
        created_at_us=row.created_at_us,
        quantity=row.quantity,
        billing=NO_DETAILS if row.billing is None else msgspec.json.decode(row.billing, type=BillingDetails),
        checkout_id=row.checkout_id,
        payment_id=row.payment_id,
        paid_at_us=row.paid_at_us,
        payment=payment,
        applied=Applied(purchase=row.purchase_applied, refund=row.refund_applied, dispute=row.dispute_applied),
    )
