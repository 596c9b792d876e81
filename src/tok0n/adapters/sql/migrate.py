"""Migrate a database to the schema that this code needs. Imports a migration only if the database needs it."""

import sqlalchemy as sa

from tok0n.adapters.sql import ddl
from tok0n.adapters.sql.schema import HEAD
from tok0n.domain.errors import OperatorError

_CREATE_VERSION = (
    "CREATE TABLE alembic_version ("
    "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
"""The table of the schema version is Alembic's, so that Alembic can compare a database with its version."""


def current_revision(tx: sa.Connection) -> str | None:
    """Return the schema version of the database, or None if it is empty."""
    if not sa.inspect(tx).has_table("alembic_version"):
        return None
    revision: str | None = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def is_at_head(tx: sa.Connection) -> bool:
    """Whether the database has the schema that this code needs."""
    return current_revision(tx) == HEAD


def serves(tx: sa.Connection) -> bool:
    """Whether a server of this version can run on the schema, which may be newer.

    Servers of the previous version can run on a migrated schema if the migration doesn't call `require_no_server`, so
    that you can restart servers one at a time. Today, every migration calls it.
    """
    revision = current_revision(tx)
    return revision is not None and revision >= HEAD


def require_head(revision: str | None) -> None:
    """Raise `OperatorError` unless the database has the schema that this code needs."""
    if revision != HEAD:
        current = "no schema yet" if revision is None else f"schema {revision}"
        raise OperatorError(f"The database has {current}, and this version needs {HEAD}. Run tok0n migrate.")


def upgrade(tx: sa.Connection) -> list[str]:
    """Migrate the schema to `HEAD` inside the transaction of `tx`. Returns the applied migrations.

    Raises `OperatorError` for an unknown schema, or if the audit of the ledger finds differences.
    """
    before = current_revision(tx)
    if before == HEAD:
        return []
    if before is None:
        _create(tx)
        return [HEAD]
    if before > HEAD:
        raise OperatorError(f"The database has schema {before} of a newer Tok0n version. Upgrade Tok0n first.")
    from tok0n.adapters.sql.migrations import checks, from_0102, from_0103  # noqa: PLC0415  few starts need them

    steps = {"0102": from_0102.upgrade, "0103": from_0103.upgrade}
    if before not in steps:
        raise OperatorError(
            f"The database has schema {before}. This version migrates only the schemas {' and '.join(steps)}."
            " First run tok0n migrate with an older version that migrates to one of them."
        )
    for revision, step in steps.items():
        if revision >= before:
            step(tx)
    checks.require_right_ledger(tx)
    tx.execute(sa.text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD})
    return [f"{before} -> {HEAD}"]


def _create(tx: sa.Connection) -> None:
    """Create the tables, the triggers that guard them, PostgreSQL's function, and the version of the schema."""
    engine = ddl.engine_of(tx)
    for statement in (*ddl.tables(engine), *ddl.guards(engine), *ddl.guards_0104(engine)):
        tx.exec_driver_sql(statement)
    if engine == "postgresql":
        tx.exec_driver_sql(ddl.batch_function())
    tx.exec_driver_sql(_CREATE_VERSION)
    tx.execute(sa.text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})
