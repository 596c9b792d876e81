"""Accounts and API keys in SQL, behind the `Accounts` port."""

import os

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import append_entry, lock_open_account
from tok0n.adapters.sql.repositories import forms
from tok0n.adapters.sql.schema import account, api_key
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain import ids
from tok0n.domain.accounts import Account, ApiKey, KeyLimits
from tok0n.domain.errors import AlreadyExists, LimitReached, NotFound
from tok0n.domain.forms import Submission
from tok0n.domain.ledger import Balance, EntryKind

OPENING_REASON = "opening grant"
_NO_LIMITS = KeyLimits()


class SqlAccounts:
    """The `Accounts` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def create(self, *, email: str, tokens: int, now_us: int) -> Account:
        def fn(tx: sa.Connection) -> Account:
            lock_for(tx, f"account {email}")  # A user who verifies this address may open the account concurrently.
            if tx.scalar(sa.select(account.c.id).where(account.c.email == email)) is not None:
                raise _exists(email)
            try:
                account_id = insert_account(tx, email=email, now_us=now_us)
            except sa.exc.IntegrityError:
                raise _exists(email) from None
            if tokens:
                append_entry(
                    tx,
                    account_id=account_id,
                    kind=EntryKind.GRANT,
                    amount=tokens,
                    reason=OPENING_REASON,
                    now_us=now_us,
                )
            return _get(tx, email)

        return await self._store.write(fn)

    async def get(self, email: str) -> Account:
        return await self._store.read(lambda tx: _get(tx, email))

    async def list_all(self) -> list[Account]:
        """See `ports.Accounts.list_all`."""
        query = sa.select(account).order_by(account.c.created_at_us, account.c.id)
        return await self._store.read(lambda tx: [_account(row) for row in tx.execute(query)])

    async def grant(self, *, email: str, tokens: int, reason: str, now_us: int) -> Account:
        def fn(tx: sa.Connection) -> Account:
            append_entry(
                tx,
                account_id=_get(tx, email).id,
                kind=EntryKind.GRANT,
                amount=tokens,
                reason=reason,
                now_us=now_us,
            )
            return _get(tx, email)

        return await self._store.write(fn)

    async def create_key(
        self,
        *,
        account_id: str,
        name: str,
        digest: bytes,
        prefix: str,
        last_four: str,
        now_us: int,
        limits: KeyLimits = _NO_LIMITS,
        keys_max: int | None = None,
        submission: Submission | None = None,
        sealed: bytes | None = None,
    ) -> ApiKey:
        """See `ports.Accounts.create_key`."""
        key_id = ids.api_key_id(os.urandom(ids.RANDOM_BYTES))

        def fn(tx: sa.Connection) -> ApiKey:
            lock_open_account(tx, account_id)
            if submission is not None:
                forms.claim(tx, submission, result=key_id, now_us=now_us, sealed=sealed)
            if keys_max is not None and _active_keys(tx, account_id, now_us=now_us) >= keys_max:
                raise LimitReached(f"The account has {keys_max} active API keys, the maximum. Revoke one first.")
            row = tx.execute(
                sa.insert(api_key)
                .values(
                    id=key_id,
                    account_id=account_id,
                    name=name,
                    digest=digest,
                    prefix=prefix,
                    last_four=last_four,
                    created_at_us=now_us,
                    expires_at_us=limits.expires_at_us,
                    budget=limits.budget,
                    models=None if limits.models is None else msgspec.json.encode(limits.models).decode(),
                )
                .returning(api_key)
            ).one()
            return key_of_row(row)

        return await self._store.write(fn)

    async def list_keys(self, account_id: str) -> list[ApiKey]:
        """See `ports.Accounts.list_keys`."""
        query = sa.select(api_key).where(api_key.c.account_id == account_id)
        query = query.order_by(api_key.c.created_at_us, api_key.c.id)
        return await self._store.read(lambda tx: [key_of_row(row) for row in tx.execute(query)])

    async def rename_key(self, *, account_id: str, key_id: str, name: str) -> None:
        """See `ports.Accounts.rename_key`."""
        renamed = sa.update(api_key).where(api_key.c.id == key_id, api_key.c.account_id == account_id)

        def fn(tx: sa.Connection) -> None:
            if not tx.execute(renamed.values(name=name)).rowcount:
                raise NotFound("There is no such API key in this account.")

        await self._store.write(fn)

    async def find_key(self, key_id: str) -> ApiKey:
        """See `ports.Accounts.find_key`."""
        query = sa.select(api_key).where(api_key.c.id == key_id)
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        if row is None:
            raise NotFound(f"There is no API key {key_id}. To see the ids, run tok0n keys list EMAIL.")
        return key_of_row(row)

    async def revoke_key(self, *, account_id: str, key_id: str, now_us: int) -> ApiKey:
        """See `ports.Accounts.revoke_key`."""

        def fn(tx: sa.Connection) -> ApiKey:
            row = tx.execute(
                sa.update(api_key)
                .where(api_key.c.id == key_id, api_key.c.account_id == account_id)
                .values(revoked_at_us=sa.func.coalesce(api_key.c.revoked_at_us, now_us))
                .returning(api_key)
            ).one_or_none()
            if row is None:
                raise NotFound("There is no such API key in this account.")
            return key_of_row(row)

        return await self._store.write(fn)


def insert_account(tx: sa.Connection, *, email: str, now_us: int) -> str:
    """Open an account without tokens, and return its id."""
    account_id = ids.account_id(os.urandom(ids.RANDOM_BYTES))
    values = {"id": account_id, "email": email, "status": "open", "posted": 0, "pending": 0}
    tx.execute(sa.insert(account).values(**values, created_at_us=now_us))
    return account_id


def _exists(email: str) -> AlreadyExists:
    return AlreadyExists(f"An account for {email} already exists. To see it, run tok0n accounts show {email}.")


def _get(tx: sa.Connection, email: str) -> Account:
    row = tx.execute(sa.select(account).where(account.c.email == email)).one_or_none()
    if row is None:
        raise NotFound(f"There is no account for {email}. To create it, run tok0n accounts create {email}.")
    return _account(row)


def _active_keys(tx: sa.Connection, account_id: str, *, now_us: int) -> int:
    """Count the account's keys that are neither revoked nor expired. The caller has locked the account."""
    query = sa.select(sa.func.count()).where(api_key.c.account_id == account_id, _is_active(now_us))
    return tx.execute(query).scalar_one()


def _is_active(now_us: int) -> sa.ColumnElement[bool]:
    expires_at_us = api_key.c.expires_at_us
    return sa.and_(api_key.c.revoked_at_us.is_(None), sa.or_(expires_at_us.is_(None), expires_at_us > now_us))


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    return Account(
        id=row.id,
        email=row.email,
        status=row.status,
        balance=Balance(posted=row.posted, pending=row.pending),
        created_at_us=row.created_at_us,
    )


def key_of_row(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    """Convert a complete row of `api_key`."""
    return ApiKey(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        prefix=row.prefix,
        last_four=row.last_four,
        created_at_us=row.created_at_us,
        revoked_at_us=row.revoked_at_us,
        last_used_at_us=row.last_used_at_us,
        limits=_limits(row),
    )


def _limits(row: sa.Row[tuple[object, ...]]) -> KeyLimits:
    models = None if row.models is None else msgspec.json.decode(row.models, type=tuple[str, ...])
    return KeyLimits(expires_at_us=row.expires_at_us, budget=row.budget, models=models)
