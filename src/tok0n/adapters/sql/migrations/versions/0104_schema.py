"""Creates the whole schema in an empty database."""

from alembic import op

from tok0n.adapters.sql import ddl

revision = "0104"
down_revision = None


def upgrade() -> None:
    """Create the tables, the triggers that guard them, and PostgreSQL's function."""
    connection = op.get_bind()
    engine = ddl.engine_of(connection)
    for statement in (*ddl.tables(engine), *ddl.guards(engine), *ddl.document_guards(engine)):
        connection.exec_driver_sql(statement)
    if engine == "postgresql":
        connection.exec_driver_sql(ddl.batch_function())
