"""What a migration requires: that no server runs on the old schema, and that the migrated ledger is right."""

import sqlalchemy as sa

from tok0n.adapters.sql import audit, ddl
from tok0n.adapters.sql.store import force_index_scans
from tok0n.domain.errors import OperatorError

_COUNT_SERVERS = "SELECT count(*) FROM process WHERE now() < to_timestamp(lease_ends_at_us / 1e6::float8)"


def require_no_server(tx: sa.Connection) -> None:
    """Raise `OperatorError` if a server runs on PostgreSQL. A SQLite file has a lock instead."""
    if ddl.engine_of(tx) == "sqlite":
        return
    servers = tx.exec_driver_sql(_COUNT_SERVERS).scalar_one()
    if servers:
        raise OperatorError(
            f"{servers} server processes are running that can't use the new schema. Nothing was changed."
            " Stop every server, wait 15 seconds if one was killed, and run tok0n migrate again."
        )


def require_right_ledger(tx: sa.Connection) -> None:
    """Raise `OperatorError` if the audit of the migrated ledger finds a difference."""
    force_index_scans(tx)  # The connection of a migration starts with PostgreSQL's own settings.
    differences = audit.audit(tx).differences
    if differences:
        first = differences[0]
        raise failed(
            f"The ledger audit found {len(differences)} differences. The first: {first.subject}: {first.what}"
            f" (expected {first.expected}, found {first.found})."
        )


def failed(reason: str) -> OperatorError:
    """Return the error of a migration that the caller rolls back."""
    return OperatorError(
        f"The migration was undone, because the ledger is wrong. {reason}"
        " Restore a backup, or run tok0n ledger audit with the version that wrote this database."
    )
