"""One client's many requests do not make the others wait for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from support.http import Connection
from tok0n.http import fairness
from tok0n.http.asgi import Receive, Scope, Send, respond
from tok0n.http.fairness import PIECE_SECONDS_MIN, SECONDS_PER_ITERATION, FairTurns
from tok0n.http.limits import HttpLimits
from tok0n.http.server import Edge, HttpServer, listen

PIECES = round(SECONDS_PER_ITERATION / PIECE_SECONDS_MIN)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


pytestmark = pytest.mark.anyio


class Work:
    """Pieces of work that note when they are done. Time stands still but for what a piece takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.done: list[str] = []
        self.turns = FairTurns(asyncio.get_running_loop())
        monkeypatch.setattr(fairness, "monotonic", lambda: self.now)

    def add(self, client: str, *, seconds: float = 0.0) -> None:
        """A piece of work of a client, to be done as `FairTurns` decides."""

        def act() -> None:
            self.now += seconds
            self.done.append(client)

        if self.turns.has_time():
            self.turns.do(act)
        else:
            self.turns.wait(client, act)

    async def finish(self) -> None:
        """Wait until all is done."""
        while self.turns:
            await asyncio.sleep(0)


async def test_what_fits_into_an_iteration_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    for _ in range(3):
        for _ in range(PIECES):
            work.add("a")
        assert not work.turns
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(work.done) == 3 * PIECES


async def test_clients_take_turns_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    for client in ("a" * PIECES, "a" * 20, "b" * 3, "c"):
        for letter in client:
            work.add(letter)
    assert work.done == ["a"] * PIECES
    assert len(work.turns) == 24
    await work.finish()
    assert "".join(work.done[PIECES:]) == "abc" + "ab" * 2 + "a" * 17


async def test_a_long_piece_uses_up_the_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    work.add("a", seconds=10 * SECONDS_PER_ITERATION)
    work.add("a")
    work.add("b")
    assert work.done == ["a"]
    await work.finish()
    assert work.done == ["a", "a", "b"]


class App:
    """Answers with the length of the body."""

    def __init__(self, limits: HttpLimits) -> None:
        self.edge = Edge(limits=limits)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        size = len(message.get("body", b""))
        while message.get("more_body"):
            message = await receive()
            size += len(message.get("body", b""))
        await respond(send, 200, [], b"%d" % size)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpServer]:
    """A server that never has time in the iteration in which something arrives, so that all has to wait."""
    monkeypatch.setattr(FairTurns, "has_time", lambda _: False)
    async with HttpServer(App(HttpLimits()), listen("127.0.0.1", 0), shutdown_seconds=5) as server:
        yield server


async def test_requests_that_wait_are_answered_and_count_nothing_afterwards(server: HttpServer) -> None:
    size = 3_000_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size

    async def ask() -> bytes:
        async with Connection(server.url) as connection:
            connection.writer.write(head + bytes(size))
            connection.writer.write_eof()
            return (await connection.read()).body

    assert await asyncio.gather(*(ask() for _ in range(8))) == [b"%d" % size] * 8
    assert server.state.buffered.total == 0


async def test_pipelined_requests_that_wait_are_answered_in_order(server: HttpServer) -> None:
    async with Connection(server.url) as connection:
        for size in range(50):
            connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (size, bytes(size)))
        assert [(await connection.read()).body for _ in range(50)] == [b"%d" % size for size in range(50)]


async def test_who_leaves_while_waiting_leaves_nothing_behind(server: HttpServer) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    for _ in range(20):
        async with Connection(server.url) as connection:
            connection.writer.write(head + bytes(500_000))
            await connection.writer.drain()
            connection.writer.transport.abort()
    while server.state.connections or server.state.fair_turns or server.state.tasks:
        await asyncio.sleep(0)
    assert server.state.buffered.total == 0


async def test_bytes_that_wait_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
    monkeypatch.setattr(FairTurns, "has_time", lambda _: False)
    monkeypatch.setattr(FairTurns, "wait", lambda _, __, act: waiting.put_nowait(act))
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 20000\r\n\r\n"
    async with (
        HttpServer(App(HttpLimits(holder_bytes_max=30_000)), listen("127.0.0.1", 0), shutdown_seconds=5) as server,
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
        assert (await first.read()).body == b"20000"
        assert buffered.total == 0
