"""The forms that create and edit an API key: their fields, and the limits that they describe."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from tok0n.domain.accounts import ApiKey
from tok0n.domain.budgets import BUDGETS_MAX, BudgetDraft, ResetPeriod
from tok0n.domain.key_edits import KeyEdit
from tok0n.domain.ledger import MICROSECONDS_PER_SECOND
from tok0n.services.api_keys import KeyDraft
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.periods import read_time
from tok0n.web.dashboard.submissions import parse_whole_number, whole_number
from tok0n.web.rendering.charts import datetime_field
from tok0n.web.rendering.filters import zone_of
from tok0n.web.rendering.page_request import PageRequest

EMPTY_BUDGET_ROWS = 2
"""How many empty rows for further budgets the form has."""


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of one budget."""

    tokens: str = ""
    period: str = ResetPeriod.TOTAL
    token_class: str = ""


class KeyFields(msgspec.Struct, frozen=True, kw_only=True):
    """The values of the inputs. `days` is on the form that creates a key, `expires` on the one that edits it."""

    name: str = ""
    note: str = ""
    days: str = ""
    expires: str = ""
    requests_per_minute: str = ""
    networks: str = ""
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    budgets: tuple[BudgetRow, ...] = ()

    @property
    def has_budget_class(self) -> bool:
        """Whether a budget counts one class of tokens, even if there is only one class to choose."""
        return any(row.token_class for row in self.budgets)

    @property
    def budget_rows(self) -> list[BudgetRow]:
        """The rows to show: the budgets, and empty ones for more."""
        rows = list(self.budgets)
        return rows + [BudgetRow()] * min(EMPTY_BUDGET_ROWS, BUDGETS_MAX - len(rows))


def fields_of_key(key: ApiKey, page: PageRequest) -> KeyFields:
    """Return the values that describe a key, with times in the user's time zone."""
    limits = key.limits
    return KeyFields(
        name=key.name,
        note=key.note,
        expires=_expires_field(key, page),
        requests_per_minute="" if limits.requests_per_minute is None else str(limits.requests_per_minute),
        networks="\n".join(limits.networks or ()),
        models=limits.models or (),
        endpoints=limits.endpoints or (),
        budgets=tuple(
            BudgetRow(tokens=str(budget.tokens), period=budget.period, token_class=budget.token_class or "")
            for budget in limits.budgets
        ),
    )


def fields_of_form(page: PageRequest) -> KeyFields:
    """Return the values that the user entered."""
    rows = zip(*_budget_columns(page), strict=False)
    names = ("name", "note", "days", "expires", "requests_per_minute", "networks")
    return KeyFields(
        **{name: page.form.get(name, "") for name in names},
        models=tuple(page.choices.get("models", [])),
        endpoints=tuple(page.choices.get("endpoints", [])),
        budgets=tuple(
            BudgetRow(tokens=tokens, period=period, token_class=token_class)
            for tokens, period, token_class in rows
            if tokens.strip()
        )[:BUDGETS_MAX],
    )


def draft_of(page: PageRequest) -> KeyDraft:
    """Return the key that the form describes. Raises `FormError`."""
    return KeyDraft(
        name=page.form.get("name", ""),
        note=page.form.get("note", ""),
        days=whole_number(page, "days"),
        budgets=_budgets(page),
        models=tuple(page.choices.get("models", [])),
        endpoints=tuple(page.choices.get("endpoints", [])),
        networks=_networks(page),
        requests_per_minute=whole_number(page, "requests_per_minute"),
    )


def edit_of(page: PageRequest, key: ApiKey) -> KeyEdit:
    """Return the edit in the form of a key. Raises `FormError`, including if the key has changed meanwhile."""
    version = page.form.get("version", "")
    if version != str(key.version):
        raise FormError(
            "This key has changed since you opened the page. Check the values and save again.", field="name"
        )
    expires = page.form.get("expires", "")
    is_same_expiry = expires == _expires_field(key, page)  # The input has no seconds.
    return KeyEdit(
        name=page.form.get("name", ""),
        note=page.form.get("note", ""),
        expires_at_us=UNSET
        if is_same_expiry
        else read_time(expires, name="expires", zone=zone_of(page.session.time_zone)),
        budgets=_budgets(page),
        models=tuple(page.choices.get("models", [])) or None,
        endpoints=tuple(page.choices.get("endpoints", [])) or None if "has_endpoints" in page.form else UNSET,
        networks=_networks(page) or None,
        requests_per_minute=whole_number(page, "requests_per_minute"),
    )


def _expires_field(key: ApiKey, page: PageRequest) -> str:
    expires_at_us = key.limits.expires_at_us
    if expires_at_us is None:
        return ""
    zone = zone_of(page.session.time_zone)
    return datetime_field(datetime.fromtimestamp(expires_at_us / MICROSECONDS_PER_SECOND, zone))


def _networks(page: PageRequest) -> tuple[str, ...]:
    return tuple(page.form.get("networks", "").replace(",", " ").split())


def _budget_columns(page: PageRequest) -> list[list[str]]:
    """Return the tokens, periods and classes of the budgets. Without several classes, the form has no input for one."""
    tokens = page.choices.get("budget_tokens", [])
    return [
        tokens,
        page.choices.get("budget_period", []),
        page.choices.get("budget_class", [""] * len(tokens)),
    ]


def _budgets(page: PageRequest) -> tuple[BudgetDraft, ...]:
    columns = _budget_columns(page)
    if len({len(column) for column in columns}) > 1:
        raise FormError("This form is incomplete. Reload the page and try again.", field="budget")
    drafts = []
    for text, period, token_class in zip(*columns, strict=True):
        tokens = parse_whole_number(text, field="budget")
        if tokens is None:
            continue
        values: dict[str, Any] = {"tokens": tokens, "token_class": token_class or None}
        if period not in list(ResetPeriod):
            raise FormError("Choose how often the budget resets.", field="budget")
        drafts.append(BudgetDraft(**values, period=ResetPeriod(period)))
    return tuple(drafts)
