"""Back up an embedded database while it is used, and restore it. A copy counts only once its audit is clean.

A copy is made under another name, readable by its owner alone, checked, and then renamed: whatever ends the process,
there is the old file or the new one, whole.
"""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from tok0n.adapters.sql import ledger_functions, migrate
from tok0n.adapters.sql.schema import HEAD
from tok0n.adapters.sql.sqlite import database_file
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import AuditReport


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A checked copy. `audit` is None for a schema older than this version's, which the next start migrates."""

    path: Path
    bytes: int
    schema: str
    audit: AuditReport | None


def back_up(database: Path, target: Path, *, overwrite: bool) -> Copy:
    """Copy the database to `target`; a server may go on meanwhile. Raises `OperatorError`, and then keeps nothing."""
    database, target = database_file.resolve(database), database_file.resolve(target)
    if not database.exists():
        raise OperatorError(f"There is no database {database} to back up.")
    if not database_file.nobody_serves(target):
        raise OperatorError(f"A server is using {target}. Name another file.")
    return _copy(database, target, overwrite=overwrite)


def restore(backup: Path, database: Path, *, overwrite: bool) -> Copy:
    """Copy `backup` to where the database is, and remove the WAL of the one before.

    Raises `OperatorError` when a server uses the database, or the backup is damaged; then nothing is changed.
    """
    backup, database = database_file.resolve(backup), database_file.resolve(database)
    if not backup.exists():
        raise OperatorError(f"There is no backup {backup}.")
    with database_file.take_lock(database):
        return _copy(backup, database, overwrite=overwrite)


def _copy(source: Path, target: Path, *, overwrite: bool) -> Copy:
    if source == target:
        raise OperatorError(f"{target} cannot be copied to itself.")
    if target.is_dir():
        raise OperatorError(f"{target} is a folder. Name a file.")
    if target.exists() and not overwrite:
        raise OperatorError(f"{target} exists already and was not changed. Name another file, or add --overwrite.")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        database_file.create(draft)
        _copy_pages(source, draft)
        copy = _checked(draft, source=source, path=target)
        _sync(draft)
        _put_in_place(draft, target, overwrite=overwrite)
    except OSError as error:
        raise OperatorError(f"{error.filename or target} cannot be written: {error.strerror}. {_KEPT}") from error
    except (sqlite3.Error, sa.exc.SQLAlchemyError) as error:
        raise OperatorError(f"{source} cannot be copied: {getattr(error, 'orig', None) or error}. {_KEPT}") from error
    finally:
        for leftover in (draft, *database_file.wal_files(draft)):
            leftover.unlink(missing_ok=True)
    return copy


_KEPT = "Nothing was changed."


def _copy_pages(source: Path, draft: Path) -> None:
    """One step, and so one snapshot. The copy needs no WAL: it is a single file."""
    is_sealed = not os.access(source.parent, os.W_OK) and not database_file.wal_files(source)[0].exists()
    mode = "ro&immutable=1" if is_sealed else "ro"
    with _connect(source, mode=mode) as reader, _connect(draft, mode="rw") as writer:
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode = DELETE")


def _checked(draft: Path, *, source: Path, path: Path) -> Copy:
    with _connect(draft, mode="ro") as connection:
        for check in ("PRAGMA integrity_check(1)", "PRAGMA foreign_key_check"):
            row = connection.execute(check).fetchone()
            if row is not None and row[0] != "ok":
                raise OperatorError(f"{source} is damaged: {row[0]}. {_KEPT}".replace("\n", " "))
        engine = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
        with engine.connect() as tx:
            revision = migrate.current_revision(tx)
            if revision is None:
                raise OperatorError(f"{source} is not a Tok0n database. {_KEPT}")
            if revision > HEAD:
                raise OperatorError(f"{source} has schema {revision}, of a newer Tok0n. Upgrade Tok0n first. {_KEPT}")
            audit = ledger_functions.audit(tx) if revision == HEAD else None
        if audit is not None and not audit.ok:
            number, first = len(audit.differences), audit.differences[0]
            raise OperatorError(f"The audit of {source} found {number} differences. The first: {first}. {_KEPT}")
    return Copy(path=path, bytes=draft.stat().st_size, schema=revision, audit=audit)


def _put_in_place(draft: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite and target.exists():
        _empty_wal(target)
    for stale in database_file.wal_files(target):
        stale.unlink(missing_ok=True)
    if overwrite:
        draft.replace(target)
    else:
        _link(draft, target)
    _sync(target.parent)


def _link(draft: Path, target: Path) -> None:
    """Give the draft its name, unless there is such a file by now."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise
        draft.replace(target)


def _empty_wal(database: Path) -> None:
    """Write its WAL into the database that is about to be replaced: it stays whole if we are killed before that.

    A damaged one, or one that is no database at all, is replaced as it is.
    """
    with contextlib.suppress(sqlite3.Error), _connect(database, mode="rw") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextlib.contextmanager
def _connect(path: Path, *, mode: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
