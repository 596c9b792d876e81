"""PostgreSQL looks up no row again that the hot path has just had in its hands.

For each call it checked four foreign keys, a quarter of all it did: the account and the key of a request, which
`tok0n_batch` reads and joins before it makes one, and the account and the request of an entry, which it has just
updated. That what is referred to stays there is now held from the other side, which costs a call nothing: accounts,
keys and requests are never deleted, and keep their ids. SQLite checks for next to nothing, and goes on.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_NO_LONGER_CHECKED = (
    ("request", "request_account_id_fkey"),
    ("request", "request_api_key_id_fkey"),
    ("ledger_entry", "ledger_entry_account_id_fkey"),
    ("ledger_entry", "ledger_entry_request_id_fkey"),
)
_REFERRED_TO = ("account", "api_key", "request")
_NEVER_EMPTIED = ("request", "ledger_entry")
"""The others are referred to by tables that still check it, which keeps them from being emptied."""


def upgrade() -> None:
    """Drop the checks and guard what they were for."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, constraint in _NO_LONGER_CHECKED:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    for table in _REFERRED_TO:
        op.execute(
            f"CREATE TRIGGER {table}_is_never_deleted BEFORE DELETE ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION tok0n_refuse('rows of {table} are never deleted')"
        )
        op.execute(
            f"CREATE TRIGGER {table}_keeps_its_id BEFORE UPDATE OF id ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION tok0n_refuse('rows of {table} keep their id')"
        )
    for table in _NEVER_EMPTIED:
        op.execute(
            f"CREATE TRIGGER {table}_is_never_emptied BEFORE TRUNCATE ON {table} "
            f"EXECUTE FUNCTION tok0n_refuse('{table} is never emptied')"
        )
