"""What waits together goes together, in order, bounded, and never lost."""

import asyncio

import pytest

from tok0n.adapters.batcher import Batcher
from tok0n.domain.errors import Overloaded

pytestmark = pytest.mark.anyio


class Recorder:
    """A resource that remembers its batches, and waits for a gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.batcher: Batcher[int, int] = Batcher(self.run, name="test", batch_max=3, queue_max=5)

    async def run(self, commands: list[int]) -> list[int | Exception]:
        self.batches.append(commands)
        await self.gate.wait()
        if 13 in commands:
            raise OSError("unlucky")
        return [ValueError("four") if command == 4 else command * 10 for command in commands]


async def test_what_arrives_while_one_runs_goes_in_the_next() -> None:
    recorder = Recorder()
    futures = [recorder.batcher.submit(n) for n in range(4)]
    assert await asyncio.gather(*futures) == [0, 10, 20, 30]
    assert recorder.batches == [[0, 1, 2], [3]]


async def test_a_full_queue_refuses_at_once_unless_it_must_be() -> None:
    recorder = Recorder()
    futures = [recorder.batcher.submit(n) for n in range(5)]
    with pytest.raises(Overloaded):
        recorder.batcher.submit(5)
    futures.append(recorder.batcher.submit(6, bypass_limit=True))
    assert await asyncio.gather(*futures, return_exceptions=True) == [0, 10, 20, 30, futures[4].exception(), 60]


async def test_one_failure_is_its_callers_and_a_failed_run_is_everybodys() -> None:
    recorder = Recorder()
    results = await asyncio.gather(*(recorder.batcher.submit(n) for n in (3, 4, 5)), return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, int]
    results = await asyncio.gather(*(recorder.batcher.submit(n) for n in (1, 13)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    assert await recorder.batcher.submit(2) == 20


async def test_a_cancelled_caller_hears_of_it_once_its_command_was_carried_out() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    future = recorder.batcher.submit(7)

    async def wait() -> int:
        return await future

    waiting = asyncio.create_task(wait())
    while not recorder.batches:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    recorder.gate.set()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert future.result() == 70


async def test_draining_waits_for_all() -> None:
    recorder = Recorder()
    futures = [recorder.batcher.submit(n) for n in range(4)]
    await recorder.batcher.wait_until_drained()
    assert all(future.done() for future in futures)
