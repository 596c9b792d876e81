"""`tok0n accounts`: manage accounts and their tokens."""

from pathlib import Path

import click

from tok0n.bootstrap.resources import open_store
from tok0n.bootstrap.services import open_accounts, open_sign_in
from tok0n.cli.common import class_option, format_time, load_settings, print_json, print_table, standard_command
from tok0n.domain.accounts import Account
from tok0n.domain.email import parse_email
from tok0n.domain.ledger import STANDARD


@click.group()
def accounts() -> None:
    """Create, show, correct and suspend accounts."""


@accounts.command("create")
@click.argument("email")
@click.option("--tokens", type=int, default=None, help="Grant this many tokens.")
@standard_command
async def create_account(email: str, tokens: int | None, config_path: Path | None, *, as_json: bool) -> None:
    """Create an account for EMAIL."""
    async with open_accounts(load_settings(config_path)) as operate:
        account = await operate.create(email=email, tokens=tokens)
    _print_account(account, as_json=as_json)


@accounts.command("show")
@click.argument("email")
@standard_command
async def show_account(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """Show the balance of EMAIL.

    Posted tokens are owned, pending tokens are reserved by requests in progress, and the rest is available.
    """
    async with open_accounts(load_settings(config_path)) as operate:
        account = await operate.get(email)
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
    async with open_accounts(load_settings(config_path)) as operate:
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
    async with open_accounts(load_settings(config_path)) as operate:
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
    async with open_accounts(load_settings(config_path)) as operate:
        account = await operate.suspend(email, reason=reason)
    _print_account(account, as_json=as_json)


@accounts.command("reopen")
@click.argument("email")
@click.option("--reason", required=True, help="Record this reason in the activity of the account.")
@standard_command
async def reopen(email: str, reason: str, config_path: Path | None, *, as_json: bool) -> None:
    """Reopen the suspended account of EMAIL."""
    async with open_accounts(load_settings(config_path)) as operate:
        account = await operate.reopen(email, reason=reason)
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
        _print_link(email, await sign_in.invite(email), as_json=as_json)


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
        _print_link(email, await sign_in.recover(email), as_json=as_json)


@accounts.command("list")
@standard_command
async def list_accounts(config_path: Path | None, *, as_json: bool) -> None:
    """List all accounts."""
    async with open_accounts(load_settings(config_path)) as operate:
        rows = await operate.list_all()
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


def _print_link(email: str, link: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"email": parse_email(email), "link": link})
    else:
        click.echo(link)


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
