"""The Alembic migrations, in order."""
