"""All rows of a ledger as `domain.ledger_rules` says that they must be."""

from collections.abc import Iterable, Mapping

import msgspec

from tok0n.domain.budgets import KeyBudget
from tok0n.domain.ledger_rules import KeyRow, PeriodId, PeriodRow, RequestRow, Rows, WalletRow


class LedgerModel:
    """The rows that a database must have. `keys` and `budgets` are by account, which has one key."""

    def __init__(self) -> None:
        self.wallets: dict[tuple[str, str], WalletRow] = {}
        self.keys: dict[str, KeyRow] = {}
        self.budgets: dict[str, dict[str, KeyBudget]] = {}
        self.periods: dict[PeriodId, tuple[int, int]] = {}
        """What is spent and reserved in each period."""
        self.requests: dict[str, RequestRow] = {}
        self.entries: list[tuple[object, ...]] = []
        """Account, token class, number, kind, amount, balance after it, request, and the request that it reverses."""

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
