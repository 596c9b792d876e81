"""`tok0n accounts` and `tok0n keys`: manage accounts, their tokens and their API keys."""

from pathlib import Path

import click

from tok0n.adapters.clock import SystemClock
from tok0n.bootstrap.resources import Store, open_store
from tok0n.bootstrap.services import make_api_keys, open_sign_in, token_classes_of
from tok0n.cli.common import class_option, format_time, load_settings, print_json, print_table, standard_command
from tok0n.domain.accounts import Account, ApiKey
from tok0n.domain.email import parse_email
from tok0n.domain.ledger import STANDARD
from tok0n.domain.token_classes import TokenClasses
from tok0n.services.api_keys import KeyDraft
from tok0n.services.operate_accounts import OperateAccounts
from tok0n.settings import Settings


@click.group()
def accounts() -> None:
    """Create, show, correct and suspend accounts."""


@accounts.command("create")
@click.argument("email")
@click.option("--tokens", type=int, default=None, help="Grant this many tokens.")
@standard_command
async def create_account(email: str, tokens: int | None, config_path: Path | None, *, as_json: bool) -> None:
    """Create an account for EMAIL."""
    async with open_store(load_settings(config_path)) as store:
        account = await _accounts(store).create(email=email, tokens=tokens)
    _print_account(account, as_json=as_json)


@accounts.command("show")
@click.argument("email")
@standard_command
async def show_account(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """Show the balance of EMAIL.

    Posted tokens are owned, pending tokens are reserved by requests in progress, and the rest is available.
    """
    async with open_store(load_settings(config_path)) as store:
        account = await _accounts(store).get(email)
    _print_account(account, as_json=as_json)


@accounts.command("grant")
@click.argument("email")
@click.argument("tokens", metavar="N", type=int)
@class_option
@click.option("--reason", required=True, help="Record this reason in the ledger entry.")
@standard_command
async def grant_tokens(
    email: str, tokens: int, token_class: str, reason: str, config_path: Path | None, *, as_json: bool
) -> None:
    """Grant N tokens to EMAIL as a ledger entry."""
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        operate = _accounts(store, settings)
        account = await operate.grant(email=email, tokens=tokens, token_class=token_class, reason=reason)
    _print_account(account, as_json=as_json)


@accounts.command("adjust")
@click.argument("email")
@click.option("--tokens", type=int, required=True, help="Add this many tokens, or take them away: --tokens=-500.")
@class_option
@click.option("--reason", required=True, help="Record this reason in the ledger entry.")
@standard_command
async def adjust_balance(
    email: str, tokens: int, token_class: str, reason: str, config_path: Path | None, *, as_json: bool
) -> None:
    """Correct the balance of EMAIL with an adjustment entry.

    Never takes away tokens that requests in progress have reserved. Customers see the reason in their statement.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        operate = _accounts(store, settings)
        account = await operate.adjust(email=email, tokens=tokens, token_class=token_class, reason=reason)
    _print_account(account, as_json=as_json)


@accounts.command("suspend")
@click.argument("email")
@click.option("--reason", required=True, help="Record this reason in the activity of the account.")
@standard_command
async def suspend(email: str, reason: str, config_path: Path | None, *, as_json: bool) -> None:
    """Suspend the account of EMAIL.

    Its new requests get a 401, and its requests in progress settle. Its user can sign in, read and export, but can't
    buy tokens, create keys or redeem codes. The user can read the reason in the activity of the account.
    """
    async with open_store(load_settings(config_path)) as store:
        account = await _accounts(store).suspend(email, reason=reason)
    _print_account(account, as_json=as_json)


@accounts.command("reopen")
@click.argument("email")
@click.option("--reason", required=True, help="Record this reason in the activity of the account.")
@standard_command
async def reopen(email: str, reason: str, config_path: Path | None, *, as_json: bool) -> None:
    """Reopen the suspended account of EMAIL."""
    async with open_store(load_settings(config_path)) as store:
        account = await _accounts(store).reopen(email, reason=reason)
    _print_account(account, as_json=as_json)


@accounts.command("invite")
@click.argument("email")
@standard_command
async def invite(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """Invite EMAIL to choose a password and sign in.

    Prints a link that works once, within a week, and emails it if a mail server is configured. The user takes over the
    account if you created it with `accounts create`.
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
@standard_command
async def recover(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """Create a link for EMAIL to choose a new password.

    Verify the user's identity first: this removes two-factor authentication, passkeys, sessions and earlier links. The
    link works once, within a day. It is printed, not emailed.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store, open_sign_in(settings, store) as sign_in:
        link = await sign_in.recover(email)
    if as_json:
        print_json({"email": parse_email(email), "link": link})
    else:
        click.echo(link)


@accounts.command("list")
@standard_command
async def list_accounts(config_path: Path | None, *, as_json: bool) -> None:
    """List all accounts."""
    async with open_store(load_settings(config_path)) as store:
        rows = await _accounts(store).list_all()
    if as_json:
        print_json([_account(account) for account in rows])
    else:
        has_classes = any(len(account.wallets) > 1 for account in rows)
        print_table(
            ("email", "posted", "pending", "available", *["other classes"] * has_classes, "status", "created"),
            [
                (
                    account.email,
                    account.balance.posted,
                    account.balance.pending,
                    account.balance.available,
                    *[_other_classes(account)] * has_classes,
                    account.status,
                    format_time(account.created_at_us),
                )
                for account in rows
            ],
        )


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command("create")
@click.argument("email")
@click.option("--name", default="key", show_default=True, help="Name the key.")
@click.option("--budget", type=int, help="Limit the tokens that the key can spend in total.")
@click.option("--expires-in-days", "days", type=int, help="Expire the key after this many days.")
@click.option("--model", "models", metavar="ID", multiple=True, help="Allow this model; repeatable.  [default: all]")
@standard_command
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
    """Create an API key for EMAIL and print it once.

    Tok0n stores only a digest of the key.
    """
    settings = load_settings(config_path)
    draft = KeyDraft(name=name, days=days, budget=budget, models=models)
    async with open_store(settings) as store:
        account = await _accounts(store).get(email)
        issued = await make_api_keys(settings, store, SystemClock()).create(account.id, draft, is_operator=True)
    if as_json:
        print_json(_key(issued.key) | {"api_key": issued.secret})
    else:
        click.echo(issued.secret)
        click.echo(f"Created key {issued.key.id}. Copy it now: Tok0n can't show it again.", err=True)


@keys.command("list")
@click.argument("email")
@standard_command
async def list_keys(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """List the API keys of EMAIL."""
    async with open_store(load_settings(config_path)) as store:
        rows = await store.accounts.list_keys((await _accounts(store).get(email)).id)
    if as_json:
        print_json([_key(key) for key in rows])
    else:
        print_table(
            ("id", "name", "key", "created", "expires", "budget", "models", "revoked"),
            [
                (
                    key.id,
                    key.name,
                    key.shown_as,
                    format_time(key.created_at_us),
                    "" if key.limits.expires_at_us is None else format_time(key.limits.expires_at_us),
                    "" if key.limits.total_budget is None else key.limits.total_budget,
                    ", ".join(key.limits.models or ()),
                    "" if key.revoked_at_us is None else format_time(key.revoked_at_us),
                )
                for key in rows
            ],
        )


@keys.command("revoke")
@click.argument("key_id")
@standard_command
async def revoke_key(key_id: str, config_path: Path | None, *, as_json: bool) -> None:
    """Revoke the API key KEY_ID permanently.

    Tok0n rejects the next request with the key.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        key = await make_api_keys(settings, store, SystemClock()).revoke_any(key_id)
    if as_json:
        print_json(_key(key))
    else:
        click.echo(f"Key {key.id} ({key.name}) was revoked at {format_time(key.revoked_at_us)}.")


def _accounts(store: Store, settings: Settings | None = None) -> OperateAccounts:
    """Return the use cases. Those that take a token class need the settings."""
    token_classes = TokenClasses() if settings is None else token_classes_of(settings)
    return OperateAccounts(store.accounts, SystemClock(), corrections=store.corrections, token_classes=token_classes)


def _other_classes(account: Account) -> str:
    """Return the available tokens of each class but the standard one."""
    others = {name: balance for name, balance in account.wallets.items() if name != STANDARD}
    return ", ".join(f"{name}: {balance.available}" for name, balance in others.items())


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
    if len(account.wallets) > 1:
        click.echo()
        rows = [(name, wallet.posted, wallet.pending, wallet.available) for name, wallet in account.wallets.items()]
        print_table(("class", "posted", "pending", "available"), rows)


def _account(account: Account) -> dict[str, object]:
    balance = account.balance
    return {
        "id": account.id,
        "email": account.email,
        "status": account.status,
        "posted": balance.posted,
        "pending": balance.pending,
        "available": balance.available,
        "wallets": [
            {"token_class": name, "posted": wallet.posted, "pending": wallet.pending, "available": wallet.available}
            for name, wallet in account.wallets.items()
        ],
    }


def _key(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "last_four": key.last_four,
        "created_at": format_time(key.created_at_us),
        "expires_at": None if key.limits.expires_at_us is None else format_time(key.limits.expires_at_us),
        "budget": key.limits.total_budget,
        "models": key.limits.models,
        "revoked_at": None if key.revoked_at_us is None else format_time(key.revoked_at_us),
    }
