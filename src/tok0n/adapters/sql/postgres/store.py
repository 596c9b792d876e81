"""The store of several processes: transaction functions on pooled PostgreSQL connections."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa
from sqlalchemy.util import greenlet_spawn

from tok0n.adapters.sql import migrate
from tok0n.adapters.sql.postgres.connection import DATABASE_ERRORS, PostgresOptions, describe
from tok0n.adapters.sql.store import BY_INDEX, lock_for
from tok0n.domain.errors import AccountingFailed, OperatorError, Overloaded, Tok0nError

T = TypeVar("T")

POSTGRES_NEEDED = 130_000
ATTEMPTS_MAX = 3
"""A transaction runs at most this many times if the server rolls it back because of a concurrent one."""

WAITING_MAX = 1_000
RETRIED_STATES = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock. The server has rolled back, so the transaction can run again."""


class PostgresStore:
    """The database at `options.url`. Reconnects automatically.

    Every connection starts with the planner settings `planner`.
    """

    def __init__(self, options: PostgresOptions, *, planner: Mapping[str, str] = BY_INDEX) -> None:
        self.options = options
        self._waiting = 0
        self._engine = _create_engine(options, planner)
        self._engine_without_timeout = _create_engine(_for_one_connection(options), planner)

    async def check(self) -> None:
        """Raise `OperatorError` if PostgreSQL is too old or the schema is not at head."""
        version, revision = await self._for_operator(lambda tx: (_server_version(tx), migrate.current_revision(tx)))
        if version < POSTGRES_NEEDED:
            raise OperatorError(f"Tok0n needs PostgreSQL 13 or newer. This is PostgreSQL {version // 10_000}.")
        migrate.require_head(revision)

    async def migrate(self) -> list[str]:
        unlimited = PostgresStore(_for_one_connection(self.options), planner={})  # A migration may read whole tables.
        try:
            return await unlimited._for_operator(_migrate)
        finally:
            await unlimited.aclose()

    async def write(self, fn: Callable[[sa.Connection], T]) -> T:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._run(fn)
            except sa.exc.DBAPIError as error:
                if attempt == ATTEMPTS_MAX or _state(error) not in RETRIED_STATES:
                    raise _failed(error) from error
            except (sa.exc.SQLAlchemyError, *DATABASE_ERRORS) as error:
                raise _failed(error) from error
        raise AssertionError("the last attempt returns or raises")

    async def read(self, fn: Callable[[sa.Connection], T], *, no_timeout: bool = False) -> T:
        engine = self._engine_without_timeout if no_timeout else self._engine
        try:
            return await self._run(fn, engine, isolation_level="REPEATABLE READ", postgresql_readonly=True)
        except (sa.exc.SQLAlchemyError, *DATABASE_ERRORS) as error:
            raise _failed(error) from error

    async def probe(self) -> None:
        def check(tx: sa.Connection) -> bool:
            tx.execute(sa.text("UPDATE alembic_version SET version_num = version_num"))
            return migrate.serves(tx)

        if not await self.write(check):
            raise AccountingFailed(upstream_called=False, detail="the schema is not at head: run tok0n migrate")

    async def aclose(self) -> None:
        for engine in (self._engine, self._engine_without_timeout):
            await greenlet_spawn(engine.dispose)

    async def _run(
        self, fn: Callable[[sa.Connection], T], engine: sa.Engine | None = None, **execution_options: object
    ) -> T:
        if self._waiting >= WAITING_MAX:
            raise Overloaded(queue="database connections")
        self._waiting += 1
        try:
            return await greenlet_spawn(_in_transaction, engine or self._engine, fn, execution_options)
        finally:
            self._waiting -= 1

    async def _for_operator(self, fn: Callable[[sa.Connection], T]) -> T:
        try:
            return await self._run(fn)
        except (sa.exc.SQLAlchemyError, *DATABASE_ERRORS) as error:
            where = urlsplit(self.options.url)
            raise OperatorError(
                f"Can't use the database at {where.hostname or 'localhost'}:{where.port or 5432}{where.path}:"
                f" {describe(_origin(error))}."
            ) from error


def _in_transaction(engine: sa.Engine, fn: Callable[[sa.Connection], T], execution_options: dict[str, Any]) -> T:
    with engine.connect() as connection:
        connection.execution_options(**execution_options)
        with connection.begin():
            return fn(connection)


def _for_one_connection(options: PostgresOptions) -> PostgresOptions:
    return msgspec.structs.replace(options.without_timeout(), pool_size=1)


def _create_engine(options: PostgresOptions, planner: Mapping[str, str]) -> sa.Engine:
    """Return an engine whose connections work only in `greenlet_spawn`.

    SQLAlchemy's `AsyncEngine` would import the ORM, and start seven greenlets for each transaction.
    """

    def connect() -> Any:
        return engine.dialect.loaded_dbapi.connect(async_creator_fn=options.connect, settings=planner)

    engine = sa.create_engine(
        "postgresql+asyncpg://",
        creator=connect,
        pool_size=options.pool_size,
        max_overflow=0,
        pool_timeout=options.connect_timeout_seconds,
        hide_parameters=True,
    )
    sa.event.listen(engine, "checkout", _require_open)
    return engine


def _require_open(connection: Any, *_: object) -> None:
    """Make the pool replace a connection that the server has closed.

    SQLAlchemy's own ping takes three round trips, more than most transactions.
    """
    if connection.driver_connection.is_closed():
        raise sa.exc.DisconnectionError


def _migrate(tx: sa.Connection) -> list[str]:
    """Migrate under a lock. A concurrent migration waits, and then has nothing to do."""
    tx.execute(sa.text("SET LOCAL lock_timeout = '60s'"))
    lock_for(tx, "tok0n migrate")
    return migrate.upgrade(tx)


def _server_version(tx: sa.Connection) -> int:
    return int(tx.execute(sa.text("SHOW server_version_num")).scalar_one())


def _origin(error: BaseException) -> BaseException:
    """Return the driver's error, which SQLAlchemy wraps twice."""
    wrapped = getattr(error, "orig", None)
    return error if wrapped is None else wrapped.__cause__ or wrapped


def _state(error: BaseException) -> str:
    return str(getattr(_origin(error), "sqlstate", None) or "")


def _failed(error: BaseException) -> Tok0nError:
    """Convert an error of the database for the caller."""
    if isinstance(error, sa.exc.TimeoutError):
        return Overloaded(queue="database connections", detail="no database connection became free in time")
    return AccountingFailed(upstream_called=False, detail=describe(_origin(error)))
