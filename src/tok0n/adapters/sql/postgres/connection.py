"""One connection to PostgreSQL for one statement at a time, which knows what became of each statement.

A statement that was under way when its connection broke may have committed, or may still. Before anybody looks, the
old backend is made to end: what is not there then never comes.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import structlog

log = structlog.get_logger()

FENCE_PAUSE_SECONDS = 0.02
CLIENT_SECONDS_MORE = 2.0
"""How much longer than the server's own statement timeout the client waits before it gives the connection up."""

_CLOSING_STATES = ("08", "57P")
"""SQLSTATE classes that end the connection: connection exceptions, and shutdowns of the server."""

_WHO_AM_I = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_FENCE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"

_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "random_page_cost": "0.1",
    "seq_page_cost": "0.1",
    "jit": "off",
}
"""Every hot statement finds few rows by their keys, whose pages are in memory. While a table is young, the planner
would go through the whole table or index instead, and keep to that: in batches of 32, thirteen times the CPU of this
after 30,000 calls, and growing.
"""

_NO_MORE: Mapping[str, str] = {}

DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""All that can go wrong with PostgreSQL and the way to it."""


class Lost(Exception):
    """The connection broke while the statement was under way: whether it committed is not known."""


class NotConnected(Exception):
    """There is no connection; nothing was sent."""


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a database, and for how long to wait there. The URL may hold a password: never log it."""

    url: str
    pool_size: int = 10
    connect_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 10.0
    lock_timeout_seconds: float = 5.0

    async def connect(self, more: Mapping[str, str] = _NO_MORE) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection, set up the way that the ledger needs it, and with `more` settings. Raises `DATABASE_ERRORS`."""
        return await asyncpg.connect(
            self.url,
            timeout=self.connect_timeout_seconds,
            command_timeout=self.statement_timeout_seconds + CLIENT_SECONDS_MORE,
            server_settings={
                "application_name": "tok0n",
                "default_transaction_isolation": "read committed",
                "synchronous_commit": "on",
                "statement_timeout": _milliseconds(self.statement_timeout_seconds),
                "lock_timeout": _milliseconds(self.lock_timeout_seconds),
                "idle_in_transaction_session_timeout": _milliseconds(self.statement_timeout_seconds),
                **more,
            },
        )


class Backend(msgspec.Struct, frozen=True):
    """A server process, as nobody after it is called."""

    pid: int
    started: datetime


class StatementConnection:
    """Connects when it is needed, and again whenever it has to."""

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._backend: Backend | None = None
        self._unfenced: list[Backend] = []
        self._is_down = False

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Run one statement in a transaction of its own; its commit is done when this returns.

        No statement of a broken connection is under way any more when it begins. Raises `asyncpg.PostgresError` when
        the server refused it (then it did nothing), `NotConnected` or `Lost`.
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
            self._give_up()
            raise
        self._give_up()
        raise Lost(describe(failure)) from failure

    async def _fence(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        try:
            while self._unfenced:
                old = self._unfenced[0]
                if not await connection.fetch(_FENCE, old.pid, old.started):
                    self._unfenced.pop(0)
                else:
                    await asyncio.sleep(FENCE_PAUSE_SECONDS)
        except DATABASE_ERRORS as error:
            self._give_up()
            raise NotConnected(describe(error)) from error

    async def aclose(self) -> None:
        """Close it."""
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
            connection = await self._options.connect(_BY_INDEX)
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

    def _give_up(self) -> None:
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
    """What failed, for the operator's log; never a statement's parameters."""
    return f"{type(error).__name__}: {error}"


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
