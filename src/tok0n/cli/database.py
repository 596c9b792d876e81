"""tok0n database."""

import asyncio
from pathlib import Path

import click
import msgspec

from tok0n.adapters.sql import backup
from tok0n.cli.common import command, config_option, json_option, load_settings, print_json
from tok0n.domain.errors import OperatorError
from tok0n.settings import Settings

_path = click.Path(path_type=Path)


@click.group()
def database() -> None:
    """Back up and restore the embedded database."""


@database.command("backup")
@click.argument("path", type=_path)
@click.option("--overwrite", is_flag=True, help="Replace PATH if it exists.")
@config_option
@json_option
@command
async def back_up(path: Path, config_path: Path | None, *, overwrite: bool, as_json: bool) -> None:
    """Copy the database to PATH, a single file that only you can read.

    The server can keep running. The copy is audited before it is saved as PATH.
    """
    settings = load_settings(config_path)
    source = _sqlite_path(settings, instead="pg_dump")
    copy = await asyncio.to_thread(backup.back_up, source, path, overwrite=overwrite)
    _print(copy, as_json=as_json, words="Backed up to")


@database.command("restore")
@click.argument("path", type=_path)
@click.option("--overwrite", is_flag=True, help="Replace the present database.")
@config_option
@json_option
@command
async def restore(path: Path, config_path: Path | None, *, overwrite: bool, as_json: bool) -> None:
    """Replace the database with the backup PATH.

    Stop the server first. The backup is audited before anything is replaced.
    """
    settings = load_settings(config_path)
    target = _sqlite_path(settings, instead="pg_restore")
    copy = await asyncio.to_thread(backup.restore, path, target, overwrite=overwrite)
    _print(copy, as_json=as_json, words="Restored to")
    if settings.payments is not None:
        click.echo("Start the server, then run: tok0n payments reconcile", err=True)


def _sqlite_path(settings: Settings, *, instead: str) -> Path:
    if settings.database.is_postgres:
        raise OperatorError(f"The database is PostgreSQL. Use {instead}, then run: tok0n ledger audit")
    return settings.database.sqlite_path


def _print(copy: backup.Copy, *, as_json: bool, words: str) -> None:
    if as_json:
        print_json(
            {
                "path": str(copy.path),
                "bytes": copy.bytes,
                "schema": copy.schema,
                "audit": None if copy.audit is None else {"ok": copy.audit.ok} | msgspec.structs.asdict(copy.audit),
            }
        )
        return
    audit = "the audit is clean" if copy.audit is not None else f"it has schema {copy.schema}, not audited"
    click.echo(f"{words} {copy.path}: {copy.bytes:,} bytes, {audit}.")
