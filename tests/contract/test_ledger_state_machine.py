"""The ledger against a plain Python model: after every step ALL balances, rows and entries are compared."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
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

from support.ledgers import ENGINES, NOW_US, Opened, open_engine, outcome, schema
from tok0n.domain.errors import AlreadyResolved, InsufficientTokens
from tok0n.domain.ledger import NewReservation, Receipt, Release, Settlement
from tok0n.domain.usage import Usage

TOKENS = st.integers(min_value=1, max_value=400)


class LedgerMachine(RuleBasedStateMachine):
    """Two accounts, random operations, and a crash now and then: the model is three dictionaries."""

    engine: str

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.now_us = NOW_US
        self.balances: dict[str, list[int]] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.reservations: dict[str, NewReservation] = {}
        self.entries: list[tuple[str, str, int, int, str | None]] = []
        self.keys: dict[str, str] = {}
        self._open()
        for email in ("a@x", "b@x"):
            account, key = self._run(self.db.key(email, tokens=1000))
            self.balances[account.id] = [1000, 0]
            self.keys[account.id] = key.id
            self.entries.append((account.id, "grant", 1000, 1000, None))
        self.emails = dict(zip(self.balances, ("a@x", "b@x"), strict=True))

    @rule(which=st.integers(0, 1), tokens=TOKENS, lifetime_us=st.integers(1, 50))
    def reserve(self, which: int, tokens: int, lifetime_us: int) -> None:
        account_id = list(self.balances)[which]
        request_id = f"r{len(self.requests)}"
        reservation = NewReservation(
            request_id=request_id,
            account_id=account_id,
            api_key_id=self.keys[account_id],
            model="demo",
            tokens=tokens,
            created_at_us=self.now_us,
            expires_at_us=self.now_us + lifetime_us,
        )
        result = self._submit(lambda: self.db.ledger.reserve(reservation))
        posted, pending = self.balances[account_id]
        if posted - pending < tokens:
            assert isinstance(result, InsufficientTokens)
            return
        self.balances[account_id][1] += tokens
        self.reservations[request_id] = reservation
        self.requests[request_id] = {
            "account_id": account_id,
            "status": "PENDING",
            "reserved": tokens,
            "charged": 0,
            "shortfall": 0,
            "expires_at_us": self.now_us + lifetime_us,
        }

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 1000), total=st.integers(1, 600), at_hand=st.booleans())
    def settle(self, index: int, total: int, *, at_hand: bool) -> None:
        request_id, row = self._pick(index)
        settlement = Settlement(
            request_id=request_id,
            usage=Usage(prompt_tokens=0, completion_tokens=total, total_tokens=total),
            resolved_at_us=self.now_us,
            upstream_ms=1,
            reservation=self.reservations[request_id] if at_hand else None,
        )
        result = self._submit(lambda: self.db.ledger.settle(settlement))
        balance = self.balances[row["account_id"]]
        if row["status"] == "PENDING":
            charged = min(total, row["reserved"] + balance[0] - balance[1])
            balance[0] -= charged
            balance[1] -= row["reserved"]
            row.update(status="SETTLED", charged=charged, shortfall=total - charged)
            self.entries.append((row["account_id"], "usage", -charged, balance[0], request_id))
        if row["status"] != "SETTLED":
            assert isinstance(result, AlreadyResolved)
            return
        assert isinstance(result, Receipt)
        assert (result.charged, result.shortfall, result.reserved) == (
            row["charged"],
            row["shortfall"],
            row["reserved"],
        )

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 1000))
    def release(self, index: int) -> None:
        request_id, row = self._pick(index)
        release = Release(request_id=request_id, code="upstream_error", dispatched=True, resolved_at_us=self.now_us)
        result = self._submit(lambda: self.db.ledger.release(release))
        if row["status"] == "SETTLED":
            assert isinstance(result, AlreadyResolved)
            return
        assert result is None
        self._end(row, "RELEASED")

    @rule(rows_max=st.integers(1, 3), passed_us=st.integers(0, 30))
    def expire(self, rows_max: int, passed_us: int) -> None:
        self.now_us += passed_us
        overdue = sorted(
            (row["expires_at_us"], request_id)
            for request_id, row in self.requests.items()
            if row["status"] == "PENDING" and row["expires_at_us"] < self.now_us
        )
        # Rows of one expiry may go in any order, so as many as share the last one are let go together.
        if len(overdue) > rows_max:
            last = overdue[rows_max - 1][0]
            rows_max = sum(expires <= last for expires, _ in overdue)
        assert self._run(self.db.ledger.expire(now_us=self.now_us, rows_max=rows_max)) == min(rows_max, len(overdue))
        for _, request_id in overdue[:rows_max]:
            self._end(self.requests[request_id], "EXPIRED")

    @rule(which=st.integers(0, 1), tokens=TOKENS)
    def grant(self, which: int, tokens: int) -> None:
        account_id = list(self.balances)[which]
        self._run(
            self.db.accounts.grant(email=self.emails[account_id], tokens=tokens, reason="a grant", now_us=self.now_us)
        )
        self.balances[account_id][0] += tokens
        self.entries.append((account_id, "grant", tokens, self.balances[account_id][0], None))

    @rule()
    def crash_and_reopen(self) -> None:
        """The process dies: what was committed is there, what was PENDING is expired by the next start."""
        self._close()
        self._open()
        pending = [row for row in self.requests.values() if row["status"] == "PENDING"]
        assert self._run(self.db.ledger.recover(now_us=self.now_us)) == len(pending)
        for row in pending:
            self._end(row, "EXPIRED")

    @invariant()
    def the_database_is_the_model(self) -> None:
        if not hasattr(self, "emails"):
            return
        accounts = {row["id"]: [row["posted"], row["pending"]] for row in self._rows(schema.account)}
        assert accounts == self.balances
        requests = {
            row["id"]: {name: row[name] for name in self.requests[row["id"]]} for row in self._rows(schema.request)
        }
        assert requests == self.requests
        entries = [
            (row["account_id"], row["kind"], row["amount"], row["posted_after"], row["request_id"])
            for row in sorted(self._rows(schema.ledger_entry), key=lambda row: int(row["id"]))
        ]
        assert entries == self.entries
        assert self._run(self.db.ledger.audit()).ok

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self._close()
            self.runner.close()
            shutil.rmtree(self.folder)

    def _pick(self, index: int) -> tuple[str, dict[str, Any]]:
        return list(self.requests.items())[index % len(self.requests)]

    def _end(self, row: dict[str, Any], status: str) -> None:
        if row["status"] == "PENDING":
            row["status"] = status
            self.balances[row["account_id"]][1] -= row["reserved"]

    def _open(self) -> None:
        self.stack = contextlib.AsyncExitStack()
        self.db: Opened = self._run(self.stack.enter_async_context(open_engine(self.engine, self.folder)))

    def _close(self) -> None:
        self._run(self.stack.aclose())

    def _rows(self, table: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._run(self.db.rows(table))
        return rows

    def _run(self, work: Any) -> Any:
        return self.runner.run(work)

    def _submit(self, submit: Any) -> Any:
        async def run() -> Any:
            return await outcome(submit())

        return self._run(run())


@pytest.mark.parametrize("engine", ENGINES)
def test_any_sequence_of_operations_leaves_exactly_what_the_model_says(engine: str) -> None:
    machine: Any = type(f"Ledger_{engine}", (LedgerMachine,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
