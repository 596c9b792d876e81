"""What comes together is dealt with a few at a time; what comes meanwhile does not wait for the last of it."""

import asyncio

import pytest

from tok0n.turns import CROWD_SECONDS_MAX, EACH_TURN, OVERRUN_SECONDS, WAITING_MAX, Turns

pytestmark = pytest.mark.anyio


async def test_a_crowd_is_dealt_with_in_order_over_several_turns() -> None:
    done: list[int] = []
    turns = Turns(done.append)
    for number in range(3 * EACH_TURN + 1):
        turns.add(number)
    assert done == list(range(EACH_TURN))
    assert len(turns) == 2 * EACH_TURN + 1
    between: list[int] = []
    while turns:
        await asyncio.sleep(0)
        between.append(len(done))
    assert done == list(range(3 * EACH_TURN + 1))
    assert between == [2 * EACH_TURN, 3 * EACH_TURN, 3 * EACH_TURN + 1]


async def test_what_comes_later_goes_behind_what_waits() -> None:
    done: list[int] = []
    turns = Turns(done.append)
    for number in range(EACH_TURN + 1):
        turns.add(number)
    turns.add(EACH_TURN + 1)
    await asyncio.sleep(0)
    turns.add(EACH_TURN + 2)
    assert done == list(range(EACH_TURN + 3))


async def test_what_an_act_adds_goes_behind_what_waits() -> None:
    done: list[int] = []

    def act(number: int) -> None:
        done.append(number)
        if number == EACH_TURN:
            turns.add(EACH_TURN + 2)

    turns = Turns(act)
    for number in range(EACH_TURN + 2):
        turns.add(number)
    while turns:
        await asyncio.sleep(0)
    assert done == list(range(EACH_TURN + 3))


async def test_after_a_pause_a_whole_turn_is_there_again() -> None:
    done: list[int] = []
    turns = Turns(done.append)
    for _ in range(2):
        for number in range(EACH_TURN):
            turns.add(number)
        assert not turns
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(done) == 2 * EACH_TURN


async def test_an_act_that_fails_keeps_nobody_else_from_theirs() -> None:
    done: list[int] = []

    def act(number: int) -> None:
        if number == EACH_TURN:
            raise ValueError("it fails")
        done.append(number)

    turns = Turns(act)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    for number in range(EACH_TURN + 3):
        turns.add(number)
    while turns:
        await asyncio.sleep(0)
    assert done == [*range(EACH_TURN), EACH_TURN + 1, EACH_TURN + 2]


async def test_a_crowd_has_room_until_its_first_has_waited_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    done: list[int] = []
    turns = Turns(done.append)

    def crowd() -> None:
        for number in range(EACH_TURN + WAITING_MAX):
            turns.add(number)

    crowd()
    now += CROWD_SECONDS_MAX - 0.001
    assert turns.has_room()
    now += 0.002
    assert not turns.has_room(), "more comes than can be dealt with"
    while turns:
        await asyncio.sleep(0)
    assert turns.has_room()
    crowd()
    assert not turns.has_room(), "it is still so"
    now += OVERRUN_SECONDS
    while turns:
        await asyncio.sleep(0)
    crowd()
    assert turns.has_room(), "it is over: this is another crowd"
