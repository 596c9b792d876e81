"""tok0n accounts and tok0n keys."""

from pathlib import Path

import click

from tok0n.adapters.clock import SystemClock
from tok0n.bootstrap.resources import Store, open_store
from tok0n.bootstrap.services import make_api_keys, open_sign_in
from tok0n.cli.common import command, config_option, json_option, load_settings, moment, print_json, print_table
from tok0n.domain.accounts import Account, ApiKey
from tok0n.domain.email import parse_email
from tok0n.services.api_keys import KeyDraft
from tok0n.services.operate_accounts import OperateAccounts


@click.group()
def accounts() -> None:
    """Open accounts, look at their balances, grant tokens."""


@accounts.command("create")
@click.argument("email")
@click.option("--tokens", type=int, default=None, help="Grant so many tokens at once.")
@config_option
@json_option
@command
async def create_account(email: str, tokens: int | None, config_path: Path | None, *, as_json: bool) -> None:
    """Open an account for EMAIL."""
    async with open_store(load_settings(config_path)) as store:
        account = await _accounts(store).create(email=email, tokens=tokens)
    _print_account(account, as_json=as_json)


@accounts.command("show")
@click.argument("email")
@config_option
@json_option
@command
async def show_account(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """Show the balance of EMAIL: posted = owned, pending = reserved, available = posted - pending."""
    async with open_store(load_settings(config_path)) as store:
        account = await _accounts(store).get(email)
    _print_account(account, as_json=as_json)


@accounts.command("grant")
@click.argument("email")
@click.argument("tokens", metavar="N", type=int)
@click.option("--reason", required=True, help="Why; kept with the ledger entry.")
@config_option
@json_option
@command
async def grant_tokens(email: str, tokens: int, reason: str, config_path: Path | None, *, as_json: bool) -> None:
    """Give EMAIL N tokens, as a ledger entry."""
    async with open_store(load_settings(config_path)) as store:
        account = await _accounts(store).grant(email=email, tokens=tokens, reason=reason)
    _print_account(account, as_json=as_json)


@accounts.command("invite")
@click.argument("email")
@config_option
@json_option
@command
async def invite(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """Invite EMAIL to choose a password and sign in.

    The link works once, for a week. It is printed, and mailed if there is a mail server. An account that was made with
    `accounts create` becomes theirs.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store, open_sign_in(settings, store) as sign_in:
        link = await sign_in.invite(email)
    if as_json:
        print_json({"email": parse_email(email), "link": link})
    else:
        click.echo(link)


@accounts.command("recover")
@click.argument("email")
@config_option
@json_option
@command
async def recover(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """Let EMAIL choose a new password, and take the second factor and passkeys away.

    For a user who has lost them. Verify who asks. The link is printed, not mailed, and works once, for a day.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store, open_sign_in(settings, store) as sign_in:
        link = await sign_in.recover(email)
    if as_json:
        print_json({"email": parse_email(email), "link": link})
    else:
        click.echo(link)


@accounts.command("list")
@config_option
@json_option
@command
async def list_accounts(config_path: Path | None, *, as_json: bool) -> None:
    """List all accounts."""
    async with open_store(load_settings(config_path)) as store:
        rows = await _accounts(store).list_all()
    if as_json:
        print_json([_account(account) for account in rows])
    else:
        print_table(
            ("email", "posted", "pending", "available", "status", "since"),
            [
                (a.email, a.balance.posted, a.balance.pending, a.balance.available, a.status, moment(a.created_at_us))
                for a in rows
            ],
        )


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command("create")
@click.argument("email")
@click.option("--name", default="key", show_default=True, help="What the key is for.")
@click.option("--budget", type=int, help="Tokens that it may spend in all.")
@click.option("--expires-in-days", "days", type=int, help="When it stops working.")
@click.option("--model", "models", metavar="ID", multiple=True, help="A model that it may call; repeat it for more.")
@config_option
@json_option
@command
async def create_key(
    email: str,
    name: str,
    budget: int | None,
    days: int | None,
    models: tuple[str, ...],
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Create an API key for EMAIL. It is shown once, and stored nowhere."""
    settings = load_settings(config_path)
    draft = KeyDraft(name=name, days=days, budget=budget, models=models)
    async with open_store(settings) as store:
        account = await _accounts(store).get(email)
        issued = await make_api_keys(settings, store, SystemClock()).create(account.id, draft, is_operator=True)
    if as_json:
        print_json(_key(issued.key) | {"api_key": issued.secret})
    else:
        click.echo(issued.secret)
        click.echo(f"This is key {issued.key.id}. Copy it now: it is not shown again.", err=True)


@keys.command("list")
@click.argument("email")
@config_option
@json_option
@command
async def list_keys(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """List the API keys of EMAIL."""
    async with open_store(load_settings(config_path)) as store:
        rows = await store.accounts.list_keys((await _accounts(store).get(email)).id)
    if as_json:
        print_json([_key(key) for key in rows])
    else:
        print_table(
            ("id", "name", "key", "since", "expires", "budget", "models", "revoked"),
            [
                (
                    key.id,
                    key.name,
                    f"{key.prefix}…{key.last_four}",
                    moment(key.created_at_us),
                    "" if key.limits.expires_at_us is None else moment(key.limits.expires_at_us),
                    "" if key.limits.budget is None else key.limits.budget,
                    ", ".join(key.limits.models or ()),
                    "" if key.active else moment(key.revoked_at_us),
                )
                for key in rows
            ],
        )


@keys.command("revoke")
@click.argument("key_id")
@config_option
@json_option
@command
async def revoke_key(key_id: str, config_path: Path | None, *, as_json: bool) -> None:
    """Revoke the API key KEY_ID permanently. Its next request is rejected."""
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        key = await make_api_keys(settings, store, SystemClock()).revoke_any(key_id)
    if as_json:
        print_json(_key(key))
    else:
        click.echo(f"Key {key.id} ({key.name}) is revoked since {moment(key.revoked_at_us)}.")


def _accounts(store: Store) -> OperateAccounts:
    return OperateAccounts(store.accounts, SystemClock())


def _print_account(account: Account, *, as_json: bool) -> None:
    if as_json:
        print_json(_account(account))
        return
    balance = account.balance
    for name, value in (
        ("account", account.id),
        ("email", account.email),
        ("status", account.status),
        ("posted", f"{balance.posted:,}"),
        ("pending", f"{balance.pending:,}"),
        ("available", f"{balance.available:,}"),
    ):
        click.echo(f"{name:<10} {value}")


def _account(account: Account) -> dict[str, object]:
    balance = account.balance
    return {
        "id": account.id,
        "email": account.email,
        "status": account.status,
        "posted": balance.posted,
        "pending": balance.pending,
        "available": balance.available,
    }


def _key(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "last_four": key.last_four,
        "created_at": moment(key.created_at_us),
        "expires_at": None if key.limits.expires_at_us is None else moment(key.limits.expires_at_us),
        "budget": key.limits.budget,
        "models": key.limits.models,
        "revoked_at": None if key.active else moment(key.revoked_at_us),
    }
