"""The hot statements of the ledger on SQLite, for `sqlite3` without SQLAlchemy."""

import sqlite3
from collections.abc import Iterator
from itertools import chain
from typing import Any

Row = tuple[int | str, ...]

WalletId = tuple[str, str]
"""The id of the account, and the token class."""

ROWS_MAX = 64
"""The most rows of one statement."""

EXACT_ROWS_MAX = 16
"""Up to this number of rows, which is the usual case, each number has its own statement."""


class ManyRows:
    """A statement for several rows. One statement is faster than many, because sqlite3 can lose the GIL between two.

    `{rows}` is replaced with one `row` per row. Above `EXACT_ROWS_MAX`, the number of rows is rounded up to a power of
    two to limit the number of prepared statements. The statement must ignore the surplus rows, whose values are all ''.
    No value may be None, because sqlite3 searches an adapter for each None, which dominates the cost.
    """

    def __init__(self, statement: str, *, row: str) -> None:
        self._statement = statement
        self._row = row
        self._width = row.count("?")
        self._prepared: dict[int, str] = {}

    def run(self, connection: sqlite3.Connection, rows: list[Row]) -> int:
        """Run the statement for all rows. Returns the number of changed rows."""
        return sum(cursor.rowcount for cursor in self._cursors(connection, rows))

    def fetch(self, connection: sqlite3.Connection, rows: list[Row]) -> list[Any]:
        """Run the statement for all rows. Returns the rows that it returns, in any order."""
        return list(chain.from_iterable(cursor.fetchall() for cursor in self._cursors(connection, rows)))

    def _cursors(self, connection: sqlite3.Connection, rows: list[Row]) -> Iterator[sqlite3.Cursor]:
        for start in range(0, len(rows), ROWS_MAX):
            values = list(chain.from_iterable(rows[start : start + ROWS_MAX]))
            size = len(values) // self._width
            if size > EXACT_ROWS_MAX:
                size = 1 << (size - 1).bit_length()
                values += [""] * (size * self._width - len(values))
            yield connection.execute(self._for(size), values)

    def _for(self, size: int) -> str:
        prepared = self._prepared.get(size)
        if prepared is None:
            prepared = self._prepared[size] = self._statement.format(rows=", ".join([self._row] * size))
        return prepared


RESERVE = """
UPDATE wallet SET pending = pending + ?6
WHERE account_id = ?1 AND token_class = ?2 AND posted - pending >= ?6
  AND EXISTS (
    SELECT 1 FROM api_key WHERE id = ?3 AND account_id = ?1 AND version = ?4
      AND (expires_at_us IS NULL OR expires_at_us > ?5))
RETURNING posted, pending
"""
"""The values are those of a row of `RESERVE_MANY`. Named ones would take longer to bind."""

RESERVE_MANY = ManyRows(
    """
    UPDATE wallet SET pending = pending + new.column6 FROM (VALUES {rows}) AS new
    WHERE account_id = new.column1 AND token_class = new.column2 AND posted - pending >= new.column6
      AND EXISTS (
        SELECT 1 FROM api_key WHERE id = new.column3 AND account_id = wallet.account_id AND version = new.column4
          AND (expires_at_us IS NULL OR expires_at_us > new.column5))
    RETURNING account_id, token_class, posted, pending
    """,
    row="(?, ?, ?, ?, ?, ?)",
)
"""`RESERVE` for many wallets, each in one row."""

LEFT_IN_PERIOD = """
SELECT tokens - coalesce(spent, 0) - coalesce(pending, 0)
FROM key_budget LEFT JOIN budget_period ON budget_id = id AND starts_at_us = ? WHERE id = ?
"""
RESERVE_IN_PERIOD = """
INSERT INTO budget_period (budget_id, starts_at_us, ends_at_us, spent, pending) VALUES (?, ?, ?, 0, ?)
ON CONFLICT (budget_id, starts_at_us) DO UPDATE SET pending = pending + excluded.pending
"""
END_IN_PERIOD = """
UPDATE budget_period SET spent = spent + ?, pending = pending - ? WHERE budget_id = ? AND starts_at_us = ?
"""
"""Moves the tokens of an ended reservation from `pending` to `spent`; a release spends 0."""

INSERT_REQUESTS = ManyRows(
    """
    INSERT INTO request (id, account_id, api_key_id, model, reserved, created_at_us, expires_at_us,
        status, charged, shortfall, dispatched)
    SELECT *, 'PENDING', 0, 0, 1 FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?, ?, ?)",
)
"""Inserts the most frequent requests: whole answers of chat, paid with standard tokens, and without budgets."""

INSERT_OTHER_REQUESTS = ManyRows(
    """
    INSERT INTO request (id, account_id, api_key_id, model, reserved, created_at_us, expires_at_us,
        is_stream, endpoint, token_class, budget_periods, status, charged, shortfall, dispatched)
    SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10,
        NULLIF(column11, ''), 'PENDING', 0, 0, 1 FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
REJECTION = """
SELECT version, expires_at_us, coalesce(posted, 0), coalesce(pending, 0)
FROM api_key LEFT JOIN wallet ON wallet.account_id = api_key.account_id AND token_class = :token_class
WHERE id = :api_key_id AND api_key.account_id = :account_id
"""
SETTLE_AS_RESERVED = ManyRows(
    """
    UPDATE request SET status = 'SETTLED', charged = used.column3, prompt_tokens = used.column1,
        completion_tokens = used.column2, total_tokens = used.column3, details = NULLIF(used.column4, ''),
        upstream_ms = used.column5, resolved_at_us = used.column6
    FROM (VALUES {rows}) AS used
    WHERE id = used.column7 AND status = 'PENDING' AND reserved = used.column8 AND account_id = used.column9
    """,
    row="(?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
SETTLE = """
UPDATE request SET status = 'SETTLED',
    charged = MIN(:total, reserved + (SELECT posted - pending FROM wallet
        WHERE wallet.account_id = request.account_id AND wallet.token_class = request.token_class)),
    shortfall = MAX(0, :total - reserved - (SELECT posted - pending FROM wallet
        WHERE wallet.account_id = request.account_id AND wallet.token_class = request.token_class)),
    prompt_tokens = :prompt, completion_tokens = :completion, total_tokens = :total, details = :details,
    upstream_ms = :upstream_ms, resolved_at_us = :resolved_at_us
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, token_class, reserved, charged, shortfall, api_key_id, model, budget_periods
"""
RECORD_STREAM_END = "UPDATE request SET first_event_ms = ?, client_left = ? WHERE id = ? AND status = 'PENDING'"
"""Run it before the settlement, because a row that has ended can't change."""

CHARGE = ManyRows(
    """
    UPDATE wallet SET posted = posted - used.column3, pending = pending - used.column4, entries = entries + used.column5
    FROM (VALUES {rows}) AS used WHERE account_id = used.column1 AND token_class = used.column2
    RETURNING account_id, token_class, posted, pending, entries
    """,
    row="(?, ?, ?, ?, ?)",
)
"""Charges each wallet once, and counts the entries that follow."""

INSERT_USAGE = ManyRows(
    """
    INSERT INTO ledger_entry (account_id, token_class, number, amount, posted_after, request_id, created_at_us, kind)
    SELECT *, 'usage' FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?, ?, ?)",
)
COUNT_QUARTERS = ManyRows(
    """
    INSERT INTO usage_quarter
        (account_id, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
    SELECT * FROM (VALUES {rows}) WHERE column1 <> ''
    ON CONFLICT (account_id, quarter, api_key_id, model) DO UPDATE SET requests = requests + excluded.requests,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens, charged = charged + excluded.charged
    """,
    row="(?, ?, ?, ?, ?, ?, ?, ?)",
)
SETTLED_BEFORE = """
SELECT status, reserved, charged, shortfall, posted, wallet.pending
FROM request JOIN wallet ON wallet.account_id = request.account_id AND wallet.token_class = request.token_class
WHERE request.id = :request_id
"""
RELEASE = """
UPDATE request SET status = 'RELEASED', code = :code, dispatched = :dispatched, resolved_at_us = :resolved_at_us,
    first_event_ms = :first_event_ms
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, token_class, reserved, budget_periods
"""
UNRESERVE = "UPDATE wallet SET pending = pending - ? WHERE account_id = ? AND token_class = ?"
STATUS = "SELECT status FROM request WHERE id = :request_id"
