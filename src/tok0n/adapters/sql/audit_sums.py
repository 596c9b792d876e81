"""The sums of an audit, and their comparison with the wallets, the use, the orders and the budgets."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.audit_use import wrong_use
from tok0n.adapters.sql.budget_periods import period_ids
from tok0n.adapters.sql.store import Row, fetch
from tok0n.domain.ledger import STANDARD, Difference
from tok0n.domain.ledger_rules import PeriodId

WalletId = tuple[str, str]
"""The id of an account, and a token class."""

_PENDING = "SELECT account_id, token_class, budget_periods, reserved FROM request WHERE status = 'PENDING'"
_WALLETS = """
SELECT account_id, token_class, posted, pending, entries FROM wallet
WHERE account_id >= :first AND account_id <= :last ORDER BY account_id, token_class
"""
_WALLET_EXISTS = "SELECT 1 FROM wallet WHERE account_id = :account_id AND token_class = :token_class"
_PERIOD_EXISTS = "SELECT 1 FROM budget_period WHERE budget_id = :budget_id AND starts_at_us = :starts_at_us"
_ORDERS = """
SELECT account_id, token_class, sum(purchase_applied - refund_applied - dispute_applied)
FROM pack_order WHERE account_id >= :first AND account_id <= :last GROUP BY account_id, token_class
"""
_DEBTS = "SELECT account_id, token_class, tokens FROM debt WHERE account_id >= :first AND account_id <= :last"


class EntrySums(msgspec.Struct):
    """The sums of the entries of a wallet."""

    posted: int = 0
    used: int = 0
    """The tokens of the usage entries."""
    number: int = 0
    """The number of the last entry."""


class Sums(msgspec.Struct):
    """The sums of the entries that an audit has read."""

    entries: dict[str, dict[str, EntrySums]] = msgspec.field(
        default_factory=lambda: defaultdict(lambda: defaultdict(EntrySums))
    )
    """By the id of the account, and the token class."""
    order_tokens: Counter[WalletId] = msgspec.field(default_factory=Counter)
    spent: Counter[PeriodId] = msgspec.field(default_factory=Counter)
    """The charges of each period of a budget."""

    wallets: set[WalletId] = msgspec.field(default_factory=set)
    """The wallets that were compared."""
    periods: set[PeriodId] = msgspec.field(default_factory=set)
    """The periods that were compared."""


def wrong_accounts(sums: Sums, tx: sa.Connection, account_ids: list[str]) -> Iterator[Difference]:
    """Compare the wallets, the use and the orders of a page of accounts. The sums must be those of the snapshot."""
    used = {
        account_id: sum(entries.used for entries in sums.entries.get(account_id, {}).values())
        for account_id in account_ids
    }
    yield from _wrong_wallets(sums, tx, account_ids)
    yield from wrong_use(tx, used)
    yield from _wrong_orders(sums, tx, account_ids)


def wrong_periods(sums: Sums, tx: sa.Connection, periods: list[Row]) -> Iterator[Difference]:
    """The spent and reserved tokens of a budget's period are the sums of its requests."""
    reserved: Counter[PeriodId] = Counter()
    for _, _, column, tokens in fetch(tx, _PENDING):
        for period_id in period_ids(column):
            reserved[period_id] += tokens
    for budget_id, starts_at_us, spent, pending in periods:
        period_id = budget_id, starts_at_us
        sums.periods.add(period_id)
        subject = f"{budget_id} from {starts_at_us}"
        if spent != sums.spent[period_id]:
            what = "the tokens that the budget has spent are not the sum of its requests"
            yield Difference(subject=subject, what=what, expected=sums.spent[period_id], found=spent)
        if pending != reserved[period_id]:
            what = "the tokens that the budget has reserved are not the sum of its requests"
            yield Difference(subject=subject, what=what, expected=reserved[period_id], found=pending)


def missing_rows(sums: Sums, tx: sa.Connection) -> Iterator[Difference]:
    """Find missing rows: wallets and budget periods that entries or requests name.

    Rows of both are never deleted. One that was added after the comparison exists now.
    """
    wallets = {(account_id, token_class) for account_id, entries in sums.entries.items() for token_class in entries}
    periods = set(sums.spent)
    for account_id, token_class, column, _ in fetch(tx, _PENDING):
        wallets.add((account_id, token_class))
        periods.update(period_ids(column))
    for wallet in sorted(wallets - sums.wallets):
        if not fetch(tx, _WALLET_EXISTS, account_id=wallet[0], token_class=wallet[1]):
            posted = _entries_of(sums, wallet).posted
            yield Difference(subject=_shown(wallet), what="the wallet does not exist", expected=posted, found=None)
    for budget_id, starts_at_us in sorted(periods - sums.periods):
        if not fetch(tx, _PERIOD_EXISTS, budget_id=budget_id, starts_at_us=starts_at_us):
            subject, spent = f"{budget_id} from {starts_at_us}", sums.spent[budget_id, starts_at_us]
            yield Difference(subject=subject, what="the budget's period does not exist", expected=spent, found=None)


def _wrong_wallets(sums: Sums, tx: sa.Connection, account_ids: list[str]) -> Iterator[Difference]:
    """Posted = Σ entries, pending = Σ reserved of PENDING requests, 0 ≤ pending ≤ posted, all in each wallet."""
    reserved: Counter[WalletId] = Counter()
    for account_id, token_class, _, tokens in fetch(tx, _PENDING):
        reserved[account_id, token_class] += tokens
    for account_id, token_class, posted, pending, last in fetch(tx, _WALLETS, **_between(account_ids)):
        wallet = account_id, token_class
        sums.wallets.add(wallet)
        entries = _entries_of(sums, wallet)
        expected = {
            "posted is not the sum of the entries": (entries.posted, posted),
            "pending is not the sum of the reservations": (reserved[wallet], pending),
            "the number of entries is not the number of the last one": (entries.number, last),
            "pending is not between 0 and posted": (min(max(pending, 0), max(posted, 0)), pending),
        }
        for what, (correct, stored) in expected.items():
            if correct != stored:
                yield Difference(subject=_shown(wallet), what=what, expected=correct, found=stored)
    for account_id in account_ids:
        if (account_id, STANDARD) not in sums.wallets:
            yield Difference(subject=account_id, what="the account has no standard wallet", expected=None, found=None)


def _wrong_orders(sums: Sums, tx: sa.Connection, account_ids: list[str]) -> Iterator[Difference]:
    """The tokens that a wallet's orders have applied, plus its debt, are the sum of the orders' entries."""
    expected: Counter[WalletId] = Counter()
    for query in (_ORDERS, _DEBTS):
        for account_id, token_class, tokens in fetch(tx, query, **_between(account_ids)):
            expected[account_id, token_class] += int(tokens)
    page = set(account_ids)
    wallets = expected.keys() | {wallet for wallet in sums.order_tokens if wallet[0] in page}
    for wallet in sorted(wallets):
        if expected[wallet] != (entries := sums.order_tokens[wallet]):
            what = "the entries of the orders are not the orders' tokens plus the debt"
            yield Difference(subject=_shown(wallet), what=what, expected=expected[wallet], found=entries)


def _entries_of(sums: Sums, wallet: WalletId) -> EntrySums:
    account_id, token_class = wallet
    return sums.entries.get(account_id, {}).get(token_class, EntrySums())


def _between(account_ids: list[str]) -> dict[str, str]:
    """Return the parameters that select a page of accounts, whose ids are sorted."""
    return {"first": account_ids[0], "last": account_ids[-1]}


def _shown(wallet: WalletId) -> str:
    account_id, token_class = wallet
    return account_id if token_class == STANDARD else f"{account_id} ({token_class})"
