"""Reservations on SQLite: the commands of one group commit that reserve tokens.

In this module, the reservations of a group share their wallet, their key with its version, and their budget periods.
"""

import sqlite3

from tok0n.adapters.sql import budget_periods
from tok0n.adapters.sql.sqlite import statements
from tok0n.domain.budgets import BudgetPeriod
from tok0n.domain.errors import InsufficientTokens, InvalidApiKey, KeyBudgetSpent, KeyChanged, Tok0nError
from tok0n.domain.ledger import STANDARD, Balance, NewReservation


def reserve_all(connection: sqlite3.Connection, reservations: list[NewReservation]) -> list[Balance | Tok0nError]:
    """Reserve for one group commit. Returns rejections instead of raising them, because an exception rolls it back."""
    results: dict[str, Balance | Tok0nError] = {}
    groups = _grouped(reservations)
    _reserve_together(connection, groups, results)
    for group in groups.values():
        if group[0].request_id not in results:
            _reserve_group(connection, group, results)
    rows: list[statements.Row] = []
    other_rows: list[statements.Row] = []
    for new in reservations:
        if not isinstance(results[new.request_id], Balance):
            continue
        row = (
            new.request_id,
            new.account_id,
            new.api_key_id,
            new.model,
            new.tokens,
            new.created_at_us,
            new.expires_at_us,
        )
        if new.is_stream or new.endpoint != "chat" or new.token_class != STANDARD or new.periods:
            periods = budget_periods.encode(new.periods) or ""
            # int: sqlite3 searches an adapter for a bool.
            other_rows.append((*row, int(new.is_stream), new.endpoint, new.token_class, periods))
        else:
            rows.append(row)
    statements.INSERT_REQUESTS.run(connection, rows)
    statements.INSERT_OTHER_REQUESTS.run(connection, other_rows)
    return [results[new.request_id] for new in reservations]


def _grouped(reservations: list[NewReservation]) -> dict[tuple[object, ...], list[NewReservation]]:
    """Return the groups by the fields that their reservations share."""
    groups: dict[tuple[object, ...], list[NewReservation]] = {}
    for new in reservations:
        shared_fields = (new.account_id, new.token_class, new.api_key_id, new.key_version, new.periods)
        groups.setdefault(shared_fields, []).append(new)
    return groups


def _reserve_together(
    connection: sqlite3.Connection,
    groups: dict[tuple[object, ...], list[NewReservation]],
    results: dict[str, Balance | Tok0nError],
) -> None:
    """Reserve for wallets that have one group in one statement. Skips the groups that don't fit or have a budget."""
    together: dict[statements.WalletId, list[NewReservation]] = {}
    wallets_of_several_groups: set[statements.WalletId] = set()
    for group in groups.values():
        wallet = (group[0].account_id, group[0].token_class)
        if wallet in together:
            wallets_of_several_groups.add(wallet)
        elif not group[0].periods:
            together[wallet] = group
    rows: list[statements.Row] = []
    for wallet, group in together.items():
        if wallet not in wallets_of_several_groups:
            tokens, created_at_us = _total(group)
            rows.append((*wallet, group[0].api_key_id, group[0].key_version, created_at_us, tokens))
    if len(rows) > 1:
        for account_id, token_class, posted, pending in statements.RESERVE_MANY.fetch(connection, rows):
            balance = Balance(posted=posted, pending=pending)
            for new in together[account_id, token_class]:
                results[new.request_id] = balance


def _reserve_group(
    connection: sqlite3.Connection, group: list[NewReservation], results: dict[str, Balance | Tok0nError]
) -> None:
    """Reserve for a group: all at once, or one by one if it doesn't fit."""
    if len(group) > 1:
        tokens, created_at_us = _total(group)
        balance = _reserve(connection, group[0], tokens=tokens, created_at_us=created_at_us)
        if isinstance(balance, Balance):
            results.update(dict.fromkeys([new.request_id for new in group], balance))
            return
    for new in group:
        results[new.request_id] = _reserve(connection, new, tokens=new.tokens, created_at_us=new.created_at_us)


def _total(group: list[NewReservation]) -> tuple[int, int]:
    """Return the sum of the tokens, and the time of the last reservation."""
    tokens = created_at_us = 0
    for new in group:
        tokens += new.tokens
        created_at_us = max(created_at_us, new.created_at_us)
    return tokens, created_at_us


def _reserve(
    connection: sqlite3.Connection, new: NewReservation, *, tokens: int, created_at_us: int
) -> Balance | Tok0nError:
    """Reserve `tokens` for `new`, or for a group of reservations like it of which the last was created at that time."""
    if new.periods:
        tokens_left = _left_in_periods(connection, new.periods)
        if len(tokens_left) < len(new.periods):
            return KeyChanged()
        if min(tokens_left)[0] < tokens:
            return _rejection(
                connection, new, required=tokens, created_at_us=created_at_us, insufficient=min(tokens_left)
            )
    values = (new.account_id, new.token_class, new.api_key_id, new.key_version, created_at_us, tokens)
    row = connection.execute(statements.RESERVE, values).fetchone()
    if row is None:
        return _rejection(connection, new, required=tokens, created_at_us=created_at_us)
    if new.periods:
        rows = [(period.budget_id, period.starts_at_us, period.ends_at_us, tokens) for period in new.periods]
        connection.executemany(statements.RESERVE_IN_PERIOD, rows)
    return Balance(posted=row[0], pending=row[1])


def _left_in_periods(connection: sqlite3.Connection, periods: tuple[BudgetPeriod, ...]) -> list[tuple[int, str]]:
    """Return the tokens left in each period, with the id of its budget. Omits budgets that no longer exist.

    This transaction is the only writer, so what it reads stays true.
    """
    tokens_left = []
    for period in periods:
        row = connection.execute(statements.LEFT_IN_PERIOD, (period.starts_at_us, period.budget_id)).fetchone()
        if row is not None:
            tokens_left.append((row[0], period.budget_id))
    return tokens_left


def _rejection(
    connection: sqlite3.Connection,
    new: NewReservation,
    *,
    required: int,
    created_at_us: int,
    insufficient: tuple[int, str] | None = None,
) -> Tok0nError:
    """Return why nothing was reserved. `insufficient` has the tokens left in a budget that is too small, and its id."""
    values = {"account_id": new.account_id, "token_class": new.token_class, "api_key_id": new.api_key_id}
    row = connection.execute(statements.REJECTION, values).fetchone()
    if row is None:
        return InvalidApiKey("This API key is no longer active.")
    version, expires_at_us, posted, pending = row
    if version != new.key_version:
        return KeyChanged()
    if expires_at_us is not None and expires_at_us <= created_at_us:
        return InvalidApiKey("This API key is no longer active.")
    if insufficient is not None:
        return KeyBudgetSpent(left=insufficient[0], required=required, budget_id=insufficient[1])
    return InsufficientTokens(required=required, posted=posted, pending=pending, largest_output_tokens=0)
