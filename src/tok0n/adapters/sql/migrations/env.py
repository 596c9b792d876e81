"""Run the migrations on the connection from `migrate.py`, inside its transaction."""

from alembic import context

from tok0n.adapters.sql.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
