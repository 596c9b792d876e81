"""A body that its producer pushes: written at once, kept for a slow client, and cut or completed at its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.http import Connection
from support.scripted_upstream import reset
from tok0n.http import responder
from tok0n.http.message import Response
from tok0n.http.pushed_body import PushedBody
from tok0n.http.request import Request
from tok0n.http.server import CUT_SECONDS_MAX, HttpServer, ServerOptions, bind

pytestmark = pytest.mark.anyio

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
LARGE = b"x" * 8 * 1024 * 1024
"""More than the kernel takes for a client that reads nothing."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


class Pusher:
    """An application whose responses are bodies that the test pushes to."""

    def __init__(self) -> None:
        self.bodies: list[PushedBody] = []
        self.closed = 0
        self.options = ServerOptions()
        self.background: asyncio.Future[None] | None = None

    async def handle(self, request: Request) -> Response:
        body = PushedBody(self._on_close)
        body.push(b"before;")
        self.bodies.append(body)
        if self.background is not None:
            request.track(self.background)
        return Response(200, [(b"x-own", b"1")], body)

    def _on_close(self) -> None:
        self.closed += 1

    async def body(self) -> PushedBody:
        """Wait for the next body."""
        while not self.bodies:
            await asyncio.sleep(0)
        return self.bodies.pop(0)


@pytest.fixture
def app() -> Pusher:
    return Pusher()


@pytest.fixture
async def server(app: Pusher) -> AsyncIterator[HttpServer]:
    async with HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        yield server


async def begin(connection: Connection, app: Pusher, request: bytes = REQUEST) -> PushedBody:
    """Send a request and read the head of its response."""
    connection.writer.write(request)
    body = await app.body()
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert b"x-own: 1" in head
    return body


async def test_pieces_arrive_as_they_are_pushed_and_the_connection_is_used_again(
    app: Pusher, server: HttpServer
) -> None:
    async with Connection(server.url) as connection:
        for _ in range(2):
            body = await begin(connection, app)
            assert await connection.reader.readuntil(b";\r\n") == b"7\r\nbefore;\r\n"
            for number in range(3):
                body.push(b"%d;" % number)
                assert await connection.reader.readuntil(b";\r\n") == b"2\r\n%d;\r\n" % number
            body.push(b"last;")
            body.complete()
            assert await connection.reader.readuntil(b"0\r\n\r\n") == b"5\r\nlast;\r\n0\r\n\r\n"
            assert (body.is_closed, body.has_left, body.unsent_bytes) == (True, False, 0)
    assert app.closed == 2


async def test_a_cut_body_has_no_last_chunk(app: Pusher, server: HttpServer) -> None:
    async with Connection(server.url) as connection:
        body = await begin(connection, app)
        body.push(b"error;")
        body.end_incomplete()
        assert await connection.reader.read() == b"7\r\nbefore;\r\n6\r\nerror;\r\n"
    assert (body.is_closed, body.has_left) == (True, False)


async def test_a_client_has_time_to_read_the_last_piece_before_the_cut(app: Pusher, server: HttpServer) -> None:
    loop = asyncio.get_running_loop()
    async with Connection(server.url) as connection:
        body = await begin(connection, app)
        body.push(b"error;")
        cut_at = loop.time()
        body.end_incomplete()
        assert await connection.reader.readuntil(b"error;\r\n")
        assert await connection.reader.read() == b""
        assert loop.time() - cut_at >= responder.CUT_DELAY_SECONDS
    assert responder.CUT_DELAY_SECONDS < CUT_SECONDS_MAX


async def test_a_client_that_resets_before_the_cut_frees_its_connection(
    app: Pusher, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "CUT_DELAY_SECONDS", 600)
    async with Connection(server.url) as connection:
        body = await begin(connection, app)
        body.end_incomplete()
        await reset(connection.writer)
    async with asyncio.timeout(60):
        while server.state.connections:
            await asyncio.sleep(0)
    assert (body.is_closed, body.has_left) == (True, False)


async def test_a_cut_body_resets_a_client_of_http_10(app: Pusher, server: HttpServer) -> None:
    async with Connection(server.url) as connection:
        body = await begin(connection, app, b"POST / HTTP/1.0\r\ncontent-length: 0\r\n\r\n")
        body.end_incomplete()
        with pytest.raises(ConnectionResetError):
            await connection.reader.read()


async def test_what_a_slow_client_has_not_read_waits_and_arrives_in_order(app: Pusher, server: HttpServer) -> None:
    async with Connection(server.url) as connection:
        body = await begin(connection, app)
        body.push(LARGE)
        body.push(b"after;")
        body.complete()
        assert body.waiting_bytes == len(b"after;")
        assert len(LARGE) // 2 < body.unsent_bytes <= len(LARGE) + 100
        assert not body.is_closed
        await connection.reader.readuntil(b"before;\r\n")
        received = await connection.reader.readexactly(len(b"800000\r\n") + len(LARGE) + 2)
        assert received == b"800000\r\n%b\r\n" % LARGE
        assert await connection.reader.readuntil(b"0\r\n\r\n") == b"6\r\nafter;\r\n0\r\n\r\n"
        assert (body.is_closed, body.has_left, app.closed) == (True, False, 1)


@pytest.mark.parametrize("ends", [False, True])
async def test_a_client_that_leaves_is_noticed_and_pieces_are_dropped(
    app: Pusher, server: HttpServer, *, ends: bool
) -> None:
    async with Connection(server.url) as connection:
        body = await begin(connection, app)
        body.push(LARGE)
        if ends:
            body.complete()
    while not body.has_left:
        await asyncio.sleep(0)
    body.push(LARGE)
    assert (body.unsent_bytes, body.is_closed, app.closed) == (0, True, 1)
    while server.state.connections:
        await asyncio.sleep(0)


async def test_a_client_that_is_dropped_loses_its_connection_at_once(app: Pusher, server: HttpServer) -> None:
    async with Connection(server.url) as connection:
        body = await begin(connection, app)
        body.push(LARGE)
        body.drop()
        assert (body.has_left, body.unsent_bytes, app.closed) == (True, 0, 1)
        while server.state.connections:
            await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError):
            await connection.reader.readexactly(len(LARGE))


async def test_a_client_that_closes_its_side_gets_the_whole_body(app: Pusher, server: HttpServer) -> None:
    async with Connection(server.url) as connection:
        body = await begin(connection, app)
        connection.writer.write_eof()
        body.push(b"more;")
        assert await connection.reader.readuntil(b"more;\r\n")
        body.complete()
        assert await connection.reader.read() == b"0\r\n\r\n"


async def test_a_server_that_stops_lets_the_task_of_a_body_end_it(app: Pusher) -> None:
    async def end_late() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            body.push(b"stopped;")
            body.end_incomplete()

    app.background = asyncio.ensure_future(end_late())
    async with HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=0.1) as server:
        connection = await Connection(server.url).__aenter__()
        body = await begin(connection, app)
    assert await connection.reader.read() == b"7\r\nbefore;\r\n8\r\nstopped;\r\n"
    await connection.__aexit__(None, None, None)
