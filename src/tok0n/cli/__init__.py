"""The command line. Parses arguments, calls `bootstrap` and prints results; contains no business rule."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from tok0n import __version__
from tok0n.cli.accounts import accounts
from tok0n.cli.catalogue import models
from tok0n.cli.common import FAILED, print_json
from tok0n.cli.database import database
from tok0n.cli.keys import keys
from tok0n.cli.ledger import ledger
from tok0n.cli.payments import codes, orders, payments
from tok0n.cli.server import config, copy_database, demo, init, migrate, serve


class _Commands(click.Group):
    """The root command. With --json, it prints usage errors as JSON too."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  click's signature
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its code."""
        del standalone_mode
        arguments = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            if "--json" in arguments:
                print_json({"error": error.format_message()})
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("Aborted!", err=True)
            sys.exit(FAILED)
        except BrokenPipeError:
            # The reader closed the pipe. Without this, Python prints an error when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tok0n")
def main() -> None:
    """Tok0n: a self-hosted, prepaid, OpenAI-compatible LLM gateway.

    \b
    Try it:          tok0n demo
    Set it up:       tok0n init, then tok0n config check, then tok0n serve
    Add an account:  tok0n accounts create EMAIL --tokens N, then tok0n keys create EMAIL
    """  # noqa: D301  \b makes click keep the line breaks


for command in (
    demo,
    init,
    config,
    migrate,
    copy_database,
    database,
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
