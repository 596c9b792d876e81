"""A client with many requests does not delay a client with one."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from support.echo import Echo
from support.http import Connection
from tok0n.http import fair_queue
from tok0n.http.fair_queue import BUDGET_SECONDS, CALLBACK_SECONDS_MIN, FairQueue
from tok0n.http.limits import HttpLimits
from tok0n.http.server import HttpServer, bind

CALLBACKS_PER_ITERATION = round(BUDGET_SECONDS / CALLBACK_SECONDS_MIN)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


pytestmark = pytest.mark.anyio


class Work:
    """Callbacks that record that they ran. The clock advances only by the time that they are said to take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.queue = FairQueue(asyncio.get_running_loop())
        monkeypatch.setattr(fair_queue, "monotonic", lambda: self.now)

    def add(self, client: str, *, seconds: float = 0.0) -> None:
        """Run or queue a callback of a client, as `FairQueue` decides."""

        def act() -> None:
            self.now += seconds
            self.ran.append(client)

        if self.queue.has_budget():
            self.queue.run(act)
        else:
            self.queue.enqueue(client, act)

    async def finish(self) -> None:
        """Wait until all callbacks have run."""
        while self.queue:
            await asyncio.sleep(0)


async def test_callbacks_within_the_budget_run_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    for _ in range(3):
        for _ in range(CALLBACKS_PER_ITERATION):
            work.add("a")
        assert not work.queue
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(work.ran) == 3 * CALLBACKS_PER_ITERATION


async def test_waiting_callbacks_run_round_robin_by_client(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    for client in ("a" * CALLBACKS_PER_ITERATION, "a" * 20, "b" * 3, "c"):
        for letter in client:
            work.add(letter)
    assert work.ran == ["a"] * CALLBACKS_PER_ITERATION
    assert len(work.queue) == 24
    await work.finish()
    assert "".join(work.ran[CALLBACKS_PER_ITERATION:]) == "abc" + "ab" * 2 + "a" * 17


async def test_a_long_callback_uses_up_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    work.add("a", seconds=10 * BUDGET_SECONDS)
    work.add("a")
    work.add("b")
    assert work.ran == ["a"]
    await work.finish()
    assert work.ran == ["a", "a", "b"]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpServer]:
    """A server whose queue never has a budget when something arrives, so everything is queued."""
    monkeypatch.setattr(FairQueue, "has_budget", lambda _: False)
    async with HttpServer(Echo(), bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        yield server


async def test_queued_requests_are_answered_and_their_bytes_are_no_longer_counted(server: HttpServer) -> None:
    size = 3_000_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size

    async def ask() -> int:
        async with Connection(server.url) as connection:
            connection.writer.write(head + bytes(size))
            connection.writer.write_eof()
            return len((await connection.read()).body)

    assert await asyncio.gather(*(ask() for _ in range(8))) == [size] * 8
    assert server.state.buffered.total == 0


async def test_queued_pipelined_requests_are_answered_in_order(server: HttpServer) -> None:
    async with Connection(server.url) as connection:
        for size in range(50):
            connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (size, bytes(size)))
        assert [len((await connection.read()).body) for _ in range(50)] == list(range(50))


async def test_a_client_that_disconnects_while_queued_leaves_nothing_behind(server: HttpServer) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    for _ in range(20):
        async with Connection(server.url) as connection:
            connection.writer.write(head + bytes(500_000))
            await connection.writer.drain()
            connection.writer.transport.abort()
    while server.state.connections or server.state.fair_queue or server.state.tasks:
        await asyncio.sleep(0)
    assert server.state.buffered.total == 0


async def test_queued_bytes_count_towards_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
    monkeypatch.setattr(FairQueue, "has_budget", lambda _: False)
    monkeypatch.setattr(FairQueue, "enqueue", lambda _, __, act: waiting.put_nowait(act))
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 20000\r\n\r\n"
    async with (
        HttpServer(Echo(limits=HttpLimits(owner_bytes_max=30_000)), bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as first,
        Connection(server.url) as second,
    ):
        buffered = server.state.buffered
        first.writer.write(head + bytes(18_000))
        (await waiting.get())()
        start = await waiting.get()
        first.writer.write(bytes(2_000))
        read = await waiting.get()
        assert buffered.total == 20_000
        second.writer.write(head + bytes(20_000))
        reject = await waiting.get()
        assert (await second.read()).status == 429
        reject()
        read()
        assert buffered.total == 20_000
        start()
        assert len((await first.read()).body) == 20_000
        assert buffered.total == 0
