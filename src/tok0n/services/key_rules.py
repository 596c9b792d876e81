"""Check what a key may be limited to, before anything is written. Each check raises `InvalidRequest`."""

import ipaddress
from collections.abc import Collection, Iterable

from tok0n.domain import client_ip
from tok0n.domain.budgets import BUDGETS_MAX, BudgetDraft
from tok0n.domain.endpoints import BY_NAME
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.catalogue import Catalogue
from tok0n.services.checks import check_count, check_optional_count

NAME_CHARACTERS_MAX = 100
NOTE_CHARACTERS_MAX = 500
NETWORKS_MAX = 50
"""The most networks that a key can be limited to. Each request compares its client IP with all of them."""

OVERLAP_DAYS_MAX = 7
"""The longest time that the old secrets of a rotated key still work."""


def check_name(name: str) -> str:
    """Return a key's name without surrounding spaces."""
    name = name.strip()
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidRequest(f"A key name must be 1 to {NAME_CHARACTERS_MAX} printable characters.", param="name")
    return name


def check_note(note: str) -> str:
    """Return a key's note without surrounding spaces. It may be empty."""
    note = note.strip()
    if len(note) > NOTE_CHARACTERS_MAX or not note.isprintable():
        raise InvalidRequest(f"A note must be at most {NOTE_CHARACTERS_MAX} printable characters.", param="note")
    return note


def check_overlap(days: int) -> int:
    """Return the days that the old secrets of a rotated key still work."""
    if not 0 <= days <= OVERLAP_DAYS_MAX:
        raise InvalidRequest(f"Enter a whole number of days from 0 to {OVERLAP_DAYS_MAX}.", param="overlap_days")
    return days


def check_rate(requests_per_minute: int | None, *, most: int) -> int | None:
    """Return the requests per minute of a key, or None for those of the installation, which are `most`."""
    return check_optional_count(requests_per_minute, most=most, param="requests_per_minute")


def check_models(
    models: Iterable[str], catalogue: Catalogue, *, is_operator: bool, current: Collection[str] = ()
) -> tuple[str, ...] | None:
    """Return the allowed models, each once, or None for all. Also raises `NotFound`.

    Users can choose the listed models, and the operator those that the settings declare. The `current` ones of a key
    may stay.
    """
    names = tuple(dict.fromkeys(models))
    for name in names:
        if name in current:
            continue
        if is_operator:
            catalogue.get_declared(name)
        elif catalogue.find(name) is None:
            raise InvalidRequest(f"The model {name} is no longer available. Choose again.", param="models")
    return names or None


def check_endpoints(endpoints: Iterable[str]) -> tuple[str, ...] | None:
    """Return the allowed endpoints, each once, or None for all."""
    names = tuple(dict.fromkeys(endpoints))
    for name in names:
        if name not in BY_NAME:
            message = f"There is no endpoint {name}. Choose from {', '.join(BY_NAME)}."
            raise InvalidRequest(message, param="endpoints")
    return names or None


def check_networks(networks: Iterable[str]) -> tuple[str, ...] | None:
    """Return the allowed networks in CIDR notation, each once, or None for all. An address is a network of one."""
    names = tuple(dict.fromkeys(_network(text.strip()) for text in networks))
    if len(names) > NETWORKS_MAX:
        raise InvalidRequest(f"A key can have at most {NETWORKS_MAX} networks.", param="networks")
    return names or None


def check_budgets(drafts: Iterable[BudgetDraft], token_classes: Collection[str]) -> tuple[BudgetDraft, ...]:
    """Return the budgets of a key: at most `BUDGETS_MAX`, and at most one for each period and class."""
    budgets = tuple(drafts)
    if len(budgets) > BUDGETS_MAX:
        raise InvalidRequest(f"A key can have at most {BUDGETS_MAX} budgets.", param="budget")
    seen = set()
    for budget in budgets:
        check_count(budget.tokens, most=TOKENS_MAX, param="budget")
        token_class = budget.token_class
        if token_class is not None and token_class not in token_classes:
            message = f"There is no token class {token_class}. Choose from {', '.join(token_classes)}."
            raise InvalidRequest(message, param="budget")
        if (budget.period, token_class) in seen:
            of_class = "" if token_class is None else f" and the class {token_class}"
            message = f"A key can have only one budget for the period {budget.period}{of_class}."
            raise InvalidRequest(message, param="budget")
        seen.add((budget.period, token_class))
    return budgets


def _network(text: str) -> str:
    try:
        return str(client_ip.parse_network(text))
    except ValueError:
        raise InvalidRequest(f"{text[:80]} is not an IP network.{_advice(text)}", param="networks") from None


def _advice(text: str) -> str:
    """Return what to enter instead."""
    try:
        return f" Did you mean {ipaddress.ip_network(text, strict=False)}, or the address without the prefix length?"
    except ValueError:
        return " Enter an address such as 203.0.113.7, or a network such as 203.0.113.0/24 or 2001:db8::/48."
