"""Grant welcome tokens in SQL, in the transaction that opens an account."""

import sqlalchemy as sa
import structlog

from tok0n.adapters.sql.ledger_functions import append_entry
from tok0n.adapters.sql.schema import welcome_grant
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, EntryKind
from tok0n.domain.users import Welcome, digest

WELCOME_REASON = "welcome tokens"

log = structlog.get_logger()

_INSERT_GRANT = sa.text(
    "INSERT INTO welcome_grant (email_digest, granted_at_us) VALUES (:email_digest, :now_us)"
    " ON CONFLICT (email_digest) DO NOTHING"
)
_COUNT_GRANT = sa.text(
    "INSERT INTO welcome_day (day, grants) VALUES (:day, 1)"
    " ON CONFLICT (day) DO UPDATE SET grants = welcome_day.grants + 1 WHERE welcome_day.grants < :grants_per_day"
    " RETURNING grants"
)
"""Returns no row if the limit of the day is reached. Concurrent transactions wait for the row."""


def grant_welcome(tx: sa.Connection, welcome: Welcome, *, account_id: str, email: str, now_us: int) -> None:
    """Grant the welcome tokens, unless the address has got some before or the limit of the UTC day is reached.

    `email` is in its stored form. The caller holds the lock of its account.
    """
    email_digest = digest(email)
    if tx.execute(_INSERT_GRANT, {"email_digest": email_digest, "now_us": now_us}).rowcount == 0:
        return
    counted = {"day": now_us // MICROSECONDS_PER_DAY, "grants_per_day": welcome.grants_per_day}
    if tx.execute(_COUNT_GRANT, counted).first() is None:
        tx.execute(sa.delete(welcome_grant).where(welcome_grant.c.email_digest == email_digest))
        log.warning("welcome_grants_used_up", account=account_id, welcome_grants_per_day=welcome.grants_per_day)
        return
    append_entry(
        tx, account_id=account_id, kind=EntryKind.GRANT, amount=welcome.tokens, reason=WELCOME_REASON, now_us=now_us
    )
