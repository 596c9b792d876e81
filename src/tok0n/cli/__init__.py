"""The command line: parses arguments, calls bootstrap, prints. Knows no database and no network."""

import click

from tok0n import __version__
from tok0n.cli.accounts import accounts, keys
from tok0n.cli.catalogue import models
from tok0n.cli.ledger import ledger
from tok0n.cli.payments import codes, orders, payments
from tok0n.cli.server import config, copy_database, demo, init, migrate, serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tok0n")
def main() -> None:
    """Tok0n: a self-hosted, prepaid, OpenAI-compatible LLM gateway.

    \b
    Look at it:      tok0n demo
    Set it up:       tok0n init, then tok0n config check, then tok0n serve
    Sell tokens:     tok0n accounts create EMAIL --tokens N, then tok0n keys create EMAIL
    """  # noqa: D301  click reads the escape: the block keeps its lines


for command in (
    demo,
    init,
    config,
    migrate,
    copy_database,
    serve,
    models,
    accounts,
    keys,
    orders,
    payments,
    codes,
    ledger,
):
    main.add_command(command)
