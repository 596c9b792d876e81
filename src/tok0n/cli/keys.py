"""`tok0n keys`: create, show, edit, rotate and revoke API keys. The activity log names the operator as the actor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from msgspec import UNSET, UnsetType

from tok0n.adapters.clock import SystemClock
from tok0n.bootstrap.resources import Store, open_store
from tok0n.bootstrap.services import make_api_keys
from tok0n.cli.common import format_time, load_settings, print_json, print_table, standard_command
from tok0n.domain.accounts import ApiKey
from tok0n.domain.budgets import KeyBudget, ResetPeriod, parse_budget
from tok0n.domain.email import parse_email
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.history import BudgetUse
from tok0n.domain.key_edits import OPERATOR, KeyEdit
from tok0n.services.api_keys import ApiKeys, IssuedKey, KeyDraft


@click.group()
def keys() -> None:
    """Create, edit, rotate and revoke API keys."""


def _limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the limits of a key."""
    for option in (
        click.option("--note", help="Write a note for yourself."),
        click.option("--expires-in-days", "days", type=int, help="Expire the key after this many days."),
        click.option("--requests-per-minute", "rate", type=int, help="Limit the rate of the key."),
        click.option(
            "--budget",
            "budgets",
            metavar="TOKENS[/PERIOD][:CLASS]",
            multiple=True,
            help="Limit the tokens that the key can spend in each total, day, week or month; repeatable.",
        ),
        click.option("--network", "networks", metavar="CIDR", multiple=True, help="Allow this network; repeatable."),
        click.option("--endpoint", "endpoints", metavar="NAME", multiple=True, help="Allow this endpoint; repeatable."),
        click.option("--model", "models", metavar="ID", multiple=True, help="Allow this model; repeatable."),
    ):
        function = option(function)
    return function


@keys.command("create")
@click.argument("email")
@click.option("--name", default="key", show_default=True, help="Name the key.")
@_limit_options
@click.option("--enable/--disable", "is_enabled", default=True, help="Accept or reject requests with the key.")
@standard_command
async def create_key(
    email: str,
    name: str,
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
    networks: tuple[str, ...],
    budgets: tuple[str, ...],
    rate: int | None,
    days: int | None,
    note: str | None,
    config_path: Path | None,
    *,
    is_enabled: bool,
    as_json: bool,
) -> None:
    """Create an API key for EMAIL and print it once.

    Without limits, the key can do everything. Tok0n stores only a digest of the key.
    """
    settings = load_settings(config_path)
    draft = KeyDraft(
        name=name,
        days=days,
        budgets=tuple(map(parse_budget, budgets)),
        models=models,
        endpoints=endpoints,
        networks=networks,
        requests_per_minute=rate,
        note=note or "",
        is_enabled=is_enabled,
    )
    async with open_store(settings) as store:
        account = await store.accounts.get(parse_email(email))
        issued = await make_api_keys(settings, store).create(account.id, draft)
    _print_issued(issued, "Created key", as_json=as_json)


@keys.command("list")
@click.argument("email")
@standard_command
async def list_keys(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """List the API keys of EMAIL."""
    async with open_store(load_settings(config_path)) as store:
        account = await store.accounts.get(parse_email(email))
        rows = await store.accounts.list_keys(account.id)
    if as_json:
        print_json([_key(key) for key in rows])
        return
    now_us = SystemClock().now_us()
    print_table(
        ("id", "name", "key", "status", "created", "expires", "budgets", "models"),
        [
            (
                key.id,
                key.name,
                key.shown_as,
                _status(key, now_us),
                format_time(key.created_at_us),
                "" if key.limits.expires_at_us is None else format_time(key.limits.expires_at_us),
                ", ".join(map(_budget_text, key.limits.budgets)),
                ", ".join(key.limits.models or ()),
            )
            for key in rows
        ],
    )


@keys.command("show")
@click.argument("key_id")
@standard_command
async def show_key(key_id: str, config_path: Path | None, *, as_json: bool) -> None:
    """Show the API key KEY_ID, its limits, and the use of its budgets."""
    async with open_store(load_settings(config_path)) as store:
        key = await store.accounts.find_key(key_id)
        await _print_key(store, key, as_json=as_json)


@keys.command("edit")
@click.argument("key_id")
@click.option("--name", help="Rename the key.")
@_limit_options
@click.option("--no-budgets", is_flag=True, help="Remove all budgets.")
@click.option("--enable/--disable", "is_enabled", default=None, help="Accept or reject requests with the key.")
@standard_command
async def edit_key(
    key_id: str,
    name: str | None,
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
    networks: tuple[str, ...],
    budgets: tuple[str, ...],
    rate: int | None,
    days: int | None,
    note: str | None,
    config_path: Path | None,
    *,
    no_budgets: bool,
    is_enabled: bool | None,
    as_json: bool,
) -> None:
    """Change the API key KEY_ID. What you don't name stays as it is.

    Each list that you name replaces the current one. An empty value, such as --model "", removes the limit, and so does
    the number 0. A budget that keeps its period and its class keeps what was spent.
    """
    if budgets and no_budgets:
        raise InvalidRequest("Use either --budget or --no-budgets.", param="budget")
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        api_keys = make_api_keys(settings, store)
        edit = KeyEdit(
            name=_or_unset(name),
            note=_or_unset(note),
            is_enabled=_or_unset(is_enabled),
            expires_at_us=_expiry(api_keys, days),
            budgets=UNSET if not budgets and not no_budgets else tuple(map(parse_budget, filter(None, budgets))),
            models=_list(models),
            endpoints=_list(endpoints),
            networks=_list(networks),
            requests_per_minute=UNSET if rate is None else rate or None,
        )
        account_id = (await api_keys.get_any(key_id)).account_id
        key = await api_keys.edit(account_id=account_id, key_id=key_id, edit=edit, actor=OPERATOR)
        await _print_key(store, key, as_json=as_json)


@keys.command("rotate")
@click.argument("key_id")
@click.option("--overlap-days", type=int, default=0, show_default=True, help="Keep the old secret for 0 to 7 days.")
@standard_command
async def rotate_key(key_id: str, overlap_days: int, config_path: Path | None, *, as_json: bool) -> None:
    """Create a second secret for the API key KEY_ID and print it once.

    The key keeps its id, limits and budgets. The old secret works until the overlap ends.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        api_keys = make_api_keys(settings, store)
        account_id = (await api_keys.get_any(key_id)).account_id
        issued = await api_keys.rotate(account_id=account_id, key_id=key_id, overlap_days=overlap_days, actor=OPERATOR)
    _print_issued(issued, "Rotated key", as_json=as_json)


@keys.command("revoke")
@click.argument("key_id")
@standard_command
async def revoke_key(key_id: str, config_path: Path | None, *, as_json: bool) -> None:
    """Revoke the API key KEY_ID permanently.

    Tok0n rejects the next request with the key.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        api_keys = make_api_keys(settings, store)
        account_id = (await api_keys.get_any(key_id)).account_id
        key = await api_keys.revoke(account_id=account_id, key_id=key_id, actor=OPERATOR)
    if as_json:
        print_json(_key(key))
    else:
        click.echo(f"Key {key.id} ({key.name}) was revoked at {format_time(key.revoked_at_us)}.")


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value


def _list(values: tuple[str, ...]) -> tuple[str, ...] | UnsetType | None:
    """Return a list of names: UNSET if it was not given, and None for no limit, which an empty name means."""
    if not values:
        return UNSET
    return tuple(value for value in values if value) or None


def _expiry(api_keys: ApiKeys, days: int | None) -> int | UnsetType | None:
    if days is None:
        return UNSET
    return api_keys.expiry_after(days or None)


def _print_issued(issued: IssuedKey, action: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_key(issued.key) | {"api_key": issued.secret})
    else:
        click.echo(issued.secret)
        click.echo(f"{action} {issued.key.id}. Copy it now: Tok0n can't show it again.", err=True)


async def _print_key(store: Store, key: ApiKey, *, as_json: bool) -> None:
    """Print a key with the use of its budgets."""
    now_us = SystemClock().now_us()
    uses = await store.history.budget_uses(key.account_id, key.id, now_us=now_us)
    if as_json:
        print_json(_key(key) | {"budgets": [_budget(use.budget) | _use(use) for use in uses]})
        return
    limits = key.limits
    for name, value in (
        ("key", key.id),
        ("name", key.name),
        ("note", key.note),
        ("status", _status(key, now_us)),
        ("secrets", ", ".join(secret.shown_as + _end(secret.ends_at_us) for secret in key.secrets)),
        ("expires", format_time(limits.expires_at_us)),
        ("models", ", ".join(limits.models or ("all",))),
        ("endpoints", ", ".join(limits.endpoints or ("all",))),
        ("networks", ", ".join(limits.networks or ("all",))),
        ("requests per minute", limits.requests_per_minute or "the limit of the installation"),
    ):
        click.echo(f"{name:<20} {value}".rstrip())
    for use in uses:
        end = "" if use.resets_at_us is None else f", resets {format_time(use.resets_at_us)}"
        click.echo(f"{'budget':<20} {_budget_text(use.budget)}: {use.spent:,} spent, {use.pending:,} reserved{end}")


def _end(ends_at_us: int | None) -> str:
    return "" if ends_at_us is None else f" (ends {format_time(ends_at_us)})"


def _status(key: ApiKey, now_us: int) -> str:
    if key.is_revoked:
        return "revoked"
    if key.has_expired(now_us):
        return "expired"
    return "disabled" if key.is_disabled else "active"


def _budget_text(budget: KeyBudget) -> str:
    """Return a budget as the option --budget takes it."""
    period = "" if budget.period is ResetPeriod.TOTAL else f"/{budget.period}"
    return f"{budget.tokens}{period}" + (f":{budget.token_class}" if budget.token_class else "")


def _budget(budget: KeyBudget) -> dict[str, object]:
    return {
        "tokens": budget.tokens,
        "period": budget.period,
        "token_class": budget.token_class,
        "time_zone": budget.time_zone,
    }


def _use(use: BudgetUse) -> dict[str, object]:
    return {"spent": use.spent, "pending": use.pending, "resets_at": _time(use.resets_at_us)}


def _key(key: ApiKey) -> dict[str, object]:
    limits = key.limits
    return {
        "id": key.id,
        "name": key.name,
        "note": key.note,
        "prefix": key.prefix,
        "last_four": key.last_four,
        "created_at": format_time(key.created_at_us),
        "expires_at": _time(limits.expires_at_us),
        "budget": limits.total_budget,
        "budgets": [_budget(budget) for budget in limits.budgets],
        "models": limits.models,
        "endpoints": limits.endpoints,
        "networks": limits.networks,
        "requests_per_minute": limits.requests_per_minute,
        "secrets": [{"shown_as": secret.shown_as, "ends_at": _time(secret.ends_at_us)} for secret in key.secrets],
        "disabled_at": _time(key.disabled_at_us),
        "revoked_at": _time(key.revoked_at_us),
    }


def _time(time_us: int | None) -> str | None:
    return None if time_us is None else format_time(time_us)
