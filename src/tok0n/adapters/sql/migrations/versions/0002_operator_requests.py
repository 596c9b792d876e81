"""The operator's own requests of the last minute."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table that a limiter which forgot is filled from, beside the requests of customers."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.execute(
        f"""CREATE TABLE operator_request (
            id TEXT NOT NULL PRIMARY KEY,
            model TEXT NOT NULL,
            created_at_us {"INTEGER" if sqlite else "BIGINT"} NOT NULL
        ) {"STRICT, WITHOUT ROWID" if sqlite else ""}"""
    )
