"""API keys in SQL, as functions of a transaction. Each change appends a row to the activity of the account."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import lock_budgets
from tok0n.adapters.sql.new_entries import Alert, check_again
from tok0n.adapters.sql.repositories import activity
from tok0n.adapters.sql.repositories.notices import append_notice
from tok0n.adapters.sql.schema import account, api_key, key_budget, key_secret, users
from tok0n.adapters.sql.shared_callers import names_of
from tok0n.domain import ids, key_edits
from tok0n.domain.accounts import ApiKey, KeyLimits, KeySecret
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.errors import InvalidRequest, LimitReached, NotFound
from tok0n.domain.notices import NoticeEvent

NO_SUCH_KEY = "There is no such API key in this account."


class NewSecret(NamedTuple):
    """What the database stores of a new secret."""

    digest: bytes
    prefix: str
    last_four: str


def new_id() -> str:
    """Return the id of a new key."""
    return ids.api_key_id(os.urandom(ids.RANDOM_BYTES))


def new_budget_id() -> str:
    """Return the id of a new budget."""
    return ids.budget_id(os.urandom(ids.RANDOM_BYTES))


def insert(
    tx: sa.Connection, values: dict[str, Any], secret: NewSecret, limits: KeyLimits, *, actor: str, now_us: int
) -> ApiKey:
    """Insert a key, and return it. `values` has its other columns."""
    tx.execute(sa.insert(api_key).values(**values, created_at_us=now_us, **_limit_columns(limits)))
    _insert_secret(tx, values["id"], secret, now_us=now_us)
    _insert_budgets(tx, values["id"], limits.budgets, now_us=now_us)
    key = find(tx, account_id=values["account_id"], key_id=values["id"])
    after = key_edits.members(key) | {"secret": key.shown_as}
    _notify(tx, NoticeEvent.KEY_CREATED, key, actor=actor, now_us=now_us)
    _record(tx, key, action="key_created", actor=actor, before={}, after=after, now_us=now_us)
    return key


def require_room(tx: sa.Connection, account_id: str, *, keys_max: int, now_us: int) -> None:
    """Raise `LimitReached` if the account has `keys_max` active keys. The caller has locked the account."""
    expires_at_us = api_key.c.expires_at_us
    is_active = sa.and_(api_key.c.revoked_at_us.is_(None), sa.or_(expires_at_us.is_(None), expires_at_us > now_us))
    query = sa.select(sa.func.count()).where(api_key.c.account_id == account_id, is_active)
    if tx.execute(query).scalar_one() >= keys_max:
        raise LimitReached(f"The account has {keys_max} active API keys, the maximum. Revoke one first.")


def find(tx: sa.Connection, *, account_id: str, key_id: str) -> ApiKey:
    """Return a key of the account. Raises `NotFound`."""
    for key in select(tx, sa.select(api_key).where(api_key.c.id == key_id, api_key.c.account_id == account_id)):
        return key
    raise NotFound(NO_SUCH_KEY)


def lock(tx: sa.Connection, *, account_id: str, key_id: str) -> ApiKey:
    """Return a key of the account, and lock its row until the transaction ends. Raises `NotFound`."""
    query = sa.select(api_key.c.id).where(api_key.c.id == key_id, api_key.c.account_id == account_id)
    tx.execute(query.with_for_update(key_share=True)).all()
    return find(tx, account_id=account_id, key_id=key_id)


def lock_unrevoked(tx: sa.Connection, *, account_id: str, key_id: str) -> ApiKey:
    """Lock a key that can still be changed, as `lock` does. Raises `InvalidRequest` if it is revoked."""
    key = lock(tx, account_id=account_id, key_id=key_id)
    if key.is_revoked:
        raise InvalidRequest("This API key is revoked, which is permanent. Create another key.")
    return key


def update(tx: sa.Connection, before: ApiKey, after: ApiKey, *, actor: str, now_us: int) -> ApiKey:
    """Write the members of a locked key that differ, and return the key. Writes nothing if none does.

    A new name or note does not change what the key may do, so it keeps the version.
    """
    old_members, new_members = key_edits.differences(before, after)
    if not new_members:
        return before
    _update_budgets(tx, before, after, now_us=now_us)
    if "budgets" in new_members:
        check_again(tx, before.account_id, Alert.BUDGET)
    old, new = _columns(before), _columns(after)
    changed: dict[str, Any] = {name: new[name] for name in new if new[name] != old[name]}
    if new_members.keys() - {"name", "note"}:
        changed["version"] = api_key.c.version + 1
    tx.execute(sa.update(api_key).where(api_key.c.id == before.id).values(**changed))
    _record(tx, before, action="key_edited", actor=actor, before=old_members, after=new_members, now_us=now_us)
    return find(tx, account_id=before.account_id, key_id=before.id)


def rotate(
    tx: sa.Connection,
    key: ApiKey,
    secret: NewSecret,
    *,
    ends_at_us: int,
    secrets_max: int,
    actor: str,
    now_us: int,
) -> ApiKey:
    """Add a secret to a locked key, and end the others at `ends_at_us`, unless they end earlier.

    Deletes the secrets that have ended. Raises `LimitReached` if more than `secrets_max` would work.
    """
    columns = key_secret.c
    is_of_key = columns.api_key_id == key.id
    ends_later = sa.and_(is_of_key, sa.or_(columns.ends_at_us.is_(None), columns.ends_at_us > ends_at_us))
    tx.execute(sa.update(key_secret).where(ends_later).values(ends_at_us=ends_at_us))
    tx.execute(sa.delete(key_secret).where(is_of_key, columns.ends_at_us <= now_us))
    _insert_secret(tx, key.id, secret, now_us=now_us)
    tx.execute(sa.update(api_key).where(api_key.c.id == key.id).values(version=api_key.c.version + 1))
    rotated = find(tx, account_id=key.account_id, key_id=key.id)
    if len(rotated.secrets) > secrets_max:
        raise LimitReached(
            f"This API key has {secrets_max} secrets that still work, the maximum. Choose an overlap of 0 days."
        )
    old = {"secrets": [secret.shown_as for secret in key.secrets if secret.is_active(now_us)]}
    ends = [{"secret": each.shown_as, "ends_at": key_edits.iso_time(each.ends_at_us)} for each in rotated.secrets]
    _notify(tx, NoticeEvent.KEY_ROTATED, rotated, actor=actor, now_us=now_us)
    _record(tx, key, action="key_rotated", actor=actor, before=old, after={"secrets": ends}, now_us=now_us)
    return rotated


def revoke(tx: sa.Connection, key: ApiKey, *, actor: str, now_us: int) -> ApiKey:
    """Revoke a locked key, and return it. A revoked key stays as it is."""
    if key.is_revoked:
        return key
    values = {"revoked_at_us": now_us, "version": api_key.c.version + 1}
    tx.execute(sa.update(api_key).where(api_key.c.id == key.id).values(**values))
    revoked_at = {"revoked_at": key_edits.iso_time(now_us)}
    _record(tx, key, action="key_revoked", actor=actor, before={"revoked_at": None}, after=revoked_at, now_us=now_us)
    return find(tx, account_id=key.account_id, key_id=key.id)


def select(tx: sa.Connection, query: "sa.Select[Any]") -> list[ApiKey]:
    """Return the keys of the rows that `query` selects, in its order."""
    rows = tx.execute(query).all()
    selected = query.with_only_columns(api_key.c.id).order_by(None)
    secrets: dict[str, list[KeySecret]] = {row.id: [] for row in rows}
    of_keys = sa.select(key_secret).where(key_secret.c.api_key_id.in_(selected))
    # Of secrets of the same time, the one that lasts longest is the newest.
    ends_last = sa.func.coalesce(key_secret.c.ends_at_us, _NEVER_US).desc()
    for row in tx.execute(of_keys.order_by(key_secret.c.created_at_us.desc(), ends_last, key_secret.c.digest)):
        secret = KeySecret(
            prefix=row.prefix, last_four=row.last_four, created_at_us=row.created_at_us, ends_at_us=row.ends_at_us
        )
        secrets[row.api_key_id].append(secret)
    budgets = budgets_by_key(tx, selected)
    return [_key(row, tuple(secrets[row.id]), tuple(budgets.get(row.id, ()))) for row in rows]


def budgets_by_key(tx: sa.Connection, key_ids: "sa.Select[Any]") -> dict[str, list[KeyBudget]]:
    """Return the budgets of each key that has any. `key_ids` selects the ids of the keys."""
    budgets: dict[str, list[KeyBudget]] = {}
    rows = tx.execute(sa.select(key_budget).where(key_budget.c.api_key_id.in_(key_ids))).all()
    for row in sorted(rows, key=_budget_order):
        budgets.setdefault(row.api_key_id, []).append(budget_of(row))
    return budgets


_NEVER_US = 2**62
_PERIODS = list(ResetPeriod)


def _budget_order(row: sa.Row[Any]) -> tuple[int, int, str]:
    """Return the sort key of a budget: those of the same edit are shown from the total to the month."""
    return row.created_at_us, _PERIODS.index(row.period), row.token_class or ""


def budget_of(row: sa.Row[Any]) -> KeyBudget:
    """Convert a row with the columns of `key_budget`."""
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


def _record(
    tx: sa.Connection,
    key: ApiKey,
    *,
    action: str,
    actor: str,
    before: dict[str, Any],
    after: dict[str, Any],
    now_us: int,
) -> None:
    activity.append(
        tx,
        account_id=key.account_id,
        api_key_id=key.id,
        action=action,
        actor=actor,
        before=before,
        after=after,
        now_us=now_us,
    )


def _notify(tx: sa.Connection, event: NoticeEvent, key: ApiKey, *, actor: str, now_us: int) -> None:
    """Store a notice of a new secret for the owner. Keys that the operator creates before there is a user have none."""
    is_owned = sa.select(users.c.id).where(users.c.account_id == key.account_id)
    if actor == key_edits.OPERATOR and tx.execute(is_owned).one_or_none() is None:
        return
    email = tx.execute(sa.select(account.c.email).where(account.c.id == key.account_id)).scalar_one()
    fields = {"key_id": key.id, "name": key.name, "secret": key.shown_as, "actor": actor}
    append_notice(tx, event, account_id=key.account_id, email=email, fields=fields, now_us=now_us)


def _columns(key: ApiKey) -> dict[str, object]:
    """Return the columns of `api_key` that an edit can change."""
    return {"name": key.name, "note": key.note, "disabled_at_us": key.disabled_at_us} | _limit_columns(key.limits)


def _limit_columns(limits: KeyLimits) -> dict[str, object]:
    """Return the columns of `api_key` for the limits, except budgets."""
    lists = {"models": limits.models, "endpoints": limits.endpoints, "networks": limits.networks}
    columns: dict[str, object] = {
        name: None if names is None else msgspec.json.encode(names).decode() for name, names in lists.items()
    }
    return columns | {"expires_at_us": limits.expires_at_us, "requests_per_minute": limits.requests_per_minute}


def _insert_secret(tx: sa.Connection, key_id: str, secret: NewSecret, *, now_us: int) -> None:
    tx.execute(sa.insert(key_secret).values(**secret._asdict(), api_key_id=key_id, created_at_us=now_us))


def _insert_budgets(tx: sa.Connection, key_id: str, budgets: Iterable[KeyBudget], *, now_us: int) -> None:
    for budget in budgets:
        values = {"id": budget.id, "tokens": budget.tokens, "period": budget.period, "time_zone": budget.time_zone}
        row = {**values, "token_class": budget.token_class, "api_key_id": key_id, "created_at_us": now_us}
        tx.execute(sa.insert(key_budget).values(row))


def _update_budgets(tx: sa.Connection, before: ApiKey, after: ApiKey, *, now_us: int) -> None:
    """Write the budgets that differ. One whose tokens change keeps its row, so its counters go on."""
    old = {budget.id: budget for budget in before.limits.budgets}
    new = {budget.id: budget for budget in after.limits.budgets}
    lock_budgets(tx, old)
    for budget_id in sorted(old.keys() - new.keys()):
        tx.execute(sa.delete(key_budget).where(key_budget.c.id == budget_id))
    for budget_id in sorted(old.keys() & new.keys()):
        if old[budget_id] != new[budget_id]:
            changed = sa.update(key_budget).where(key_budget.c.id == budget_id)
            tx.execute(changed.values(tokens=new[budget_id].tokens))
    added = [budget for budget in after.limits.budgets if budget.id not in old]
    _insert_budgets(tx, before.id, added, now_us=now_us)
