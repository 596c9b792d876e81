"""A PostgreSQL connection that runs one statement at a time, and reports whether each one committed.

A statement whose connection broke may have committed, or may commit later. Before the caller reads its effects back,
this module terminates the old backend: a statement that has not committed by then never will.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import structlog

from tok0n.adapters.sql.store import set_config

log = structlog.get_logger()

FENCE_PAUSE_SECONDS = 0.02
CLIENT_SECONDS_MORE = 2.0
"""The client closes the connection this long after the server's statement timeout."""

LONG_STATEMENT_SECONDS = 24 * 3600.0
"""The statement timeout of a migration, which may write every row of a table, and of other long statements."""

_CLOSING_STATES = ("08", "57P")
"""SQLSTATE classes of errors that end the connection: connection exceptions and server shutdowns."""

_WHO_AM_I = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_FENCE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"

_HOT_SETTINGS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_mergejoin": "off",
    "random_page_cost": "0.1",
    "seq_page_cost": "0.1",
    "jit": "off",
}
"""Planner settings that force index scans, because every hot statement finds few rows by their keys.

In a small table, the planner prefers to scan the whole table or index, and keeps that plan while the table grows. In
batches of 32, this took thirteen times the CPU after 30,000 requests. Hash joins are allowed, because `batch.sql`
bounds both of their sides.
"""

_NO_SETTINGS: Mapping[str, str] = {}

DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""The errors of PostgreSQL and of the connection to it."""


class Lost(Exception):
    """The connection broke during the statement. It is unknown whether the statement committed."""


class NotConnected(Exception):
    """The connection failed before the statement was sent."""


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a database, and the timeouts. Never log the URL: it may contain a password."""

    url: str
    pool_size: int = 10
    connect_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 10.0
    lock_timeout_seconds: float = 5.0

    async def connect(self, settings: Mapping[str, str] = _NO_SETTINGS) -> "asyncpg.Connection[asyncpg.Record]":
        """Open a connection with the session settings of the ledger and `settings`. Raises `DATABASE_ERRORS`."""
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            self.url,
            timeout=self.connect_timeout_seconds,
            command_timeout=self.statement_timeout_seconds + CLIENT_SECONDS_MORE,
            server_settings={"application_name": "tok0n"},
        )
        values = {
            "default_transaction_isolation": "read committed",
            "synchronous_commit": "on",
            "jit": "off",  # compiling a statement takes longer than any statement of a page
            "statement_timeout": _milliseconds(self.statement_timeout_seconds),
            "lock_timeout": _milliseconds(self.lock_timeout_seconds),
            "idle_in_transaction_session_timeout": _milliseconds(self.statement_timeout_seconds),
            **settings,
        }
        try:
            # Not in the startup packet, of which PgBouncer rejects or drops most parameters.
            await connection.execute(set_config(values), timeout=self.connect_timeout_seconds)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def without_timeout(self) -> "PostgresOptions":
        """Return options for long statements. `SET statement_timeout` would not lift the client's own timeout."""
        return msgspec.structs.replace(self, statement_timeout_seconds=LONG_STATEMENT_SECONDS)


class Backend(msgspec.Struct, frozen=True):
    """Identifies a PostgreSQL backend by PID and start time, so that a reused PID is not mistaken for it."""

    pid: int
    started: datetime


class StatementConnection:
    """Runs single statements. Connects on demand, and reconnects after a failure."""

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._backend: Backend | None = None
        self._unfenced: list[Backend] = []
        self._is_down = False

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Run one statement in its own transaction. It has committed when this returns.

        First terminates the backends of broken connections. Raises `asyncpg.PostgresError` if the server rejects the
        statement, which then has no effect, `NotConnected`, or `Lost`.
        """
        connection = await self._connected()
        if self._unfenced:
            await self._fence(connection)
        try:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows
        except asyncpg.PostgresError as error:
            if not connection.is_closed() and not (error.sqlstate or "").startswith(_CLOSING_STATES):
                raise
            failure: BaseException = error
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
            failure = error
        except asyncio.CancelledError:
            self._abandon()
            raise
        self._abandon()
        raise Lost(describe(failure)) from failure

    async def _fence(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        try:
            while self._unfenced:
                backend = self._unfenced[0]
                if not await connection.fetch(_FENCE, backend.pid, backend.started):
                    self._unfenced.pop(0)
                else:
                    await asyncio.sleep(FENCE_PAUSE_SECONDS)
        except DATABASE_ERRORS as error:
            self._abandon()
            raise NotConnected(describe(error)) from error

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=self._options.connect_timeout_seconds)
            except DATABASE_ERRORS:
                connection.terminate()

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = self._connection
        if connection is not None and not connection.is_closed():
            return connection
        try:
            connection = await self._options.connect(_HOT_SETTINGS)
            self._backend = await _backend_of(connection)
        except DATABASE_ERRORS as error:
            if not self._is_down:
                log.error("database_unreachable", detail=describe(error))
            self._is_down = True
            raise NotConnected(describe(error)) from error
        if self._is_down:
            log.warning("database_reachable_again")
        self._is_down = False
        self._connection = connection
        return connection

    def _abandon(self) -> None:
        """Drop the connection, and remember to terminate its backend."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        if self._backend is not None:
            self._unfenced.append(self._backend)
            self._backend = None


async def _backend_of(connection: "asyncpg.Connection[asyncpg.Record]") -> Backend | None:
    try:
        row = await connection.fetchrow(_WHO_AM_I)
    except BaseException:
        connection.terminate()
        raise
    return None if row is None else Backend(row[0], row[1])


def describe(error: BaseException) -> str:
    """Describe an error for the operator's log, without the statement's parameters."""
    return f"{type(error).__name__}: {error}"


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
