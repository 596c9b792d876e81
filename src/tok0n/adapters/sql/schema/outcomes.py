"""The tables of the latency and the failures of requests, which a periodic task counts."""

from sqlalchemy import Column, ForeignKey, LargeBinary, Table, Text

from tok0n.adapters.sql.schema.columns import WITHOUT_ROWID, Big, metadata

request_outcome = Table(
    "request_outcome",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("span_quarters", Big, primary_key=True),
    Column("quarter", Big, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("failed", Big, nullable=False),
    Column("latencies", LargeBinary, nullable=False),
    **WITHOUT_ROWID,
)
"""The requests by the time of their creation. Each one counts in four rows, so long periods need few rows.

A row covers a span of `span_quarters` (1, 4, 24 or 96) quarter hours. `quarter` is the first, counted from the Unix
epoch. `failed` requests were released or expired. `latencies` is the histogram of the others: see
`repositories.outcome_rows`.
"""

outcome_rollup = Table(
    "outcome_rollup",
    metadata,
    Column("quarter", Big, primary_key=True, autoincrement=False),
    Column("api_key_id", Text, nullable=False),
    **WITHOUT_ROWID,
)
"""At most one row. `request_outcome` has the requests before `quarter`, and in it those of keys up to `api_key_id`."""
