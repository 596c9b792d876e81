"""Runs the migrations on the connection that `migrate.py` hands over, inside its transaction."""

from alembic import context

from tok0n.adapters.sql.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
