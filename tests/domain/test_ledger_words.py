"""The life of a reservation is a table, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.errors import AlreadyResolved
from tok0n.domain.ledger import TRANSITIONS, RequestStatus, transition


@given(status=st.sampled_from(RequestStatus), event=st.sampled_from(["settle", "release", "expire"]))
def test_only_what_is_pending_can_end(status: RequestStatus, event: str) -> None:
    if status is RequestStatus.PENDING:
        assert transition(status, event, request_id="r") == TRANSITIONS[status, event]
        return
    with pytest.raises(AlreadyResolved):
        transition(status, event, request_id="r")
