"""`tok0n database`: back up and restore the embedded database."""

import asyncio
from pathlib import Path

import click
import msgspec

from tok0n.adapters.sql import backup
from tok0n.cli.common import load_settings, print_json, standard_command
from tok0n.domain.errors import OperatorError
from tok0n.settings import Settings

_PATH = click.Path(path_type=Path)


@click.group()
def database() -> None:
    """Back up and restore the embedded database."""


@database.command("backup")
@click.argument("path", type=_PATH)
@click.option("--overwrite", is_flag=True, help="Replace PATH if it exists.")
@standard_command
async def back_up(path: Path, config_path: Path | None, *, overwrite: bool, as_json: bool) -> None:
    """Back up the embedded database to the file PATH.

    The server can keep running. Tok0n audits the copy before it saves it as PATH, which only you can read.
    """
    settings = load_settings(config_path)
    source = _sqlite_path(settings, tool="pg_dump")
    copy = await asyncio.to_thread(backup.back_up, source, path, overwrite=overwrite)
    _print_copy(copy, as_json=as_json, action="Backed up to")


@database.command("restore")
@click.argument("path", type=_PATH)
@click.option("--overwrite", is_flag=True, help="Replace the current database.")
@standard_command
async def restore(path: Path, config_path: Path | None, *, overwrite: bool, as_json: bool) -> None:
    """Restore the embedded database from the backup PATH.

    Stop the server first. Tok0n audits the backup before it replaces the database.
    """
    settings = load_settings(config_path)
    target = _sqlite_path(settings, tool="pg_restore")
    copy = await asyncio.to_thread(backup.restore, path, target, overwrite=overwrite)
    _print_copy(copy, as_json=as_json, action="Restored to")
    if settings.payments is not None:
        click.echo("Start the server, then run: tok0n payments reconcile", err=True)


def _sqlite_path(settings: Settings, *, tool: str) -> Path:
    if settings.database.is_postgres:
        raise OperatorError(f"The database is PostgreSQL. Use {tool}, then run: tok0n ledger audit")
    return settings.database.sqlite_path


def _print_copy(copy: backup.Copy, *, as_json: bool, action: str) -> None:
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
    audit = "audit passed" if copy.audit is not None else f"not audited because its schema is {copy.schema}"
    click.echo(f"{action} {copy.path}: {copy.bytes:,} bytes, {audit}.")
