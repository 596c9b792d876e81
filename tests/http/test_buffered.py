"""The bytes that wait to be admitted: counted exactly, and bounded for each owner and for the server."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tok0n.http.buffered import OWNER_IS_FULL, SERVER_IS_FULL, BufferedBytes, ByteCount

TOTAL_MAX = 100
OWNER_MAX = 60
OWNERS = st.sampled_from(["a", "b", "c", "d"])


class Machine(RuleBasedStateMachine):
    """Requests of four owners begin, grow, change their owner and end; the server evicts some."""

    def __init__(self) -> None:
        super().__init__()
        self.buffered = BufferedBytes(buffered_bytes_max=TOTAL_MAX, owner_bytes_max=OWNER_MAX)
        self.counts: list[ByteCount] = []

    def start(self, owner: str) -> ByteCount:
        count: ByteCount

        def evict(code: str) -> None:
            assert code == SERVER_IS_FULL
            self.counts.remove(count)

        count = self.buffered.new_count(owner, on_evict=evict)
        self.counts.append(count)
        return count

    def end(self, count: ByteCount) -> None:
        self.counts.remove(count)
        count.release()

    def held_by(self, owner: object) -> int:
        return sum(count.size for count in self.counts if count.owner == owner)

    @rule(owner=OWNERS)
    def begin(self, owner: str) -> None:
        self.start(owner)

    @precondition(lambda self: self.counts)
    @rule(data=st.data(), size=st.integers(0, 80))
    def grow(self, data: st.DataObject, size: int) -> None:
        count = data.draw(st.sampled_from(self.counts))
        before = self.held_by(count.owner)
        code = count.add(size)
        others = [self.held_by(other.owner) for other in self.counts if other.owner != count.owner]
        if code == OWNER_IS_FULL:
            assert before + size > OWNER_MAX
        elif code == SERVER_IS_FULL:
            assert before + size >= max(others, default=0), "refused, although another owner has more"
            self.end(count)
        else:
            assert code is None
            assert before + size <= OWNER_MAX

    @precondition(lambda self: self.counts)
    @rule(data=st.data(), owner=OWNERS)
    def move(self, data: st.DataObject, owner: str) -> None:
        count = data.draw(st.sampled_from(self.counts))
        if count.move(owner) is not None:
            self.end(count)

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        count = data.draw(st.sampled_from(self.counts))
        self.end(count)
        count.release()

    @invariant()
    def the_count_is_exact_and_bounded(self) -> None:
        assert self.buffered.total == sum(count.size for count in self.counts) <= TOTAL_MAX
        assert all(self.held_by(owner) <= OWNER_MAX for owner in "abcd")

    def teardown(self) -> None:
        for count in list(self.counts):
            self.end(count)
        assert self.buffered.total == 0
        assert not self.buffered._counts
        assert not self.buffered._bytes


TestMachine = Machine.TestCase


@pytest.mark.parametrize("size", [OWNER_MAX, OWNER_MAX + 1])
def test_the_limit_of_a_holder_is_exact(size: int) -> None:
    buffered = BufferedBytes(buffered_bytes_max=TOTAL_MAX, owner_bytes_max=OWNER_MAX)
    count = buffered.new_count("a", on_evict=lambda _: None)
    assert count.add(size) == (None if size == OWNER_MAX else OWNER_IS_FULL)
