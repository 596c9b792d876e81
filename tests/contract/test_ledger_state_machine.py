"""Each ledger against the rule book, with requests of every endpoint, whole and streamed.

After every step, ALL balances, budgets, requests, entries and hours of use are compared.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
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

from support.ledger_calls import ASKED, MILLISECONDS, TOKENS, Asked, hours_expected, hours_read
from support.ledgers import ENGINES, NOW_US, Opened, open_engine, outcome, schema
from tok0n.domain import ledger_rules
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.errors import AlreadyResolved, Tok0nError
from tok0n.domain.ledger import Balance, NewReservation, Receipt, Release, RequestStatus, Settlement
from tok0n.domain.ledger_rules import AccountRow, KeyRow, RequestRow, Rows
from tok0n.domain.usage import Usage

UNREADABLE = {"process_id"}
"""PostgreSQL names the process that reserved."""

RULED = set(RequestRow.__struct_fields__)


class LedgerMachine(RuleBasedStateMachine):
    """Two accounts, one of whose keys has a budget, random operations, and a crash now and then."""

    engine: str

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.now_us = NOW_US
        self.accounts: dict[str, AccountRow] = {}
        self.keys: dict[str, KeyRow] = {}
        self.asked = 0
        self.requests: dict[str, RequestRow] = {}
        self.reservations: dict[str, NewReservation] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        """The columns of a request that the rules don't know."""
        self.entries: list[tuple[str, str, int, int, str | None]] = []
        self.key_ids: dict[str, str] = {}
        self._open()
        for email, budget in (("a@x", None), ("b@x", 1_500)):
            account = self._run(self.db.accounts.create(email=email, tokens=1000, now_us=NOW_US))
            key = self._run(
                self.db.accounts.create_key(
                    account_id=account.id,
                    name="test",
                    digest=email.encode(),
                    prefix="tk0n_",
                    last_four="0000",
                    now_us=NOW_US,
                    limits=KeyLimits(budget=budget),
                )
            )
            self.accounts[account.id] = AccountRow(posted=1000)
            self.keys[account.id] = KeyRow(budget=budget)
            self.key_ids[account.id] = key.id
            self.entries.append((account.id, "grant", 1000, 1000, None))
        self.emails = dict(zip(self.accounts, ("a@x", "b@x"), strict=True))

    @rule(asked=ASKED)
    def reserve(self, asked: Asked) -> None:
        reservation = self._reservation(asked)
        result = self._submit(lambda: self.db.ledger.reserve(reservation))
        rows = self._reserve_in_model(reservation)
        if isinstance(rows, Rows):
            assert result == Balance(posted=rows.account.posted, pending=rows.account.pending)
        else:
            assert (type(result), str(result)) == (type(rows), str(rows))

    @rule(asked=st.lists(ASKED, min_size=2, max_size=5))
    def reserve_together(self, asked: list[Asked]) -> None:
        """Reserve in one group commit, whose requests differ in endpoint, stream and account."""
        reservations = [self._reservation(one) for one in asked]

        async def submit() -> list[Any]:
            return await asyncio.gather(*(outcome(self.db.ledger.reserve(new)) for new in reservations))

        for result, reservation in zip(self._run(submit()), reservations, strict=True):
            rows = self._reserve_in_model(reservation)
            assert type(result) is (Balance if isinstance(rows, Rows) else type(rows))

    @precondition(lambda self: self.requests)
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
        rows = self._pick(index)
        settlement = Settlement(
            request_id=rows.request.id,
            usage=Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion),
            resolved_at_us=self.now_us,
            upstream_ms=prompt + 1,
            reservation=self.reservations[rows.request.id] if at_hand else None,
            first_event_ms=first_event_ms if self._is_stream(rows) else None,
            client_left=has_left and self._is_stream(rows),
        )
        result = self._submit(lambda: self.db.ledger.settle(settlement))
        try:
            was, rows = rows.request, ledger_rules.settle(rows, total_tokens=prompt + completion)
        except AlreadyResolved:
            assert isinstance(result, AlreadyResolved)
            return
        self._keep(rows)
        if was != rows.request:
            self.facts[was.id] |= {
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
            balance=Balance(posted=rows.account.posted, pending=rows.account.pending),
        )

    @precondition(lambda self: self.requests)
    @rule(
        index=st.integers(0, 1000),
        code=st.sampled_from(["upstream_error", "cancelled", "not_metered"]),
        dispatched=st.booleans(),
        first_event_ms=MILLISECONDS,
    )
    def release(self, index: int, code: str, first_event_ms: int | None, *, dispatched: bool) -> None:
        rows = self._pick(index)
        release = Release(
            request_id=rows.request.id,
            code=code,
            dispatched=dispatched,
            resolved_at_us=self.now_us,
            first_event_ms=first_event_ms if self._is_stream(rows) else None,
        )
        result = self._submit(lambda: self.db.ledger.release(release))
        try:
            after = ledger_rules.release(rows)
        except AlreadyResolved:
            assert isinstance(result, AlreadyResolved)
            return
        assert result is None
        self._keep(after)
        if after.request != rows.request:
            self.facts[rows.request.id] |= {
                "code": code,
                "dispatched": int(dispatched),
                "resolved_at_us": self.now_us,
                "first_event_ms": release.first_event_ms,
            }

    @rule(rows_max=st.integers(1, 3), passed_us=st.integers(0, 30))
    def expire(self, rows_max: int, passed_us: int) -> None:
        self.now_us += passed_us
        overdue = sorted(
            (row.expires_at_us, row.id)
            for row in self.requests.values()
            if ledger_rules.expire(self._rows_of(row), before_us=self.now_us).request != row
        )
        # Rows with the same expiry may expire in any order, so all that share the last one expire together.
        if len(overdue) > rows_max:
            last = overdue[rows_max - 1][0]
            rows_max = sum(expires <= last for expires, _ in overdue)
        assert self._run(self.db.ledger.expire(now_us=self.now_us, rows_max=rows_max)) == min(rows_max, len(overdue))
        for _, request_id in overdue[:rows_max]:
            self._expire_in_model(ledger_rules.expire(self._rows_of(self.requests[request_id]), before_us=self.now_us))

    @rule(which=st.integers(0, 1), tokens=TOKENS)
    def grant(self, which: int, tokens: int) -> None:
        account_id = list(self.accounts)[which]
        self._run(
            self.db.accounts.grant(email=self.emails[account_id], tokens=tokens, reason="a grant", now_us=self.now_us)
        )
        account = self.accounts[account_id]
        self.accounts[account_id] = msgspec.structs.replace(account, posted=account.posted + tokens)
        self.entries.append((account_id, "grant", tokens, account.posted + tokens, None))

    @rule()
    def crash_and_reopen(self) -> None:
        """The process dies: committed rows are there, and the next start expires the PENDING ones."""
        assert self._run(self.db.ledger.audit()).ok
        self._close()
        self._open()
        pending = [row for row in self.requests.values() if row.status is RequestStatus.PENDING]
        assert self._run(self.db.ledger.recover(now_us=self.now_us)) == len(pending)
        for row in pending:
            self._expire_in_model(ledger_rules.expire(self._rows_of(row), before_us=None))

    @invariant()
    def the_database_is_the_model(self) -> None:
        if not hasattr(self, "emails"):
            return
        found = self._run(self.db.store.read(_read_all))
        accounts = {
            row["id"]: AccountRow(posted=row["posted"], pending=row["pending"], is_open=row["status"] == "open")
            for row in found["account"]
        }
        assert accounts == self.accounts
        keys = {
            row["account_id"]: KeyRow(
                budget=row["budget"],
                spent=row["spent"],
                pending=row["pending"],
                expires_at_us=row["expires_at_us"],
                is_revoked=row["revoked_at_us"] is not None,
            )
            for row in found["api_key"]
        }
        assert keys == self.keys
        requests = {row.pop("id"): row for row in found["request"]}
        for row in requests.values():
            for name in UNREADABLE:
                del row[name]
        assert requests == {
            id_: {name: value for name, value in msgspec.structs.asdict(row).items() if name != "id"} | self.facts[id_]
            for id_, row in self.requests.items()
        }
        assert hours_read(found["usage_hour"]) == hours_expected(self.requests, self.facts)
        entries = [
            (row["account_id"], row["kind"], row["amount"], row["posted_after"], row["request_id"])
            for row in sorted(found["ledger_entry"], key=lambda row: int(row["id"]))
        ]
        assert entries == self.entries

    def teardown(self) -> None:
        if hasattr(self, "db"):
            assert self._run(self.db.ledger.audit()).ok
            self._close()
            self.runner.close()
            shutil.rmtree(self.folder)

    def _reservation(self, asked: Asked) -> NewReservation:
        self.asked += 1
        account_id = list(self.accounts)[asked.which]
        endpoint, is_stream = asked.call
        return NewReservation(
            request_id=f"r{self.asked}",
            account_id=account_id,
            api_key_id=self.key_ids[account_id],
            model=f"demo-{asked.which}",
            tokens=asked.tokens,
            created_at_us=self.now_us,
            expires_at_us=self.now_us + asked.lifetime_us,
            has_budget=self.keys[account_id].budget is not None,
            is_stream=is_stream,
            endpoint=endpoint,
        )

    def _reserve_in_model(self, new: NewReservation) -> Rows | Tok0nError:
        account, key = self.accounts[new.account_id], self.keys[new.account_id]
        rows = _rows_or_error(lambda: ledger_rules.reserve(new, account=account, key=key))
        if isinstance(rows, Rows):
            self.reservations[new.request_id] = new
            self.facts[new.request_id] = dict.fromkeys(set(schema.request.c.keys()) - RULED - UNREADABLE) | {
                "api_key_id": new.api_key_id,
                "model": new.model,
                "endpoint": new.endpoint,
                "is_stream": int(new.is_stream),
                "created_at_us": new.created_at_us,
                "dispatched": 1,
                "client_left": 0,
            }
            self._keep(rows)
        return rows

    def _expire_in_model(self, rows: Rows) -> None:
        self._keep(rows)
        self.facts[rows.request.id] |= {"code": "expired", "resolved_at_us": self.now_us}

    def _is_stream(self, rows: Rows) -> bool:
        return self.reservations[rows.request.id].is_stream

    def _pick(self, index: int) -> Rows:
        return self._rows_of(list(self.requests.values())[index % len(self.requests)])

    def _rows_of(self, request: RequestRow) -> Rows:
        account_id = request.account_id
        return Rows(account=self.accounts[account_id], key=self.keys[account_id], request=request)

    def _keep(self, rows: Rows) -> None:
        account_id = rows.request.account_id
        self.accounts[account_id] = rows.account
        self.keys[account_id] = rows.key
        self.requests[rows.request.id] = rows.request
        if rows.entry is not None:
            entry = rows.entry
            self.entries.append((account_id, entry.kind, entry.amount, entry.posted_after, entry.request_id))

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


def _read_all(tx: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table, read in one transaction."""
    tables = (schema.account, schema.api_key, schema.request, schema.usage_hour, schema.ledger_entry)
    return {table.name: [dict(row) for row in tx.execute(sa.select(table)).mappings()] for table in tables}


def _rows_or_error(rule: Callable[[], Rows]) -> Rows | Tok0nError:
    try:
        return rule()
    except Tok0nError as error:
        return error


@pytest.mark.parametrize("engine", ENGINES)
def test_any_sequence_of_operations_leaves_exactly_what_the_model_says(engine: str) -> None:
    machine: Any = type(f"Ledger_{engine}", (LedgerMachine,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
