"""The tables of the daily results of models."""

from sqlalchemy import Column, Index, Integer, Table, Text

from tok0n.adapters.sql.schema.columns import WITHOUT_ROWID, Big, metadata

verification = Table(
    "verification",
    metadata,
    Column("model", Text, primary_key=True),
    Column("at_us", Big, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("is_stream", Integer, primary_key=True),
    Column("code", Text),
    Column("latency_ms", Big),
    Column("first_event_ms", Big),
    Index("verification_time", "at_us"),
    **WITHOUT_ROWID,
)
"""Each verification of the last 90 days. `code` is the error code of a failure, or null."""

model_day = Table(
    "model_day",
    metadata,
    Column("day", Big, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("settled", Big, nullable=False),
    Column("failed", Big, nullable=False),
    Column("latencies", Text, nullable=False),
    **WITHOUT_ROWID,
)
"""The requests of all accounts by the UTC day of their creation, which a periodic task counts.

`latencies` is JSON: the counts of the buckets of `domain.latency`.
"""
