"""Migrate schema 0102 to 0103, inside the caller's transaction."""

import sqlalchemy as sa


def upgrade(tx: sa.Connection) -> None:
    """Not written yet."""
    raise NotImplementedError
