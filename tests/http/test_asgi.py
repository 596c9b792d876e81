"""An ASGI application behind the server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.echo import connect, respond
from support.http import Connection
from tok0n.http.asgi import AsgiBridge, Receive, Scope, Send
from tok0n.http.server import HttpServer, bind

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


START = {"type": "http.response.start", "status": 200, "headers": []}


class App:
    """Responds in the way that the path names."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.is_disconnected = asyncio.Event()
        self.is_cancelled = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        paths = {
            "/pieces": self.pieces,
            "/endless": self.endless,
            "/fails": self.fails,
            "/fails-late": self.fails_late,
            "/continues": self.continues,
            "/waits": self.waits,
            "/no-response": self.no_response,
            "/no-end": self.no_end,
        }
        if handler := paths.get(scope["path"]):
            await handler(receive, send)
        elif scope["path"] == "/wrong-length":
            await respond(send, 200, [(b"content-length", b"5")], b"four")
        elif scope["path"] == "/closes":
            await respond(send, 200, [(b"connection", b"close")], b"bye")
        else:
            await echo(scope, receive, send)

    async def pieces(self, _: Receive, send: Send) -> None:
        await send(START)
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"three"})

    async def endless(self, _: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
        finally:
            self.is_cancelled.set()

    async def fails(self, _: Receive, __: Send) -> None:
        raise ValueError("it fails")

    async def fails_late(self, _: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        raise ValueError("it fails")

    async def continues(self, _: Receive, send: Send) -> None:
        await respond(send, 200, [], b"at once")
        await self.may_end.wait()

    async def waits(self, receive: Receive, _: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_disconnected.set()

    async def no_end(self, _: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})

    async def no_response(self, _: Receive, __: Send) -> None:
        return


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await respond(send, 200, [(b"x-path", scope["path"].encode()), (b"x-query", scope["query_string"])], body)


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def connection(app: App) -> AsyncIterator[Connection]:
    async with connect(AsgiBridge(app)) as connection:
        yield connection


async def get(connection: Connection, path: str) -> bytes:
    connection.writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    return await connection.reader.read()


async def test_the_application_reads_a_body_that_is_still_arriving(connection: Connection) -> None:
    connection.writer.write(b"POST /d%20e?f HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
    await connection.writer.drain()
    response = await connection.send(b"cd")
    assert (response.body, response.headers["x-path"], response.headers["x-query"]) == (b"abcd", "/d e", "f")


async def test_a_response_in_pieces_is_chunked(connection: Connection) -> None:
    response = await connection.send(b"GET /pieces HTTP/1.1\r\nhost: x\r\n\r\n")
    assert response.headers["transfer-encoding"] == "chunked"
    sent = await connection.reader.readuntil(b"0\r\n\r\n")
    assert sent == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


@pytest.mark.parametrize("path", ["/wrong-length", "/fails", "/no-response"])
async def test_an_application_that_fails_is_a_500(connection: Connection, path: str) -> None:
    response = await get(connection, path)
    assert response.startswith(b"HTTP/1.1 500 ")
    assert b"four" not in response


@pytest.mark.parametrize("path", ["/fails-late", "/no-end"])
async def test_an_application_that_fails_late_has_its_response_cut(connection: Connection, path: str) -> None:
    response = await get(connection, path)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert not response.endswith(b"0\r\n\r\n")


async def test_an_application_that_streams_to_a_head_request_is_stopped(app: App, connection: Connection) -> None:
    connection.writer.write(b"HEAD /endless HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    await asyncio.wait_for(app.is_cancelled.wait(), 10)
    assert (await connection.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")).body == b"ok"


async def test_an_application_can_close_the_connection(connection: Connection) -> None:
    response = await get(connection, "/closes")
    assert b"connection: close\r\n" in response
    assert response.endswith(b"bye")


async def test_work_after_the_response_does_not_delay_the_next_request(app: App, connection: Connection) -> None:
    assert (await connection.send(b"GET /continues HTTP/1.1\r\nhost: x\r\n\r\n")).body == b"at once"
    assert (await connection.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")).body == b"ok"
    app.may_end.set()


async def test_an_application_that_waits_for_the_body_learns_that_the_client_left(app: App) -> None:
    async with HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        async with Connection(server.url) as connection:
            connection.writer.write(b"POST /waits HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
            await connection.writer.drain()
        await asyncio.wait_for(app.is_disconnected.wait(), 10)


async def test_an_application_that_streams_to_a_client_that_left_is_stopped(app: App) -> None:
    async with HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        async with Connection(server.url) as connection:
            connection.writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
            await connection.reader.readexactly(100_000)
        await asyncio.wait_for(app.is_cancelled.wait(), 10)


async def test_the_server_waits_for_work_after_a_response_before_it_stops(app: App) -> None:
    server = HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=5)
    async with server, Connection(server.url) as connection:
        assert (await connection.send(b"GET /continues HTTP/1.1\r\nhost: x\r\n\r\n")).body == b"at once"
        asyncio.get_running_loop().call_later(0.1, app.may_end.set)
    assert app.may_end.is_set()
    assert not server.state.tasks
