"""Compares a ledger with the rule book, with requests of every endpoint, whole and streamed.

After every step, ALL wallets, budgets, keys, requests, entries and hours of use are compared.
"""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.ledger_calls import ASKED, BUDGETS, CLASSES, MILLISECONDS, TOKENS, Asked
from support.ledger_model import LedgerModel, read_all
from support.ledgers import NOW_US, Opened, open_engine, outcome, schema
from tok0n.adapters.sql import ledger_functions
from tok0n.domain import ledger_rules
from tok0n.domain.accounts import Caller, KeyLimits
from tok0n.domain.budgets import KeyBudget, periods_at
from tok0n.domain.errors import AlreadyResolved
from tok0n.domain.ledger import (
    MICROSECONDS_PER_HOUR,
    STANDARD,
    Balance,
    EntryKind,
    NewReservation,
    Receipt,
    Release,
    RequestStatus,
    Settlement,
)
from tok0n.domain.ledger_rules import KeyRow, Rows, WalletRow
from tok0n.domain.usage import Usage

WHICH = st.integers(0, 1)
BUDGETS_MAX = 4


class LedgerMachine(RuleBasedStateMachine):
    """Two accounts with a key each, two token classes, budgets that reset, changes of keys, and sometimes a crash."""

    engine: str

    @initialize(budgets=st.lists(BUDGETS, max_size=2))
    def open(self, budgets: list[KeyBudget]) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.now_us = NOW_US
        self.numbers = itertools.count(1)
        self.model = LedgerModel()
        self.statuses: dict[str, str] = {}
        self.reservations: dict[str, NewReservation] = {}
        self.key_ids: dict[str, str] = {}
        self._open()
        for email, own in (("a@x", ()), ("b@x", [self._named(budget) for budget in budgets])):
            account = self._run(self.db.accounts.create(email=email, tokens=1000, now_us=NOW_US))
            key = self._run(
                self.db.accounts.create_key(
                    account_id=account.id,
                    name="test",
                    digest=email.encode(),
                    prefix="tk0n_",
                    last_four="0000",
                    now_us=NOW_US,
                    limits=KeyLimits(budgets=tuple(own)),
                )
            )
            self.model.wallets[account.id, STANDARD] = WalletRow(posted=1000, entries=1)
            self.model.keys[account.id] = KeyRow()
            self.model.budgets[account.id] = {budget.id: budget for budget in own}
            self.statuses[account.id] = "open"
            self.key_ids[account.id] = key.id
            self.model.entries.append((account.id, STANDARD, 1, "grant", 1000, 1000, None, None))
        self.emails = dict(zip(self.model.keys, ("a@x", "b@x"), strict=True))

    @rule(asked=ASKED)
    def reserve(self, asked: Asked) -> None:
        reservation = self._reservation(asked)
        result = self._submit(lambda: self.db.ledger.reserve(reservation))
        rows = self.model.reserve(reservation)
        if isinstance(rows, Rows):
            assert result == Balance(posted=rows.wallet.posted, pending=rows.wallet.pending)
        else:
            assert (type(result), str(result), vars(result)) == (type(rows), str(rows), vars(rows))

    @rule(asked=st.lists(ASKED, min_size=2, max_size=5))
    def reserve_together(self, asked: list[Asked]) -> None:
        """Reserve in one group commit, whose requests differ in endpoint, stream, class and account."""
        reservations = [self._reservation(one) for one in asked]

        async def submit() -> list[Any]:
            return await asyncio.gather(*(outcome(self.db.ledger.reserve(new)) for new in reservations))

        for result, reservation in zip(self._run(submit()), reservations, strict=True):
            rows = self.model.reserve(reservation)
            assert type(result) is (Balance if isinstance(rows, Rows) else type(rows))

    @precondition(lambda self: self.model.requests)
    @rule(
        index=st.integers(0, 1000),
        prompt=st.integers(0, 200),
        completion=st.integers(1, 400),
        at_hand=st.booleans(),
        first_event_ms=MILLISECONDS,
        has_left=st.booleans(),
    )
    def settle(
        self, index: int, prompt: int, completion: int, first_event_ms: int | None, *, at_hand: bool, has_left: bool
    ) -> None:
        rows = self.model.pick(index)
        is_stream = self.reservations[rows.request.id].is_stream
        settlement = Settlement(
            request_id=rows.request.id,
            usage=Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion),
            resolved_at_us=self.now_us,
            upstream_ms=prompt + 1,
            reservation=self.reservations[rows.request.id] if at_hand else None,
            first_event_ms=first_event_ms if is_stream else None,
            client_left=has_left and is_stream,
        )
        result = self._submit(lambda: self.db.ledger.settle(settlement))
        try:
            was, rows = rows.request, ledger_rules.settle(rows, total_tokens=prompt + completion)
        except AlreadyResolved:
            assert isinstance(result, AlreadyResolved)
            return
        self.model.keep(rows)
        if was != rows.request:
            self.model.facts[was.id] |= {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "upstream_ms": prompt + 1,
                "resolved_at_us": self.now_us,
                "first_event_ms": settlement.first_event_ms,
                "client_left": int(settlement.client_left),
            }
        assert result == Receipt(
            request_id=rows.request.id,
            reserved=rows.request.reserved,
            charged=rows.request.charged,
            shortfall=rows.request.shortfall,
            balance=Balance(posted=rows.wallet.posted, pending=rows.wallet.pending),
        )

    @precondition(lambda self: self.model.requests)
    @rule(
        index=st.integers(0, 1000),
        code=st.sampled_from(["upstream_error", "cancelled", "not_metered"]),
        dispatched=st.booleans(),
        first_event_ms=MILLISECONDS,
    )
    def release(self, index: int, code: str, first_event_ms: int | None, *, dispatched: bool) -> None:
        rows = self.model.pick(index)
        release = Release(
            request_id=rows.request.id,
            code=code,
            dispatched=dispatched,
            resolved_at_us=self.now_us,
            first_event_ms=first_event_ms if self.reservations[rows.request.id].is_stream else None,
        )
        result = self._submit(lambda: self.db.ledger.release(release))
        try:
            after = ledger_rules.release(rows)
        except AlreadyResolved:
            assert isinstance(result, AlreadyResolved)
            return
        assert result is None
        self.model.keep(after)
        if after.request != rows.request:
            self.model.facts[rows.request.id] |= {
                "code": code,
                "dispatched": int(dispatched),
                "resolved_at_us": self.now_us,
                "first_event_ms": release.first_event_ms,
            }

    @precondition(lambda self: self.model.requests)
    @rule(index=st.integers(0, 1000))
    def reverse(self, index: int) -> None:
        request = self.model.pick(index).request
        self._run(self.db.ledger.reverse(request_id=request.id, now_us=self.now_us))
        is_reversed = any(entry[-1] == request.id for entry in self.model.entries)
        if request.status is RequestStatus.SETTLED and not is_reversed:
            self.model.append(
                request.account_id, request.token_class, EntryKind.ADJUSTMENT, request.charged, request.id
            )

    @rule(rows_max=st.integers(1, 3), passed_us=st.integers(0, 30))
    def expire(self, rows_max: int, passed_us: int) -> None:
        self.now_us += passed_us
        overdue = sorted(
            (row.expires_at_us, row.id)
            for row in self.model.requests.values()
            if ledger_rules.expire(self.model.rows_of(row), before_us=self.now_us).request != row
        )
        # Rows with the same expiry may expire in any order, so all that share the last one expire together.
        if len(overdue) > rows_max:
            last = overdue[rows_max - 1][0]
            rows_max = sum(expires <= last for expires, _ in overdue)
        assert self._run(self.db.ledger.expire(now_us=self.now_us, rows_max=rows_max)) == min(rows_max, len(overdue))
        for _, request_id in overdue[:rows_max]:
            rows = self.model.rows_of(self.model.requests[request_id])
            self.model.expire(ledger_rules.expire(rows, before_us=self.now_us), self.now_us)

    @rule(hours=st.integers(1, 24 * 40))
    def time_passes(self, hours: int) -> None:
        """Budgets reset, while reservations stay open."""
        self.now_us += hours * MICROSECONDS_PER_HOUR

    @rule(which=WHICH, token_class=st.sampled_from(CLASSES), tokens=TOKENS)
    def grant(self, which: int, token_class: str, tokens: int) -> None:
        account_id = self._account(which)
        self._write(
            lambda tx: ledger_functions.append_entry(
                tx,
                account_id=account_id,
                token_class=token_class,
                kind=EntryKind.GRANT,
                amount=tokens,
                reason="a grant",
                now_us=self.now_us,
            )
        )
        self.model.append(account_id, token_class, EntryKind.GRANT, tokens, None)

    @rule(which=WHICH, budget=BUDGETS)
    def add_budget(self, which: int, budget: KeyBudget) -> None:
        """An added budget counts from then on, and no reservation before it."""
        account_id = self._account(which)
        if len(self.model.budgets[account_id]) < BUDGETS_MAX:
            named = self._named(budget)
            values = {name: getattr(named, name) for name in ("id", "tokens", "period", "token_class", "time_zone")}
            row = {**values, "api_key_id": self.key_ids[account_id], "created_at_us": self.now_us}
            self._change_key(account_id, lambda tx: tx.execute(sa.insert(schema.key_budget).values(row)))
            self.model.budgets[account_id][named.id] = named

    @rule(which=WHICH, index=st.integers(0, BUDGETS_MAX), tokens=st.integers(1, 2_000))
    def change_budget(self, which: int, index: int, tokens: int) -> None:
        """A budget with another number of tokens keeps what was spent and reserved."""
        account_id = self._account(which)
        budgets = self.model.budgets[account_id]
        if budgets:
            budget_id = sorted(budgets)[index % len(budgets)]
            update = sa.update(schema.key_budget).where(schema.key_budget.c.id == budget_id).values(tokens=tokens)
            self._change_key(account_id, lambda tx: tx.execute(update))
            budgets[budget_id] = msgspec.structs.replace(budgets[budget_id], tokens=tokens)

    @rule(which=WHICH, index=st.integers(0, BUDGETS_MAX))
    def remove_budget(self, which: int, index: int) -> None:
        """Open reservations still end in the periods of a budget that is no longer there."""
        account_id = self._account(which)
        budgets = self.model.budgets[account_id]
        if budgets:
            budget_id = sorted(budgets)[index % len(budgets)]
            delete = sa.delete(schema.key_budget).where(schema.key_budget.c.id == budget_id)
            self._change_key(account_id, lambda tx: tx.execute(delete))
            del budgets[budget_id]

    @rule(which=WHICH, is_suspended=st.booleans())
    def suspend_or_reopen(self, which: int, *, is_suspended: bool) -> None:
        """Each of them gives the key a new version. Reservations before it still settle."""
        account_id = self._account(which)
        status = "suspended" if is_suspended else "open"
        self._write(
            lambda tx: tx.execute(
                sa.update(schema.account).where(schema.account.c.id == account_id).values(status=status)
            )
        )
        self.statuses[account_id] = status
        self.model.keys[account_id] = KeyRow(version=self.model.keys[account_id].version + 1)

    @rule()
    def crash_and_reopen(self) -> None:
        """The process dies: committed rows are there, and the next start expires the PENDING ones."""
        assert self._run(self.db.ledger.audit()).ok
        self._close()
        self._open()
        pending = [row for row in self.model.requests.values() if row.status is RequestStatus.PENDING]
        assert self._run(self.db.ledger.recover(now_us=self.now_us)) == len(pending)
        for row in pending:
            self.model.expire(ledger_rules.expire(self.model.rows_of(row), before_us=None), self.now_us)

    @invariant()
    def the_database_is_the_model(self) -> None:
        if not hasattr(self, "emails"):
            return
        found = self._submit(lambda: self.db.store.read(read_all))
        assert {row["id"]: row["status"] for row in found["account"]} == self.statuses
        self.model.compare(found)

    @rule(which=WHICH)
    def look_up(self, which: int) -> None:
        """The caller that a process reads has the budgets and the version that a reservation must prove."""
        account_id = self._account(which)
        digest = self.emails[account_id].encode()
        caller: Caller = self._submit(lambda: self.db.callers.find(digest, now_us=self.now_us))
        assert caller.key_version == self.model.keys[account_id].version
        assert {budget.id: budget for budget in caller.budgets} == self.model.budgets[account_id]
        assert caller.is_suspended == (self.statuses[account_id] == "suspended")

    def teardown(self) -> None:
        if hasattr(self, "db"):
            assert self._run(self.db.ledger.audit()).ok
            self._close()
            self.runner.close()
            shutil.rmtree(self.folder)

    def _reservation(self, asked: Asked) -> NewReservation:
        account_id = self._account(asked.which)
        endpoint, is_stream = asked.call
        new = NewReservation(
            request_id=f"r{next(self.numbers):03}",
            account_id=account_id,
            api_key_id=self.key_ids[account_id],
            model=f"demo-{asked.which}",
            tokens=asked.tokens,
            created_at_us=self.now_us,
            expires_at_us=self.now_us + asked.lifetime_us,
            token_class=asked.token_class,
            key_version=self.model.keys[account_id].version + asked.is_stale,
            periods=periods_at(tuple(self.model.budgets[account_id].values()), asked.token_class, self.now_us),
            endpoint=endpoint,
            is_stream=is_stream,
        )
        self.reservations[new.request_id] = new
        return new

    def _account(self, which: int) -> str:
        return list(self.model.keys)[which]

    def _named(self, budget: KeyBudget) -> KeyBudget:
        return msgspec.structs.replace(budget, id=f"bud_{next(self.numbers):02}")

    def _change_key(self, account_id: str, change: Callable[[sa.Connection], object]) -> None:
        columns = schema.api_key.c
        update = sa.update(schema.api_key).where(columns.id == self.key_ids[account_id])

        def fn(tx: sa.Connection) -> None:
            change(tx)
            tx.execute(update.values(version=columns.version + 1))

        self._submit(lambda: self.db.store.write(fn))
        self.model.keys[account_id] = KeyRow(version=self.model.keys[account_id].version + 1)

    def _write(self, fn: Callable[[sa.Connection], object]) -> None:
        def write(tx: sa.Connection) -> None:
            fn(tx)

        self._submit(lambda: self.db.store.write(write))

    def _open(self) -> None:
        self.stack = contextlib.AsyncExitStack()
        self.db: Opened = self._run(self.stack.enter_async_context(open_engine(self.engine, self.folder)))

    def _close(self) -> None:
        self._run(self.stack.aclose())

    def _run(self, work: Any) -> Any:
        return self.runner.run(work)

    def _submit(self, submit: Any) -> Any:
        async def run() -> Any:
            return await outcome(submit())

        return self._run(run())


def run_machine(engine: str, *, examples: int) -> None:
    """Compare the ledger of an engine with the rule book in so many sequences of operations."""
    machine: Any = type(f"Ledger_{engine}", (LedgerMachine,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
