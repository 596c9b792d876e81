"""All rows of a ledger as `domain.ledger_rules` says that they must be."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from support.ledger_calls import use_expected, use_read
from tok0n.adapters.sql import schema
from tok0n.adapters.sql.budget_periods import period_ids
from tok0n.domain import ledger_rules
from tok0n.domain.budgets import KeyBudget
from tok0n.domain.errors import Tok0nError
from tok0n.domain.ledger import NewReservation
from tok0n.domain.ledger_rules import KeyRow, PeriodId, PeriodRow, RequestRow, Rows, WalletRow

UNCOMPARED = {"process_id", "budget_periods"}
"""Columns of `request`: PostgreSQL names the process that reserved, and `period_ids` stands for `budget_periods`."""


READ = (
    schema.account,
    schema.wallet,
    schema.api_key,
    schema.key_budget,
    schema.budget_period,
    schema.request,
    schema.usage_quarter,
    schema.ledger_entry,
)


def read_all(tx: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table in `READ`."""
    return {table.name: [dict(row) for row in tx.execute(sa.select(table)).mappings()] for table in READ}


class LedgerModel:
    """The rows that a database must have. `keys` and `budgets` are by account, which has one key."""

    def __init__(self) -> None:
        self.wallets: dict[tuple[str, str], WalletRow] = {}
        self.keys: dict[str, KeyRow] = {}
        self.budgets: dict[str, dict[str, KeyBudget]] = {}
        self.periods: dict[PeriodId, tuple[int, int]] = {}
        """What is spent and reserved in each period."""
        self.requests: dict[str, RequestRow] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        """The columns of each request that the rules don't know."""
        self.entries: list[tuple[object, ...]] = []
        """Account, token class, number, kind, amount, balance after it, request, and the request that it reverses."""

    def reserve(self, new: NewReservation) -> Rows | Tok0nError:
        """Reserve as the rules say. Returns the error that they raise."""
        wallet = self.wallets.get((new.account_id, new.token_class), WalletRow())
        periods = self.periods_of((period.budget_id, period.starts_at_us) for period in new.periods)
        try:
            rows = ledger_rules.reserve(new, wallet=wallet, key=self.keys[new.account_id], periods=periods)
        except Tok0nError as error:
            return error
        columns = set(schema.request.c.keys()) - UNCOMPARED - set(RequestRow.__struct_fields__)
        self.facts[new.request_id] = dict.fromkeys(columns) | {
            "api_key_id": new.api_key_id,
            "model": new.model,
            "endpoint": new.endpoint,
            "is_stream": int(new.is_stream),
            "created_at_us": new.created_at_us,
            "dispatched": 1,
            "client_left": 0,
        }
        self.keep(rows)
        return rows

    def expire(self, rows: Rows, now_us: int) -> None:
        """Keep the rows of a request that has expired."""
        self.keep(rows)
        self.facts[rows.request.id] |= {"code": "expired", "resolved_at_us": now_us}

    def all_requests(self) -> dict[str, dict[str, Any]]:
        """Return the columns of `request` that are compared, with the periods as `period_ids`, by id."""
        return {
            id_: {name: value for name, value in msgspec.structs.asdict(row).items() if name != "id"} | self.facts[id_]
            for id_, row in self.requests.items()
        }

    def append(self, account_id: str, token_class: str, kind: str, amount: int, reverses: str | None) -> None:
        """Append an entry to the model, and add its amount to the wallet."""
        wallet = self.wallets.get((account_id, token_class), WalletRow())
        posted, number = wallet.posted + amount, wallet.entries + 1
        self.wallets[account_id, token_class] = msgspec.structs.replace(wallet, posted=posted, entries=number)
        self.entries.append((account_id, token_class, number, kind, amount, posted, None, reverses))

    def periods_of(self, period_ids: Iterable[PeriodId]) -> Mapping[PeriodId, PeriodRow]:
        """Return the rows of periods. A budget that was removed has no tokens, which only a reservation would read."""
        budgets = {budget_id: budget for own in self.budgets.values() for budget_id, budget in own.items()}
        rows = {}
        for budget_id, starts_at_us in period_ids:
            spent, pending = self.periods.get((budget_id, starts_at_us), (0, 0))
            tokens = budgets[budget_id].tokens if budget_id in budgets else 0
            rows[budget_id, starts_at_us] = PeriodRow(tokens=tokens, spent=spent, pending=pending)
        return rows

    def pick(self, index: int) -> Rows:
        return self.rows_of(list(self.requests.values())[index % len(self.requests)])

    def rows_of(self, request: RequestRow) -> Rows:
        wallet = self.wallets[request.account_id, request.token_class]
        return Rows(wallet=wallet, periods=self.periods_of(request.period_ids), request=request)

    def keep(self, rows: Rows) -> None:
        request = rows.request
        self.wallets[request.account_id, request.token_class] = rows.wallet
        self.periods |= {period_id: (row.spent, row.pending) for period_id, row in rows.periods.items()}
        self.requests[request.id] = request
        if rows.entry is not None:
            entry = rows.entry
            of_wallet = request.account_id, request.token_class, entry.number
            self.entries.append((*of_wallet, entry.kind, entry.amount, entry.posted_after, entry.request_id, None))

    def compare(self, found: Mapping[str, list[dict[str, Any]]]) -> None:
        """Assert that the rows of `read_all` are those of the model."""
        wallets = {
            (row["account_id"], row["token_class"]): WalletRow(
                posted=row["posted"], pending=row["pending"], entries=row["entries"]
            )
            for row in found["wallet"]
        }
        assert wallets == self.wallets
        assert {row["account_id"]: row["version"] for row in found["api_key"]} == {
            account_id: key.version for account_id, key in self.keys.items()
        }
        assert {row["id"]: row["tokens"] for row in found["key_budget"]} == {
            budget.id: budget.tokens for own in self.budgets.values() for budget in own.values()
        }
        periods = {
            (row["budget_id"], row["starts_at_us"]): (row["spent"], row["pending"]) for row in found["budget_period"]
        }
        assert periods == self.periods
        requests = {row.pop("id"): row for row in found["request"]}
        for row in requests.values():
            row["period_ids"] = period_ids(row["budget_periods"])
            for name in UNCOMPARED:
                del row[name]
        assert requests == self.all_requests()
        assert use_read(found["usage_quarter"]) == use_expected(self.requests, self.facts)
        names = ("account_id", "token_class", "number", "kind", "amount", "posted_after", "request_id")
        entries = [
            (*(row[name] for name in names), row["reverses_request_id"])
            for row in sorted(found["ledger_entry"], key=lambda row: int(row["id"]))
        ]
        assert entries == self.entries
