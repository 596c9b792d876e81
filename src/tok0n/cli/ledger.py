"""`tok0n ledger`: audit the ledger."""

import sys
from pathlib import Path

import click
import msgspec

from tok0n.bootstrap.resources import open_store
from tok0n.cli.common import FAILED, load_settings, print_json, print_table, standard_command


@click.group()
def ledger() -> None:
    """Check that every token is accounted for."""


@ledger.command("audit")
@standard_command
async def audit(config_path: Path | None, *, as_json: bool) -> None:
    """Recompute every balance, and exit with 1 if there is a difference.

    Compares the balances with the ledger entries and requests. The server can keep running.
    """
    async with open_store(load_settings(config_path)) as store:
        report = await store.ledger.audit(progress=_show_progress if sys.stderr.isatty() else _show_nothing)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        print_json({"ok": report.ok} | msgspec.structs.asdict(report))
    elif report.ok:
        click.echo(
            f"Every token is accounted for: {report.accounts:,} accounts, {report.requests:,} requests,"
            f" {report.entries:,} entries, 0 differences."
        )
        if report.shortfall:
            click.echo(f"Shortfall: {report.shortfall:,} tokens of usage that no balance covered, at your cost.")
    else:
        print_table(
            ("subject", "difference", "expected", "actual"),
            [(d.subject, d.what, d.expected, d.found) for d in report.differences],
        )
        click.echo(f"{len(report.differences):,} differences.", err=True)
    if not report.ok:
        sys.exit(FAILED)


def _show_progress(rows: int) -> None:
    click.echo(f"\r{rows:,} rows read", nl=False, err=True)


def _show_nothing(rows: int) -> None:
    del rows
