"""Copy an embedded database to PostgreSQL in one transaction.

No server may use the source. If the source changes during the copy, nothing is committed.
"""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql import audit, schema
from tok0n.adapters.sql.postgres.connection import DATABASE_ERRORS, describe
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import AuditReport

ROWS_AT_ONCE = 5_000
MODULUS = 1_000_000_007
"""Column sums add remainders, so that a billion rows don't overflow 64 bits."""

_CONTINUE_IDS = "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} HAVING max(id) > 0"
_NOT_EMPTY = "The target database already has {rows} rows in the table {table}. Copy to an empty database."
_CHANGED = "{path} changed during the copy, so nothing was copied. Run the command again."


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """The number of rows copied from each table, and the equal audits of both databases."""

    rows: dict[str, int]
    source: AuditReport
    target: AuditReport


async def copy(source: SqliteStore, target: PostgresStore) -> Copied:
    """Copy every row. Raises `OperatorError` if the target is not empty or does not equal the source afterwards."""
    before = await source.read(_fingerprint)
    audit_before = await source.read(audit.audit)
    if not audit_before.ok:
        raise OperatorError("The audit of the source found differences. Nothing was copied. Run tok0n ledger audit.")
    for name, (rows, *_) in (await target.read(_fingerprint)).items():
        if rows:
            raise OperatorError(_NOT_EMPTY.format(rows=rows, table=name))
    try:
        connection = await target.options.without_timeout().connect()
        try:
            async with connection.transaction():
                for table in schema.metadata.sorted_tables:
                    await _copy_table(source, connection, table)
                if await source.read(_fingerprint) != before:
                    raise OperatorError(_CHANGED.format(path=source.path))
        finally:
            await connection.close()
    except DATABASE_ERRORS as error:
        raise OperatorError(f"The copy failed, and nothing was copied: {describe(error)}") from error
    audit_after = await target.read(audit.audit, no_timeout=True)
    if audit_after != audit_before or await target.read(_fingerprint, no_timeout=True) != before:
        raise OperatorError("The copy does not equal the source. Don't use it, and report this as a bug.")
    return Copied(rows={table: values[0] for table, values in before.items()}, source=audit_before, target=audit_after)


async def _copy_table(source: SqliteStore, connection: "asyncpg.Connection[Any]", table: sa.Table) -> None:
    columns = [column.name for column in table.columns]
    async for rows in _pages(source, table):
        await connection.copy_records_to_table(table.name, records=rows, columns=columns, timeout=None)
    if isinstance(table.columns[0].type, sa.Integer) and table.columns[0].name == "id":
        await connection.execute(_CONTINUE_IDS.format(table=table.name))


async def _pages(source: SqliteStore, table: sa.Table) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Yield all rows in the order of the primary key, `ROWS_AT_ONCE` at a time."""
    keys = list(table.primary_key.columns)
    query = sa.select(table).order_by(*keys).limit(ROWS_AT_ONCE)
    key_indexes = [list(table.columns).index(key) for key in keys]
    rows = await source.read(lambda tx: [tuple(row) for row in tx.execute(query)])
    while rows:
        yield rows
        page = query.where(sa.tuple_(*keys) > tuple(rows[-1][index] for index in key_indexes))
        rows = await source.read(lambda tx, page=page: [tuple(row) for row in tx.execute(page)])  # type: ignore[misc]


def _fingerprint(tx: sa.Connection) -> dict[str, list[Any]]:
    """Return the number of rows and the sums of integer columns of each table, which differ in any two ledger states.

    Leaves out `operator_request` and `process`, whose rows are short-lived.
    """
    return {
        table.name: [
            int(value or 0)
            for value in tx.execute(
                sa.select(
                    sa.func.count(),
                    *(sa.func.sum(c % MODULUS) for c in table.columns if isinstance(c.type, sa.Integer)),
                ).select_from(table)
            ).one()
        ]
        for table in schema.metadata.sorted_tables
        if table not in {schema.operator_request, schema.process}
    }
