"""The bytes that wait to be admitted: counted exactly, and bounded for each holder and for the server."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tok0n.http.buffered import HOLDER_IS_FULL, SERVER_IS_FULL, BufferedBytes, Hold

TOTAL_MAX = 100
HOLDER_MAX = 60
HOLDERS = st.sampled_from(["a", "b", "c", "d"])


class Machine(RuleBasedStateMachine):
    """Requests of four holders begin, grow, change their holder and end; the server evicts some."""

    def __init__(self) -> None:
        super().__init__()
        self.buffered = BufferedBytes(buffered_bytes_max=TOTAL_MAX, holder_bytes_max=HOLDER_MAX)
        self.holds: list[Hold] = []

    def start(self, holder: str) -> Hold:
        hold: Hold

        def evict(code: str) -> None:
            assert code == SERVER_IS_FULL
            self.holds.remove(hold)

        hold = self.buffered.hold(holder, on_evict=evict)
        self.holds.append(hold)
        return hold

    def end(self, hold: Hold) -> None:
        self.holds.remove(hold)
        hold.release()

    def held_by(self, holder: object) -> int:
        return sum(hold.size for hold in self.holds if hold.holder == holder)

    @rule(holder=HOLDERS)
    def begin(self, holder: str) -> None:
        self.start(holder)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), size=st.integers(0, 80))
    def grow(self, data: st.DataObject, size: int) -> None:
        hold = data.draw(st.sampled_from(self.holds))
        before = self.held_by(hold.holder)
        code = hold.add(size)
        others = [self.held_by(other.holder) for other in self.holds if other.holder != hold.holder]
        if code == HOLDER_IS_FULL:
            assert before + size > HOLDER_MAX
        elif code == SERVER_IS_FULL:
            assert before + size >= max(others, default=0), "refused, although another holder has more"
            self.end(hold)
        else:
            assert code is None
            assert before + size <= HOLDER_MAX

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), holder=HOLDERS)
    def move(self, data: st.DataObject, holder: str) -> None:
        hold = data.draw(st.sampled_from(self.holds))
        if hold.move(holder) is not None:
            self.end(hold)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(self.holds))
        self.end(hold)
        hold.release()

    @invariant()
    def the_count_is_exact_and_bounded(self) -> None:
        assert self.buffered.total == sum(hold.size for hold in self.holds) <= TOTAL_MAX
        assert all(self.held_by(holder) <= HOLDER_MAX for holder in "abcd")

    def teardown(self) -> None:
        for hold in list(self.holds):
            self.end(hold)
        assert self.buffered.total == 0
        assert not self.buffered._holds
        assert not self.buffered._bytes


TestMachine = Machine.TestCase


@pytest.mark.parametrize("size", [HOLDER_MAX, HOLDER_MAX + 1])
def test_the_limit_of_a_holder_is_exact(size: int) -> None:
    buffered = BufferedBytes(buffered_bytes_max=TOTAL_MAX, holder_bytes_max=HOLDER_MAX)
    hold = buffered.hold("a", on_evict=lambda _: None)
    assert hold.add(size) == (None if size == HOLDER_MAX else HOLDER_IS_FULL)
