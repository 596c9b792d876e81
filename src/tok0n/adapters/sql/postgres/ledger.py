"""The ledger on PostgreSQL. Each batch of reservations, settlements and releases is one statement and one commit.

The statement calls a database function (`batch.sql`), which makes all decisions. This module converts its arguments and
results. After a broken connection, it reads the rows back to find out which commands committed.
"""

import asyncio
from asyncio import Future
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import asyncpg
import msgspec

from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX, Batcher
from tok0n.adapters.sql import budget_periods
from tok0n.adapters.sql.postgres.connection import Lost, NotConnected, StatementConnection, describe
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.shared_ledger import SharedLedger
from tok0n.domain.errors import (
    AccountingFailed,
    AlreadyResolved,
    InsufficientTokens,
    InvalidApiKey,
    KeyBudgetSpent,
    KeyChanged,
    Overloaded,
    Tok0nError,
)
from tok0n.domain.ledger import (
    Balance,
    NewReservation,
    Receipt,
    Release,
    RequestStatus,
    Settlement,
)

BATCH_MAX = 256
RUNS_MAX = 2
"""A batch runs at most this many times if its connection breaks before the commit."""

READ_BACK_SECONDS_MAX = 10.0
READ_BACK_PAUSE_SECONDS = 0.1

_BATCH = """
SELECT * FROM tok0n_ledger_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22, $23, $24, $25, $26, $27)
"""
_READ_BACK = """
SELECT request.id, request.status, reserved, charged, shortfall, posted, pending
FROM request JOIN wallet ON wallet.account_id = request.account_id AND wallet.token_class = request.token_class
WHERE request.id = ANY ($1::text[])
"""
_COMMAND_ERRORS = ("22", "23", "P0")
"""SQLSTATE classes of errors that one command causes: data, constraints, our triggers. The others then run alone."""

Command = NewReservation | Settlement | Release
_KIND: dict[type[Command], str] = {NewReservation: "reserve", Settlement: "settle", Release: "release"}
Indexed = tuple[int, Command]
Result = Balance | Receipt | None
CommandResult = Result | Exception


class Retry(Exception):
    """The batch did not decide about a command. Run it in the next batch."""


class _Row(NamedTuple):
    """A request row that was read back, with the balance of its wallet."""

    id: str
    status: str
    reserved: int
    charged: int
    shortfall: int
    posted: int
    pending: int


class PostgresLedger(SharedLedger):
    """The `Ledger` port on PostgreSQL. Reserves only while the lease of `process_id` is alive."""

    def __init__(
        self, store: PostgresStore, *, process_id: str, read_back_seconds_max: float = READ_BACK_SECONDS_MAX
    ) -> None:
        super().__init__(store)
        self._process_id = process_id
        self._read_back_seconds_max = read_back_seconds_max
        self._connection = StatementConnection(store.options)
        self._batcher: Batcher[Command, Any] = Batcher(
            self._run, name="reservations", batch_max=BATCH_MAX, queue_max=RESERVATIONS_WAITING_MAX
        )

    def has_room(self) -> bool:
        return len(self._batcher.waiting) < RESERVATIONS_WAITING_MAX

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        return self._batcher.submit(reservation)

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        return self._batcher.submit(settlement, bypass_limit=True)

    def release(self, release: Release) -> Future[None]:
        return self._batcher.submit(release, bypass_limit=True)

    async def aclose(self) -> None:
        """Run the queued commands, then close the connection."""
        await self._batcher.wait_until_drained()
        await self._connection.aclose()

    async def _run(self, commands: list[Command]) -> list[Any]:
        """Run commands in as few statements as possible. A statement has at most one command of each request."""
        decided: dict[int, CommandResult] = {}
        remaining = list(enumerate(commands))
        while remaining:
            batch, remaining = _distinct(remaining)
            results = await self._apply([command for _, command in batch])
            retries = []
            for indexed, result in zip(batch, results, strict=True):
                if isinstance(result, Retry):
                    retries.append(indexed)
                else:
                    decided[indexed[0]] = result
            remaining = retries + remaining
        return [decided[index] for index in range(len(commands))]

    async def _apply(self, commands: Sequence[Command], *, run: int = 1) -> list[CommandResult]:
        try:
            rows = await self._connection.fetch(_BATCH, *_pack(commands), self._process_id)
        except asyncpg.PostgresError as error:
            if len(commands) > 1 and (error.sqlstate or "").startswith(_COMMAND_ERRORS):
                return [(await self._apply([command]))[0] for command in commands]
            return [_failed(describe(error))] * len(commands)
        except NotConnected as error:
            return [_failed(str(error))] * len(commands)
        except Lost as error:
            return await self._recover(commands, str(error), run=run)
        return await self._complete(commands, _unpack(commands, rows))

    async def _complete(self, commands: Sequence[Command], results: dict[int, CommandResult]) -> list[CommandResult]:
        """Add the results that the function omits, of requests that had already ended."""
        missing = [n for n in range(len(commands)) if n not in results]
        if missing:
            try:
                rows = await self._rows([commands[n] for n in missing])
            except (NotConnected, Lost, asyncpg.PostgresError) as error:
                results |= {n: _failed(describe(error)) for n in missing}
            else:
                results |= {n: _result_of_row(commands[n], rows.get(commands[n].request_id)) for n in missing}
        return [results[n] for n in range(len(commands))]

    async def _recover(self, commands: Sequence[Command], detail: str, *, run: int) -> list[CommandResult]:
        """Read back which commands committed before the connection broke, and run the others again."""
        rows = await self._read_back(commands)
        if rows is None:
            detail = f"it is unknown whether the command committed: {detail}"
            return [AccountingFailed(upstream_called=False, detail=detail, outcome_unknown=True)] * len(commands)
        committed = [_is_done(command, rows.get(command.request_id)) for command in commands]
        uncommitted = [command for command, is_done in zip(commands, committed, strict=True) if not is_done]
        if run < RUNS_MAX:
            results = iter(await self._apply(uncommitted, run=run + 1) if uncommitted else [])
        else:
            results = iter([_failed(detail)] * len(uncommitted))
        return [
            _result_of_row(command, rows.get(command.request_id)) if is_done else next(results)
            for command, is_done in zip(commands, committed, strict=True)
        ]

    async def _read_back(self, commands: Sequence[Command]) -> dict[str, _Row] | None:
        """Return the final rows of the commands, or None if the database does not respond in time."""
        deadline = asyncio.get_running_loop().time() + self._read_back_seconds_max
        while asyncio.get_running_loop().time() < deadline:
            try:
                return await self._rows(commands)
            except (NotConnected, Lost, asyncpg.PostgresError):
                await asyncio.sleep(READ_BACK_PAUSE_SECONDS)
        return None

    async def _rows(self, commands: Sequence[Command]) -> dict[str, _Row]:
        rows = await self._connection.fetch(_READ_BACK, [command.request_id for command in commands])
        return {row[0]: _Row(*row) for row in rows}


def _distinct(commands: list[Indexed]) -> tuple[list[Indexed], list[Indexed]]:
    """Split commands into the first one of each request, and the others."""
    seen: set[str] = set()
    first: list[Indexed] = []
    later: list[Indexed] = []
    for indexed in commands:
        request_id = indexed[1].request_id
        (later if request_id in seen else first).append(indexed)
        seen.add(request_id)
    return first, later


def _pack(commands: Sequence[Command]) -> list[list[Any]]:
    """Return the arrays of `tok0n_ledger_batch`: the columns of the settlements, releases and reservations."""
    settled: list[tuple[Any, ...]] = []
    released: list[tuple[Any, ...]] = []
    reserved: list[tuple[Any, ...]] = []
    for command in commands:
        if type(command) is NewReservation:
            reserved.append(
                (
                    command.request_id,
                    command.account_id,
                    command.api_key_id,
                    command.model,
                    command.tokens,
                    command.created_at_us,
                    command.expires_at_us,
                    int(command.is_stream),
                    command.endpoint,
                    command.token_class,
                    command.key_version,
                    budget_periods.encode(command.periods),
                )
            )
        elif type(command) is Settlement:
            usage = command.usage
            settled.append(
                (
                    command.request_id,
                    usage.prompt_tokens,
                    usage.completion_tokens,
                    usage.total_tokens,
                    msgspec.json.encode(usage.details).decode() if usage.details else None,
                    command.upstream_ms,
                    command.resolved_at_us,
                    command.first_event_ms,
                    int(command.client_left),
                )
            )
        else:
            assert type(command) is Release
            dispatched = int(command.dispatched)
            released.append(
                (command.request_id, command.code, dispatched, command.resolved_at_us, command.first_event_ms)
            )
    return [*_columns(settled, 9), *_columns(released, 5), *_columns(reserved, 12)]


def _columns(rows: list[tuple[Any, ...]], count: int) -> Iterable[list[Any]]:
    return map(list, zip(*rows, strict=True)) if rows else [[] for _ in range(count)]


def _unpack(commands: Sequence[Command], rows: Iterable[Any]) -> dict[int, CommandResult]:
    """Return the results that the function reported, by the index of the command."""
    indexes: dict[str, list[int]] = {"settle": [], "release": [], "reserve": []}
    for index, command in enumerate(commands):
        indexes[_KIND[type(command)]].append(index)
    results: dict[int, CommandResult] = {}
    for kind, number, outcome, reserved, charged, shortfall, posted, pending, budget_id in rows:
        index = indexes[kind][number - 1]
        if kind == "reserve":
            # The function has one row type: for a rejected reservation, `charged` has the tokens left in the budget.
            results[index] = _result_of_reservation(
                outcome, required=reserved, left=charged, budget_id=budget_id, posted=posted, pending=pending
            )
        elif kind == "settle":
            results[index] = Receipt(
                request_id=commands[index].request_id,
                reserved=reserved,
                charged=charged,
                shortfall=shortfall,
                balance=Balance(posted=posted, pending=pending),
            )
        else:
            results[index] = None
    return results


def _result_of_reservation(
    outcome: str, *, required: int, left: int, budget_id: str | None, posted: int, pending: int
) -> CommandResult:
    """Return the result of a reservation. `left` are the tokens left in the budget that has the least."""
    match outcome:
        case "PENDING":
            return Balance(posted=posted, pending=pending)
        case "SHORT":
            return InsufficientTokens(required=required, posted=posted, pending=pending, largest_output_tokens=0)
        case "BUDGET":
            assert budget_id is not None
            return KeyBudgetSpent(left=left, required=required, budget_id=budget_id)
        case "CHANGED":
            return KeyChanged()
        case "INACTIVE":
            return InvalidApiKey("This API key is no longer active.")
        case "UNLEASED":
            return Overloaded(queue="reservations", detail="the lease of this process has ended")
    assert outcome == "AGAIN"
    return Retry()


def _is_done(command: Command, row: _Row | None) -> bool:
    """Whether a command whose connection broke has committed, or can never succeed."""
    if type(command) is NewReservation:
        return row is not None
    return row is None or row.status != RequestStatus.PENDING


def _result_of_row(command: Command, row: _Row | None) -> CommandResult:
    """Return the result of a command from the row of its request, which has ended or was reserved."""
    if type(command) is NewReservation:
        assert row is not None
        return Balance(posted=row.posted, pending=row.pending)
    if row is None:
        if type(command) is Release:
            return None
        return AlreadyResolved(request_id=command.request_id, status="unknown", event="settle")
    if type(command) is Release:
        if row.status == RequestStatus.SETTLED:
            return AlreadyResolved(request_id=row.id, status=row.status, event="release")
        return None
    if row.status != RequestStatus.SETTLED:
        return AlreadyResolved(request_id=row.id, status=row.status, event="settle")
    return Receipt(
        request_id=row.id,
        reserved=row.reserved,
        charged=row.charged,
        shortfall=row.shortfall,
        balance=Balance(posted=row.posted, pending=row.pending),
    )


def _failed(detail: str) -> Tok0nError:
    return AccountingFailed(upstream_called=False, detail=detail)
