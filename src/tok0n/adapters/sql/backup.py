"""Back up and restore an embedded database. A backup can run while a server uses the database.

The copy gets a temporary name and is readable by its owner only. It is renamed after its integrity check and audit
pass, so a killed process leaves either the old file or the complete new one.
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

from tok0n.adapters.sql import audit, migrate
from tok0n.adapters.sql.schema import HEAD
from tok0n.adapters.sql.sqlite import database_file
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import AuditReport


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A checked copy. `audit` is None if the copy has an older schema, which the next start migrates."""

    path: Path
    bytes: int
    schema: str
    audit: AuditReport | None


def back_up(database: Path, target: Path, *, overwrite: bool) -> Copy:
    """Copy the database to `target`, also while a server uses it. If it raises `OperatorError`, nothing is changed."""
    database, target = database_file.resolve(database), database_file.resolve(target)
    if not database.exists():
        raise OperatorError(f"There is no database {database} to back up.")
    if not database_file.is_unlocked(target):
        raise OperatorError(f"A server is using {target}. Name another file.")
    return _copy(database, target, overwrite=overwrite)


def restore(backup: Path, database: Path, *, overwrite: bool) -> Copy:
    """Replace the database with a copy of `backup`, and remove the old WAL.

    Raises `OperatorError` if a server uses the database or the backup is damaged. Then nothing is changed.
    """
    backup, database = database_file.resolve(backup), database_file.resolve(database)
    if not backup.exists():
        raise OperatorError(f"There is no backup {backup}.")
    with database_file.take_lock(database):
        return _copy(backup, database, overwrite=overwrite)


def _copy(source: Path, target: Path, *, overwrite: bool) -> Copy:
    if source == target:
        raise OperatorError(f"{target} can't be copied to itself.")
    if target.is_dir():
        raise OperatorError(f"{target} is a folder. Name a file.")
    if target.exists() and not overwrite:
        raise OperatorError(f"{target} already exists and was not changed. Name another file, or add --overwrite.")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        database_file.create(draft)
        _copy_pages(source, draft)
        copy = _checked(draft, source=source, path=target)
        _sync(draft)
        _put_in_place(draft, target, overwrite=overwrite)
    except OSError as error:
        raise OperatorError(f"Can't write {error.filename or target}: {error.strerror}. {_UNCHANGED}") from error
    except (sqlite3.Error, sa.exc.SQLAlchemyError) as error:
        raise OperatorError(f"Can't copy {source}: {getattr(error, 'orig', None) or error}. {_UNCHANGED}") from error
    finally:
        for temporary in (draft, *database_file.wal_files(draft)):
            temporary.unlink(missing_ok=True)
    return copy


_UNCHANGED = "Nothing was changed."


def _copy_pages(source: Path, draft: Path) -> None:
    """Copy all pages in one step, which is one snapshot, into a single file without a WAL."""
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
                raise OperatorError(f"{source} is damaged: {row[0]}. {_UNCHANGED}".replace("\n", " "))
        engine = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
        with engine.connect() as tx:
            revision = migrate.current_revision(tx)
            if revision is None:
                raise OperatorError(f"{source} is not a Tok0n database. {_UNCHANGED}")
            if revision > HEAD:
                raise OperatorError(
                    f"{source} has schema {revision} of a newer Tok0n version. Upgrade Tok0n first. {_UNCHANGED}"
                )
            report = audit.audit(tx) if revision == HEAD else None
        if report is not None and not report.ok:
            count, first = len(report.differences), report.differences[0]
            raise OperatorError(f"The audit of {source} found {count} differences. The first: {first}. {_UNCHANGED}")
    return Copy(path=path, bytes=draft.stat().st_size, schema=revision, audit=report)


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
    """Give the draft its final name, unless such a file exists."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:  # The file system has no links.
        if target.exists():
            raise
        draft.replace(target)


def _empty_wal(database: Path) -> None:
    """Checkpoint the database to replace, so that it stays complete if the process is killed before the rename.

    Does nothing if the file is damaged or not a database.
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
