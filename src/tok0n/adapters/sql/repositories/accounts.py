"""Accounts in SQL, behind the `Accounts` port. `keys` has the transactions of their API keys."""

import os
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import append_entry, insert_wallet, lock_account, lock_open_account
from tok0n.adapters.sql.repositories import forms, keys
from tok0n.adapters.sql.repositories.keys import NewSecret
from tok0n.adapters.sql.schema import account, api_key, wallet
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain import ids
from tok0n.domain.accounts import Account, ApiKey, KeyLimits
from tok0n.domain.errors import AlreadyExists, NotFound
from tok0n.domain.forms import Submission
from tok0n.domain.key_edits import OPERATOR, KeyEdit, apply_edit
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
        note: str = "",
        keys_max: int | None = None,
        actor: str = OPERATOR,
        submission: Submission | None = None,
        sealed: bytes | None = None,
        is_enabled: bool = True,
    ) -> ApiKey:
        secret = NewSecret(digest=digest, prefix=prefix, last_four=last_four)

        def fn(tx: sa.Connection) -> ApiKey:
            lock_open_account(tx, account_id)
            key_id = keys.new_id()
            if submission is not None:
                forms.claim(tx, submission, result=key_id, now_us=now_us, sealed=sealed)
            if keys_max is not None:
                keys.require_room(tx, account_id, keys_max=keys_max, now_us=now_us)
            values: dict[str, Any] = {"id": key_id, "account_id": account_id, "name": name, "note": note}
            values["disabled_at_us"] = None if is_enabled else now_us
            return keys.insert(tx, values, secret, limits, actor=actor, now_us=now_us)

        return await self._store.write(fn)

    async def edit_key(
        self,
        *,
        account_id: str,
        key_id: str,
        edit: KeyEdit,
        actor: str,
        now_us: int,
        time_zone: str,
        keys_max: int,
    ) -> ApiKey:
        def fn(tx: sa.Connection) -> ApiKey:
            _lock_for(tx, account_id, actor)
            before = keys.lock_unrevoked(tx, account_id=account_id, key_id=key_id)
            after = apply_edit(before, edit, time_zone=time_zone, now_us=now_us, new_budget_id=keys.new_budget_id)
            if before.has_expired(now_us) and not after.has_expired(now_us):
                keys.require_room(tx, account_id, keys_max=keys_max, now_us=now_us)
            return keys.update(tx, before, after, actor=actor, now_us=now_us)

        return await self._store.write(fn)

    async def rotate_key(
        self,
        *,
        account_id: str,
        key_id: str,
        digest: bytes,
        prefix: str,
        last_four: str,
        ends_at_us: int,
        secrets_max: int,
        actor: str,
        now_us: int,
        submission: Submission | None = None,
        sealed: bytes | None = None,
    ) -> ApiKey:
        secret = NewSecret(digest=digest, prefix=prefix, last_four=last_four)

        def fn(tx: sa.Connection) -> ApiKey:
            _lock_for(tx, account_id, actor)
            if submission is not None:
                forms.claim(tx, submission, result=key_id, now_us=now_us, sealed=sealed)
            key = keys.lock_unrevoked(tx, account_id=account_id, key_id=key_id)
            return keys.rotate(
                tx, key, secret, ends_at_us=ends_at_us, secrets_max=secrets_max, actor=actor, now_us=now_us
            )

        return await self._store.write(fn)

    async def list_keys(self, account_id: str) -> list[ApiKey]:
        query = sa.select(api_key).where(api_key.c.account_id == account_id)
        query = query.order_by(api_key.c.created_at_us, api_key.c.id)
        return await self._store.read(lambda tx: keys.select(tx, query))

    async def find_key(self, key_id: str) -> ApiKey:
        query = sa.select(api_key).where(api_key.c.id == key_id)
        for key in await self._store.read(lambda tx: keys.select(tx, query)):
            return key
        raise NotFound(f"There is no API key {key_id}. To see the ids, run tok0n keys list EMAIL.")

    async def revoke_key(self, *, account_id: str, key_id: str, now_us: int, actor: str = OPERATOR) -> ApiKey:
        def fn(tx: sa.Connection) -> ApiKey:
            lock_account(tx, account_id)
            return keys.revoke(tx, keys.lock(tx, account_id=account_id, key_id=key_id), actor=actor, now_us=now_us)

        return await self._store.write(fn)


def _lock_for(tx: sa.Connection, account_id: str, actor: str) -> None:
    """Lock the account of a key. Its owner can change keys only while it is open, the operator always."""
    if actor == OPERATOR:
        lock_account(tx, account_id)
    else:
        lock_open_account(tx, account_id)


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
    for match in _accounts(tx, sa.select(account).where(account.c.email == email)):
        return match
    raise NotFound(f"There is no account for {email}. To create it, run tok0n accounts create {email}.")


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
