"""Bring a database to the schema that this code needs. Alembic is imported only when there is something to do."""

from pathlib import Path

import sqlalchemy as sa

from tok0n.adapters.sql.schema import HEAD
from tok0n.domain.errors import OperatorError


def current_revision(tx: sa.Connection) -> str | None:
    """The migration that the database has, or None for an empty one."""
    if not sa.inspect(tx).has_table("alembic_version"):
        return None
    revision: str | None = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def is_at_head(tx: sa.Connection) -> bool:
    """Whether the database has the schema that this code needs."""
    return current_revision(tx) == HEAD


def serves(tx: sa.Connection) -> bool:
    """Whether a server of this version may go on: at its schema, or a later one.

    Each migration leaves the version before it working, so that servers can be restarted one after the other.
    """
    revision = current_revision(tx)
    return revision is not None and revision >= HEAD


def require_head(revision: str | None) -> None:
    """Raises `OperatorError` unless the database has the schema that this code needs."""
    if revision != HEAD:
        found = "no schema yet" if revision is None else f"schema {revision}"
        raise OperatorError(f"The database has {found}; this version needs {HEAD}. Run tok0n migrate.")


def upgrade(tx: sa.Connection) -> list[str]:
    """Bring the schema to `HEAD` inside the transaction of `tx`. Return the migrations applied, none at `HEAD`.

    Raises `OperatorError` for a schema that this version does not know, or a ledger whose audit finds differences.
    """
    before = current_revision(tx)
    if before == HEAD:
        return []
    if before is None:
        _create(tx)
        return [HEAD]
    if before > HEAD:
        raise OperatorError(f"The database has schema {before}, of a newer Tok0n. Upgrade Tok0n first.")
    from tok0n.adapters.sql.migrations import from_first_chain  # noqa: PLC0415  it imports the audit, which a start needs not

    if before not in from_first_chain.SUPPORTED:
        raise OperatorError(
            f"The database has schema {before}. This version migrates only schemas 0007 (Tok0n 0.1.0) and 0012."
            " First run tok0n migrate with an older version that leads to one of them."
        )
    from_first_chain.bring_over(tx, before)
    tx.execute(sa.text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD})
    return [f"{before} -> {HEAD}"]


def _create(tx: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415  a fifth of a second that only a migration pays
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
