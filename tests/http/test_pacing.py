"""A burst is spread over several event-loop iterations, and a queue that falls behind sheds load."""

import asyncio

import pytest

from tok0n.http.pacing import (
    ITEMS_PER_TICK,
    QUEUE_DELAY_SECONDS_MAX,
    QUEUE_LENGTH_WHILE_SHEDDING_MAX,
    SHED_SECONDS,
    PacedQueue,
)

pytestmark = pytest.mark.anyio


async def test_a_burst_is_handled_in_order_over_several_iterations() -> None:
    done: list[int] = []
    queue = PacedQueue(done.append)
    for number in range(3 * ITEMS_PER_TICK + 1):
        queue.add(number)
    assert done == list(range(ITEMS_PER_TICK))
    assert len(queue) == 2 * ITEMS_PER_TICK + 1
    between: list[int] = []
    while queue:
        await asyncio.sleep(0)
        between.append(len(done))
    assert done == list(range(3 * ITEMS_PER_TICK + 1))
    assert between == [2 * ITEMS_PER_TICK, 3 * ITEMS_PER_TICK, 3 * ITEMS_PER_TICK + 1]


async def test_a_later_item_is_handled_after_the_waiting_ones() -> None:
    done: list[int] = []
    queue = PacedQueue(done.append)
    for number in range(ITEMS_PER_TICK + 1):
        queue.add(number)
    queue.add(ITEMS_PER_TICK + 1)
    await asyncio.sleep(0)
    queue.add(ITEMS_PER_TICK + 2)
    assert done == list(range(ITEMS_PER_TICK + 3))


async def test_an_item_added_by_the_handler_is_handled_after_the_waiting_ones() -> None:
    done: list[int] = []

    def handle(number: int) -> None:
        done.append(number)
        if number == ITEMS_PER_TICK:
            queue.add(ITEMS_PER_TICK + 2)

    queue = PacedQueue(handle)
    for number in range(ITEMS_PER_TICK + 2):
        queue.add(number)
    while queue:
        await asyncio.sleep(0)
    assert done == list(range(ITEMS_PER_TICK + 3))


async def test_each_iteration_has_its_own_allowance() -> None:
    done: list[int] = []
    queue = PacedQueue(done.append)
    for _ in range(2):
        for number in range(ITEMS_PER_TICK):
            queue.add(number)
        assert not queue
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(done) == 2 * ITEMS_PER_TICK


async def test_a_handler_that_fails_does_not_stop_the_queue() -> None:
    done: list[int] = []

    def handle(number: int) -> None:
        if number == ITEMS_PER_TICK:
            raise ValueError("it fails")
        done.append(number)

    queue = PacedQueue(handle)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    for number in range(ITEMS_PER_TICK + 3):
        queue.add(number)
    while queue:
        await asyncio.sleep(0)
    assert done == [*range(ITEMS_PER_TICK), ITEMS_PER_TICK + 1, ITEMS_PER_TICK + 2]


async def test_a_burst_is_accepted_until_its_oldest_item_has_waited_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    done: list[int] = []
    queue = PacedQueue(done.append)

    def add_burst() -> None:
        for number in range(ITEMS_PER_TICK + QUEUE_LENGTH_WHILE_SHEDDING_MAX):
            queue.add(number)

    add_burst()
    now += QUEUE_DELAY_SECONDS_MAX - 0.001
    assert not queue.is_overloaded()
    now += 0.002
    assert queue.is_overloaded(), "the oldest item has waited for too long"
    while queue:
        await asyncio.sleep(0)
    assert not queue.is_overloaded()
    add_burst()
    assert queue.is_overloaded(), "it still sheds load"
    now += SHED_SECONDS
    while queue:
        await asyncio.sleep(0)
    add_burst()
    assert not queue.is_overloaded(), "it has recovered: this is another burst"
