"""`tok0n payments`, `tok0n orders` and `tok0n codes`: manage payments, orders and redeem codes."""

from pathlib import Path

import click

from tok0n.adapters.clock import SystemClock
from tok0n.bootstrap.resources import Store, open_store
from tok0n.bootstrap.services import make_sell_packs, token_classes_of
from tok0n.cli.common import class_option, format_time, load_settings, print_json, print_table, standard_command
from tok0n.domain.email import parse_email
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import STANDARD
from tok0n.domain.orders import Order
from tok0n.services.payments import SellPacks
from tok0n.services.redeem_codes import create_code as create_redeem_code
from tok0n.settings import Settings

ORDERS_MAX = 100


@click.group()
def payments() -> None:
    """Recover missed webhook events."""


@payments.command("reconcile")
@standard_command
async def reconcile(config_path: Path | None, *, as_json: bool) -> None:
    """Fetch recent events from Stripe and apply the missing ones.

    A running server does this every hour.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        missed = await _sell_packs(settings, store).reconcile()
    if as_json:
        print_json({"missed": missed})
    else:
        click.echo(f"Missed events: {missed}")


@click.group()
def orders() -> None:
    """List and refund orders."""


@orders.command("list")
@click.argument("email")
@standard_command
async def list_orders(email: str, config_path: Path | None, *, as_json: bool) -> None:
    """List the latest orders of EMAIL."""
    async with open_store(load_settings(config_path)) as store:
        account = await store.accounts.get(parse_email(email))
        rows = await store.orders.list_for_account(account.id, before=None, rows_max=ORDERS_MAX)
    if as_json:
        print_json([_order(order) for order in rows])
    else:
        has_classes = any(order.token_class != STANDARD for order in rows)
        print_table(
            ("id", "pack", *["class"] * has_classes, "tokens", "cents", "paid", "refunded", "created"),
            [
                (
                    order.id,
                    order.pack_name,
                    *[order.token_class] * has_classes,
                    order.tokens,
                    order.price_cents,
                    "" if order.payment.paid_cents is None else order.payment.paid_cents,
                    order.payment.refunded_cents,
                    format_time(order.created_at_us),
                )
                for order in rows
            ],
        )


@orders.command("refund")
@click.argument("order_id")
@click.option("--cents", type=click.IntRange(min=1), help="Refund this many cents.  [default: the remaining amount]")
@standard_command
async def refund(order_id: str, cents: int | None, config_path: Path | None, *, as_json: bool) -> None:
    """Refund ORDER_ID through Stripe.

    When Stripe confirms the refund, Tok0n deducts tokens in proportion to it.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        order = await store.orders.get(order_id)  # reports an unknown order before missing settings
        refunded = await _sell_packs(settings, store).refund(order.id, cents=cents)
    if as_json:
        print_json({"id": order_id, "cents": refunded})
    else:
        click.echo(f"Requested a refund of {refunded} cents from Stripe.")


@click.group()
def codes() -> None:
    """Create redeem codes."""


@codes.command("create")
@click.option("--tokens", type=int, required=True, help="Grant this many tokens per use.")
@class_option
@click.option("--uses", type=int, default=1, show_default=True, help="Let this many accounts redeem the code.")
@click.option("--expires-in-days", "days", type=int, help="Expire the code after this many days.")
@click.option("--reason", required=True, help="Record this reason in the ledger entries.")
@standard_command
async def create_code(
    tokens: int, token_class: str, uses: int, days: int | None, reason: str, config_path: Path | None, *, as_json: bool
) -> None:
    """Create a redeem code and print it once.

    Each account can redeem the code once. Tok0n stores only a digest of it.
    """
    settings = load_settings(config_path)
    async with open_store(settings) as store:
        code = await create_redeem_code(
            store.orders,
            SystemClock(),
            tokens=tokens,
            token_class=token_class,
            token_classes=token_classes_of(settings),
            uses_max=uses,
            days=days,
            reason=reason,
        )
    if as_json:
        print_json({"code": code, "token_class": token_class, "tokens": tokens, "uses": uses})
    else:
        click.echo(code)


def _sell_packs(settings: Settings, store: Store) -> SellPacks:
    sell_packs = make_sell_packs(settings, store, SystemClock())
    if sell_packs is None:
        raise OperatorError("The settings have no [payments] section. To sell tokens, see docs/payments.md.")
    return sell_packs


def _order(order: Order) -> dict[str, object]:
    return {
        "id": order.id,
        "pack": order.pack_id,
        "token_class": order.token_class,
        "tokens": order.tokens,
        "price_cents": order.price_cents,
        "currency": order.currency,
        "paid_cents": order.payment.paid_cents,
        "refunded_cents": order.payment.refunded_cents,
        "checkout_id": order.checkout_id,
        "payment_id": order.payment_id,
        "created_at": format_time(order.created_at_us),
    }
