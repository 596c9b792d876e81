"""The hot statements of the ledger on SQLite, for `sqlite3` without SQLAlchemy."""

import sqlite3
from collections.abc import Iterator
from itertools import chain
from typing import Any

Row = tuple[int | str, ...]

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
UPDATE account SET pending = pending + :tokens
WHERE id = :account_id AND status = 'open' AND posted - pending >= :tokens
  AND EXISTS (
    SELECT 1 FROM api_key WHERE id = :api_key_id AND account_id = :account_id AND revoked_at_us IS NULL
      AND (expires_at_us IS NULL OR expires_at_us > :created_at_us)
      AND (budget IS NULL OR budget - spent - api_key.pending >= :tokens))
RETURNING posted, pending
"""
RESERVE_MANY = ManyRows(
    """
    UPDATE account SET pending = pending + new.column3 FROM (VALUES {rows}) AS new
    WHERE id = new.column1 AND status = 'open' AND posted - pending >= new.column3
      AND EXISTS (
        SELECT 1 FROM api_key WHERE id = new.column2 AND account_id = account.id AND revoked_at_us IS NULL
          AND (expires_at_us IS NULL OR expires_at_us > new.column4) AND budget IS NULL)
    RETURNING id, posted, pending
    """,
    row="(?, ?, ?, ?)",
)
"""`RESERVE` for many accounts, each in one row, and keys without a budget."""

RESERVE_BUDGET = "UPDATE api_key SET pending = pending + :tokens WHERE id = :api_key_id AND budget IS NOT NULL"
INSERT_REQUESTS = ManyRows(
    """
    INSERT INTO request (id, account_id, api_key_id, model, reserved, created_at_us, expires_at_us,
        status, charged, shortfall, dispatched)
    SELECT *, 'PENDING', 0, 0, 1 FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?, ?, ?)",
)
"""Inserts the most frequent requests, whole answers of chat. Their other columns have the defaults."""

INSERT_OTHER_REQUESTS = ManyRows(
    """
    INSERT INTO request (id, account_id, api_key_id, model, reserved, created_at_us, expires_at_us,
        is_stream, endpoint, status, charged, shortfall, dispatched)
    SELECT *, 'PENDING', 0, 0, 1 FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
REJECTION = """
SELECT account.posted, account.pending, budget - spent - api_key.pending
FROM account JOIN api_key ON api_key.account_id = account.id
WHERE account.id = :account_id AND account.status = 'open' AND api_key.id = :api_key_id AND revoked_at_us IS NULL
  AND (expires_at_us IS NULL OR expires_at_us > :created_at_us)
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
    charged = MIN(:total, reserved + (SELECT posted - pending FROM account WHERE account.id = request.account_id)),
    shortfall = MAX(0,
        :total - reserved - (SELECT posted - pending FROM account WHERE account.id = request.account_id)),
    prompt_tokens = :prompt, completion_tokens = :completion, total_tokens = :total, details = :details,
    upstream_ms = :upstream_ms, resolved_at_us = :resolved_at_us
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, reserved, charged, shortfall, api_key_id, model
"""
END_STREAM = "UPDATE request SET first_event_ms = ?, client_left = ? WHERE id = ? AND status = 'PENDING'"
"""Run it before the settlement, because a row that has ended can't change."""

CHARGE = ManyRows(
    """
    UPDATE account SET posted = posted - used.column2, pending = pending - used.column3
    FROM (VALUES {rows}) AS used WHERE id = used.column1 RETURNING id, posted, pending
    """,
    row="(?, ?, ?)",
)
"""Charges each account once."""

INSERT_USAGE = ManyRows(
    """
    INSERT INTO ledger_entry (account_id, amount, posted_after, request_id, created_at_us, kind)
    SELECT *, 'usage' FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?)",
)
COUNT_HOURS = ManyRows(
    """
    INSERT INTO usage_hour (account_id, hour, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
    SELECT * FROM (VALUES {rows}) WHERE column1 <> ''
    ON CONFLICT (account_id, hour, api_key_id, model) DO UPDATE SET requests = requests + excluded.requests,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens, charged = charged + excluded.charged
    """,
    row="(?, ?, ?, ?, ?, ?, ?, ?)",
)
END_BUDGET = """
UPDATE api_key SET spent = spent + ?, pending = pending - ? WHERE id = ? AND budget IS NOT NULL
"""
SETTLED_BEFORE = """
SELECT request.status, reserved, charged, shortfall, account.posted, account.pending, account.id
FROM request JOIN account ON account.id = request.account_id WHERE request.id = :request_id
"""
RELEASE = """
UPDATE request SET status = 'RELEASED', code = :code, dispatched = :dispatched, resolved_at_us = :resolved_at_us,
    first_event_ms = :first_event_ms
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, reserved, api_key_id
"""
UNRESERVE = "UPDATE account SET pending = pending - :reserved WHERE id = :account_id"
STATUS = "SELECT status FROM request WHERE id = :request_id"
