"""Accounts and API keys in SQL, behind the `Accounts` port."""

import os
from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import append_entry, insert_wallet, lock_open_account
from tok0n.adapters.sql.repositories import forms
from tok0n.adapters.sql.schema import account, api_key, key_budget, key_secret, wallet
from tok0n.adapters.sql.shared_callers import names_of
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain import ids
from tok0n.domain.accounts import Account, ApiKey, KeyLimits, KeySecret
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.errors import AlreadyExists, LimitReached, NotFound
from tok0n.domain.forms import Submission
from tok0n.domain.ledger import STANDARD, Balance, EntryKind

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
            return find_account(tx, email)

        return await self._store.write(fn)

    async def get(self, email: str) -> Account:
        return await self._store.read(lambda tx: find_account(tx, email))

    async def list_all(self) -> list[Account]:
        """See `ports.Accounts.list_all`."""
        query = sa.select(account).order_by(account.c.created_at_us, account.c.id)
        return await self._store.read(lambda tx: _accounts(tx, query))

    async def grant(self, *, email: str, tokens: int, reason: str, now_us: int, token_class: str = STANDARD) -> Account:
        def fn(tx: sa.Connection) -> Account:
            append_entry(
                tx,
                account_id=find_account(tx, email).id,
                kind=EntryKind.GRANT,
                amount=tokens,
                token_class=token_class,
                reason=reason,
                now_us=now_us,
            )
            return find_account(tx, email)

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
            key = {"id": key_id, "account_id": account_id, "name": name, "created_at_us": now_us}
            tx.execute(sa.insert(api_key).values(**key, **_columns(limits)))
            secret = {"digest": digest, "prefix": prefix, "last_four": last_four, "created_at_us": now_us}
            tx.execute(sa.insert(key_secret).values(**secret, api_key_id=key_id))
            _insert_budgets(tx, key_id, limits.budgets, now_us=now_us)
            return find_key(tx, account_id=account_id, key_id=key_id)

        return await self._store.write(fn)

    async def list_keys(self, account_id: str) -> list[ApiKey]:
        """See `ports.Accounts.list_keys`."""
        query = sa.select(api_key).where(api_key.c.account_id == account_id)
        query = query.order_by(api_key.c.created_at_us, api_key.c.id)
        return await self._store.read(lambda tx: _keys(tx, query))

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
        for key in await self._store.read(lambda tx: _keys(tx, query)):
            return key
        raise NotFound(f"There is no API key {key_id}. To see the ids, run tok0n keys list EMAIL.")

    async def revoke_key(self, *, account_id: str, key_id: str, now_us: int) -> ApiKey:
        """See `ports.Accounts.revoke_key`."""

        def fn(tx: sa.Connection) -> ApiKey:
            key = find_key(tx, account_id=account_id, key_id=key_id)
            if not key.is_revoked:
                tx.execute(
                    sa.update(api_key)
                    .where(api_key.c.id == key_id, api_key.c.revoked_at_us.is_(None))
                    .values(revoked_at_us=now_us, version=api_key.c.version + 1)
                )
            return find_key(tx, account_id=account_id, key_id=key_id)

        return await self._store.write(fn)


def insert_account(tx: sa.Connection, *, email: str, now_us: int) -> str:
    """Open an account without tokens, and return its id."""
    account_id = ids.account_id(os.urandom(ids.RANDOM_BYTES))
    tx.execute(sa.insert(account).values(id=account_id, email=email, status="open", created_at_us=now_us))
    insert_wallet(tx, account_id, STANDARD)
    return account_id


def _exists(email: str) -> AlreadyExists:
    return AlreadyExists(f"An account for {email} already exists. To see it, run tok0n accounts show {email}.")


def find_account(tx: sa.Connection, email: str) -> Account:
    """Return the account of an email address. Raises `NotFound`."""
    for found in _accounts(tx, sa.select(account).where(account.c.email == email)):
        return found
    raise NotFound(f"There is no account for {email}. To create it, run tok0n accounts create {email}.")


def _active_keys(tx: sa.Connection, account_id: str, *, now_us: int) -> int:
    """Count the account's keys that are neither revoked nor expired. The caller has locked the account."""
    query = sa.select(sa.func.count()).where(api_key.c.account_id == account_id, _is_active(now_us))
    return tx.execute(query).scalar_one()


def _is_active(now_us: int) -> sa.ColumnElement[bool]:
    expires_at_us = api_key.c.expires_at_us
    return sa.and_(api_key.c.revoked_at_us.is_(None), sa.or_(expires_at_us.is_(None), expires_at_us > now_us))


def _accounts(tx: sa.Connection, query: "sa.Select[Any]") -> list[Account]:
    """Return the accounts of the rows that `query` selects, in its order."""
    rows = tx.execute(query).all()
    selected = query.with_only_columns(account.c.id).order_by(None)
    wallets: dict[str, dict[str, Balance]] = {row.id: {} for row in rows}
    of_accounts = sa.select(wallet).where(wallet.c.account_id.in_(selected))
    for row in tx.execute(of_accounts.order_by(wallet.c.account_id, wallet.c.token_class)):
        wallets[row.account_id][row.token_class] = Balance(posted=row.posted, pending=row.pending)
    return [
        Account(id=row.id, email=row.email, status=row.status, wallets=wallets[row.id], created_at_us=row.created_at_us)
        for row in rows
    ]


def find_key(tx: sa.Connection, *, account_id: str, key_id: str) -> ApiKey:
    """Return a key of the account. Raises `NotFound`."""
    for key in _keys(tx, sa.select(api_key).where(api_key.c.id == key_id, api_key.c.account_id == account_id)):
        return key
    raise NotFound("There is no such API key in this account.")


def _keys(tx: sa.Connection, query: "sa.Select[Any]") -> list[ApiKey]:
    """Return the keys of the rows that `query` selects, in its order."""
    rows = tx.execute(query).all()
    selected = query.with_only_columns(api_key.c.id).order_by(None)
    secrets: dict[str, list[KeySecret]] = {row.id: [] for row in rows}
    of_keys = sa.select(key_secret).where(key_secret.c.api_key_id.in_(selected))
    for row in tx.execute(of_keys.order_by(key_secret.c.created_at_us.desc(), key_secret.c.digest)):
        secret = KeySecret(
            prefix=row.prefix, last_four=row.last_four, created_at_us=row.created_at_us, ends_at_us=row.ends_at_us
        )
        secrets[row.api_key_id].append(secret)
    budgets: dict[str, list[KeyBudget]] = {row.id: [] for row in rows}
    for row in tx.execute(
        sa.select(key_budget).where(key_budget.c.api_key_id.in_(selected)).order_by(key_budget.c.created_at_us, "id")
    ):
        budgets[row.api_key_id].append(_budget(row))
    return [_key(row, tuple(secrets[row.id]), tuple(budgets[row.id])) for row in rows]


def _budget(row: sa.Row[Any]) -> KeyBudget:
    return KeyBudget(
        id=row.id,
        tokens=row.tokens,
        period=ResetPeriod(row.period),
        token_class=row.token_class,
        time_zone=row.time_zone,
    )


def _key(row: sa.Row[Any], secrets: tuple[KeySecret, ...], budgets: tuple[KeyBudget, ...]) -> ApiKey:
    limits = KeyLimits(
        expires_at_us=row.expires_at_us,
        budgets=budgets,
        models=names_of(row.models),
        endpoints=names_of(row.endpoints),
        networks=names_of(row.networks),
        requests_per_minute=row.requests_per_minute,
    )
    return ApiKey(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        version=row.version,
        secrets=secrets,
        created_at_us=row.created_at_us,
        revoked_at_us=row.revoked_at_us,
        disabled_at_us=row.disabled_at_us,
        last_used_at_us=row.last_used_at_us,
        limits=limits,
        note=row.note,
    )


def _columns(limits: KeyLimits) -> dict[str, object]:
    """Return the columns of `api_key` for the limits, except budgets."""
    lists = {"models": limits.models, "endpoints": limits.endpoints, "networks": limits.networks}
    columns: dict[str, object] = {
        name: None if names is None else msgspec.json.encode(names).decode() for name, names in lists.items()
    }
    return columns | {"expires_at_us": limits.expires_at_us, "requests_per_minute": limits.requests_per_minute}


def _insert_budgets(tx: sa.Connection, key_id: str, budgets: Iterable[KeyBudget], *, now_us: int) -> None:
    for budget in budgets:
        values = {"id": budget.id, "tokens": budget.tokens, "period": budget.period, "time_zone": budget.time_zone}
        row = {**values, "token_class": budget.token_class, "api_key_id": key_id, "created_at_us": now_us}
        tx.execute(sa.insert(key_budget).values(row))
