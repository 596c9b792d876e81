"""Edits of an API key: what an edit changes, as a pure function, and how the activity log shows a key."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.budgets import BudgetDraft, KeyBudget

OPERATOR = "operator"
"""The actor of a change by the command line. A user's changes have the email address as their actor."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class KeyEdit(msgspec.Struct, frozen=True, kw_only=True):
    """The members of a key to change. None removes a limit, and UNSET changes nothing.

    `budgets` replaces all budgets. One with the period and class of an existing budget changes only its tokens.
    """

    name: str | UnsetType = UNSET
    note: str | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET
    expires_at_us: int | UnsetType | None = UNSET
    budgets: tuple[BudgetDraft, ...] | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType | None = UNSET
    endpoints: tuple[str, ...] | UnsetType | None = UNSET
    networks: tuple[str, ...] | UnsetType | None = UNSET
    requests_per_minute: int | UnsetType | None = UNSET


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One change in an account: who changed what, and when. `before` and `after` have the changed members only.

    `id` counts the changes of the account from 1. `key_name` is the current name of the key. None of it contains a
    secret.
    """

    id: int
    action: str
    actor: str
    api_key_id: str | None
    key_name: str | None
    before: dict[str, Any]
    after: dict[str, Any]
    created_at_us: int


def apply_edit(key: ApiKey, edit: KeyEdit, *, time_zone: str, now_us: int, new_budget_id: Callable[[], str]) -> ApiKey:
    """Return the key after an edit. New budgets reset at midnight in `time_zone`. The version stays the same."""
    limits = key.limits
    disabled_at_us = key.disabled_at_us
    if edit.is_enabled is True:
        disabled_at_us = None
    elif edit.is_enabled is False and disabled_at_us is None:
        disabled_at_us = now_us
    budgets = limits.budgets
    if edit.budgets is not UNSET:
        budgets = merge_budgets(budgets, edit.budgets, time_zone=time_zone, new_budget_id=new_budget_id)
    return msgspec.structs.replace(
        key,
        name=_or(edit.name, key.name),
        note=_or(edit.note, key.note),
        disabled_at_us=disabled_at_us,
        limits=KeyLimits(
            expires_at_us=_or(edit.expires_at_us, limits.expires_at_us),
            budgets=budgets,
            models=_or(edit.models, limits.models),
            endpoints=_or(edit.endpoints, limits.endpoints),
            networks=_or(edit.networks, limits.networks),
            requests_per_minute=_or(edit.requests_per_minute, limits.requests_per_minute),
        ),
    )


def merge_budgets(
    budgets: Iterable[KeyBudget],
    drafts: Iterable[BudgetDraft],
    *,
    time_zone: str,
    new_budget_id: Callable[[], str],
) -> tuple[KeyBudget, ...]:
    """Return the budgets of the drafts. One that exists keeps its id, its time zone and so its counters."""
    existing = {(budget.period, budget.token_class): budget for budget in budgets}
    merged = []
    for draft in drafts:
        budget = existing.get((draft.period, draft.token_class))
        if budget is None:
            budget = KeyBudget(
                id=new_budget_id(),
                tokens=draft.tokens,
                period=draft.period,
                token_class=draft.token_class,
                time_zone=time_zone,
            )
        merged.append(msgspec.structs.replace(budget, tokens=draft.tokens))
    return tuple(merged)


def differences(before: ApiKey, after: ApiKey) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the members that differ, before and after, as the activity log shows them."""
    old, new = members(before), members(after)
    changed = [name for name in old if old[name] != new[name]]
    return {name: old[name] for name in changed}, {name: new[name] for name in changed}


def members(key: ApiKey) -> dict[str, Any]:
    """Return everything of a key that can be changed, for the activity log. Times are ISO 8601 in UTC."""
    limits = key.limits
    return {
        "name": key.name,
        "note": key.note,
        "enabled": not key.is_disabled,
        "expires_at": iso_time(limits.expires_at_us),
        "models": limits.models,
        "endpoints": limits.endpoints,
        "networks": limits.networks,
        "requests_per_minute": limits.requests_per_minute,
        "budgets": [_budget(budget) for budget in sorted(limits.budgets, key=lambda budget: budget.id)],
    }


def iso_time(time_us: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC, or None."""
    return None if time_us is None else (_EPOCH + timedelta(microseconds=time_us)).isoformat()


def _budget(budget: KeyBudget) -> dict[str, Any]:
    return {
        "tokens": budget.tokens,
        "period": str(budget.period),
        "token_class": budget.token_class,
        "time_zone": budget.time_zone,
    }


def _or(value: Any, current: Any) -> Any:
    return current if value is UNSET else value
