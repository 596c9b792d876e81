"""A reservation ends once, and no rule charges more than a wallet has."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain import ledger_rules
from tok0n.domain.errors import AlreadyResolved
from tok0n.domain.ledger import RequestStatus
from tok0n.domain.ledger_rules import TRANSITIONS, PeriodRow, RequestRow, Rows, WalletRow

EVENTS: dict[str, Callable[[Rows], Rows]] = {
    "settle": lambda rows: ledger_rules.settle(rows, total_tokens=7),
    "release": ledger_rules.release,
    "expire": lambda rows: ledger_rules.expire(rows, before_us=None),
}


def rows_of(status: RequestStatus, *, posted: int = 10, pending: int = 5, reserved: int = 5) -> Rows:
    request = RequestRow(
        id="r",
        account_id="a",
        token_class="standard",
        status=status,
        reserved=reserved,
        expires_at_us=1,
        period_ids=(("daily", 1), ("total", 0)),
    )
    periods = {period_id: PeriodRow(tokens=100, pending=reserved) for period_id in request.period_ids}
    return Rows(wallet=WalletRow(posted=posted, pending=pending), periods=periods, request=request)


@given(status=st.sampled_from(RequestStatus), event=st.sampled_from(sorted(EVENTS)))
def test_only_a_pending_request_can_end(status: RequestStatus, event: str) -> None:
    rows = rows_of(status)
    if status is RequestStatus.PENDING:
        assert EVENTS[event](rows).request.status is TRANSITIONS[status, event]
        return
    try:
        assert EVENTS[event](rows) == rows
    except AlreadyResolved:
        assert (event == "settle") == (status is not RequestStatus.SETTLED)


def test_a_release_of_a_settled_request_is_refused() -> None:
    with pytest.raises(AlreadyResolved):
        ledger_rules.release(rows_of(RequestStatus.SETTLED))


@given(data=st.data(), total_tokens=st.integers(1, 100))
def test_a_settlement_charges_the_use_or_everything_available(data: st.DataObject, total_tokens: int) -> None:
    posted = data.draw(st.integers(1, 60))
    pending = data.draw(st.integers(1, posted))
    reserved = data.draw(st.integers(1, pending))
    rows = rows_of(RequestStatus.PENDING, posted=posted, pending=pending, reserved=reserved)
    after = ledger_rules.settle(rows, total_tokens=total_tokens)
    assert after.request.charged + after.request.shortfall == total_tokens
    assert 0 <= after.wallet.pending <= after.wallet.posted == posted - after.request.charged
    assert after.request.shortfall == 0 or after.wallet.posted == after.wallet.pending
    assert {(row.spent, row.pending) for row in after.periods.values()} == {(after.request.charged, 0)}
    assert ledger_rules.settle(after, total_tokens=total_tokens) == msgspec.structs.replace(after, entry=None)
