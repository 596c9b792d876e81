"""Compare the use of accounts with their entries, and the stored sums of longer spans with their quarter hours.

These tables can have more rows than there are requests, and a database would sort or hash all of them to group them by
spans. So a query returns the rows of each account as lists, which are small and cheap to read, and Python adds them up.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.ddl import Engine, engine_of
from tok0n.adapters.sql.repositories.span_rows import LONG_LENGTHS
from tok0n.adapters.sql.store import bitmap_scans, fetch
from tok0n.domain.ledger import Difference

ENTRIES_PER_QUERY = 250_000
"""A query reads the use of accounts that together have at most this many entries, or of a single account.

So it reads at most one row of each length for each of these entries.
"""

_LISTS: dict[Engine, str] = {
    "sqlite": "'[' || group_concat({column}) || ']'",
    "postgresql": "string_agg(int8send({column}), '')",
}
"""How a query returns all values of a column as one value. `_numbers` decodes it.

Both lists of a row have the same order, because both aggregates read the same rows in one pass.
"""

_UNTIL = "SELECT 96 * day FROM usage_rollup"
"""The first quarter hour that no stored span has counted."""

_ENTRIES = "SELECT account_id, entries FROM wallet WHERE account_id >= :first AND account_id <= :last"
_USE = """
SELECT account_id, 1, {quarters}, {charges} FROM usage_quarter
WHERE account_id >= :first AND account_id <= :last GROUP BY account_id
UNION ALL
SELECT account_id, span_quarters, {quarters}, {charges} FROM usage_span
WHERE account_id >= :first AND account_id <= :last AND quarter < :until GROUP BY account_id, span_quarters
"""

_Values = str | bytes
"""The values of a column, as a query returns them."""

_Rows = dict[int, tuple[_Values, _Values]]
"""The rows of an account by their length in quarter hours: the first quarter hour of each, and its charge."""


def wrong_use(tx: sa.Connection, expected: dict[str, int]) -> Iterator[Difference]:
    """Yield what is wrong in the use of accounts: in the quarter hours, or in the sums of these.

    `expected` has the tokens of each account's usage entries. The ids of the accounts must be sorted.
    """
    rollup = fetch(tx, _UNTIL)
    until = rollup[0][0] if rollup else 0
    for page in _pages(tx, list(expected)):
        use = _read(tx, page, until=until)
        for account_id in sorted({*page, *use}):
            quarters, charges = _columns(use[account_id], 1)
            counted = sum(charges)
            if account_id in expected and counted != expected[account_id]:
                what = "the use of all quarter hours is not the sum of the usage entries"
                yield Difference(subject=account_id, what=what, expected=expected[account_id], found=counted)
            yield from _wrong_spans(account_id, use[account_id], quarters=quarters, charges=charges, until=until)


def _pages(tx: sa.Connection, account_ids: list[str]) -> Iterator[list[str]]:
    entries: Counter[str] = Counter()
    for account_id, number in fetch(tx, _ENTRIES, first=account_ids[0], last=account_ids[-1]):
        entries[account_id] += number
    page: list[str] = []
    size = 0
    for account_id in account_ids:
        if page and size + entries[account_id] > ENTRIES_PER_QUERY:
            yield page
            page, size = [], 0
        page.append(account_id)
        size += entries[account_id]
    yield page


def _read(tx: sa.Connection, account_ids: list[str], *, until: int) -> dict[str, _Rows]:
    values = _LISTS[engine_of(tx)]
    query = _USE.format(quarters=values.format(column="quarter"), charges=values.format(column="charged"))
    use: dict[str, _Rows] = defaultdict(dict)
    with bitmap_scans(tx):
        rows = fetch(tx, query, first=account_ids[0], last=account_ids[-1], until=until)
    for account_id, length, quarters, charges in rows:
        use[account_id][length] = quarters, charges
    return use


def _wrong_spans(
    account_id: str, rows: _Rows, *, quarters: Collection[int], charges: Collection[int], until: int
) -> Iterator[Difference]:
    """Yield the complete days, and their parts, whose stored use is not the sum of their quarter hours.

    `quarters` and `charges` have the start and the charge of each row of a quarter hour. Compares sums over all keys
    and models.
    """
    for length in reversed(LONG_LENGTHS):
        sums = _add_up(quarters, charges, length=length)
        computed = {quarter: charged for quarter, charged in sums.items() if quarter < until}
        quarters, charges = computed.keys(), computed.values()
        stored = _add_up(*_columns(rows, length))
        if computed == stored:
            continue
        for quarter in sorted(computed.keys() | stored.keys()):
            correct, found = computed.get(quarter, 0), stored.get(quarter, 0)
            if correct != found:
                what = f"the stored use of the {length} quarter hours from {quarter} is not their sum"
                yield Difference(subject=account_id, what=what, expected=correct, found=found)


def _add_up(quarters: Collection[int], charges: Collection[int], *, length: int = 1) -> dict[int, int]:
    """Return the sum of the charges of each span of a length, by its first quarter hour."""
    sums: dict[int, int] = {}
    for quarter, charged in zip(quarters, charges, strict=True):
        start = quarter - quarter % length
        sums[start] = sums.get(start, 0) + charged
    return sums


def _columns(rows: _Rows, length: int) -> tuple[Collection[int], Collection[int]]:
    """Return the starts and the charges of the rows of one length. A start is a quarter hour."""
    if length not in rows:
        return (), ()
    quarters, charges = rows[length]
    return _numbers(quarters), _numbers(charges)


def _numbers(values: _Values) -> Collection[int]:
    """Return the integers of a list: JSON from SQLite, big-endian 64-bit integers from PostgreSQL."""
    if isinstance(values, str):
        return msgspec.json.decode(values, type=list[int])
    return struct.unpack(f">{len(values) // 8}q", values)
