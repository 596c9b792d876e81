"""One connection: bodies and responses, complete and in pieces; connections kept and closed; deadlines."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from support.http import Connection
from tok0n.http.asgi import FastRequest, Headers, Receive, Scope, Send, WholeAnswer, respond
from tok0n.http.connection import Connection as ServerConnection
from tok0n.http.limits import HttpLimits
from tok0n.http.server import Edge, HttpServer, bind

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


LARGE = 32 * 1024 * 1024
"""More than the kernel takes off our hands while the client reads nothing."""


class Told:
    """What the application and the test tell each other, made anew for the loop of each test."""

    working_on: asyncio.Event
    of_loss: asyncio.Event


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what came, in the way that the path names."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    match scope["path"]:
        case "/pieces":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in (b"one", b"", b"two"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        case "/large":
            await respond(send, 200, [], bytes(LARGE))
        case "/split":
            await respond(send, 200, [(b"x-a", b"b\r\nx-c: d")], b"")
        case "/short":
            headers: Headers = [(b"content-length", b"5")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"four"})
        case "/fails":
            raise ValueError("it fails")
        case "/closes":
            await respond(send, 200, [(b"connection", b"close")], b"bye")
        case path:
            await respond(send, 200, [(b"x-path", path.encode()), (b"x-query", scope["query_string"])], body)


async def work_on(_: Scope, __: Receive, send: Send) -> None:
    await respond(send, 200, [], b"at once")
    await Told.working_on.wait()


async def wait_for_loss(_: Scope, receive: Receive, __: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    Told.of_loss.set()


class Echo:
    """`echo`, with a fast path for /whole."""

    fast_path: "Echo"
    path = b"/whole"
    edge = Edge()

    def __init__(self, *, full: bool = False) -> None:
        self.fast_path = self
        self.full = full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await {"/works on": work_on, "/waits": wait_for_loss}.get(scope["path"], echo)(scope, receive, send)

    def refusal(self, _: Mapping[bytes, bytes], *, is_overloaded: bool) -> WholeAnswer | None:
        assert not is_overloaded
        return (503, b"x-full: yes\r\n", b"full") if self.full else None

    async def answer(self, request: FastRequest) -> WholeAnswer:
        if b"x-fails" in request.named:
            raise ValueError("it fails")
        return 200, b"x-a: b\r\n", request.body


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    async with (
        HttpServer(Echo(), bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as connection,
    ):
        yield connection


async def test_answers_to_requests_that_come_at_once_come_in_their_order(connection: Connection) -> None:
    for path in (b"/a?b=c", b"/whole", b"http://x/d%20e?f", b"/last"):
        connection.writer.write(
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path, len(path), path)
        )
    answers = [await connection.read() for _ in range(4)]
    assert [answer.body for answer in answers] == [b"/a?b=c", b"/whole", b"http://x/d%20e?f", b"/last"]
    assert (answers[0].headers["x-path"], answers[0].headers["x-query"]) == ("/a", "b=c")
    assert answers[1].headers["x-a"] == "b"
    assert (answers[2].headers["x-path"], answers[2].headers["x-query"]) == ("/d e", "f")


async def test_a_body_may_be_large_and_come_in_pieces(connection: Connection) -> None:
    body = bytes(range(256)) * 4_096
    connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 100_000):
        connection.writer.write(body[start : start + 100_000])
        await connection.writer.drain()
    assert (await connection.read()).body == body
    chunks = b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    answer = await connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunks)
    assert answer.body == b"onetwo"


async def test_who_asks_whether_to_go_on_is_told_so(connection: Connection) -> None:
    connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await connection.send(b"ok")).body == b"ok"


async def test_an_answer_in_pieces_is_chunked_and_one_to_head_has_no_body(connection: Connection) -> None:
    answer = await connection.send(b"GET /pieces HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert await connection.reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    connection.writer.write(b"HEAD /pieces HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head
    assert (await connection.send(b"GET /after HTTP/1.1\r\nhost: x\r\n\r\n")).headers["x-path"] == "/after"


async def test_only_a_post_whose_body_came_with_its_head_takes_the_fast_path(connection: Connection) -> None:
    whole = b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok"
    assert "x-a" in (await connection.send(whole)).headers
    connection.writer.write(whole[:-1])
    await connection.writer.drain()
    assert (await connection.send(b"k")).body == b"ok"
    other = await connection.send(b"PUT /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")
    assert other.headers["x-path"] == "/whole"


async def test_where_nothing_more_can_be_taken_on_each_is_refused_and_the_connection_kept() -> None:
    whole = b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok"
    app = Echo(full=True)
    async with (
        HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as connection,
    ):
        for _ in range(2):
            assert (await connection.send(whole)).status == 503
        connection.writer.write(whole * 500)
        answers = [await connection.read() for _ in range(500)]
        assert {answer.status for answer in answers} <= {200, 503}
        app.full = False
        assert (await connection.send(whole)).body == b"ok"


async def test_what_works_on_after_its_answer_holds_up_nothing_on_its_connection(connection: Connection) -> None:
    Told.working_on = asyncio.Event()
    assert (await connection.send(b"GET /works%20on HTTP/1.1\r\nhost: x\r\n\r\n")).body == b"at once"
    assert (await connection.send(b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")).body == b"ok"
    Told.working_on.set()


async def test_an_application_learns_that_its_client_has_left() -> None:
    Told.of_loss = asyncio.Event()
    async with HttpServer(Echo(), bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        async with Connection(server.url) as connection:
            connection.writer.write(b"POST /waits HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
            await connection.writer.drain()
        await asyncio.wait_for(Told.of_loss.wait(), 10)


@pytest.mark.parametrize("target", ["GET http://", "GET host:443", "GET #x", "GET /a#b"])
async def test_a_target_that_is_no_path_is_a_400_and_no_line_in_the_log(
    connection: Connection, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    connection.writer.write(f"{target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert (await connection.reader.read()).startswith(b"HTTP/1.1 400 ")
    assert "unexpected_error" not in "".join(capfd.readouterr())


async def test_many_small_requests_at_once_are_not_taken_for_one_large_head(connection: Connection) -> None:
    count = 5_000
    connection.writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n" * count)
    for _ in range(count):
        assert (await connection.read()).status == 200


@pytest.mark.parametrize(
    ("behind", "statuses"), [(b"\0\0\r\n\r\n", [200, 400]), (b"GET x://h HTTP/1.1\r\nhost: x\r\n\r\n", [200, 400])]
)
async def test_what_comes_behind_a_request_never_takes_its_answer(
    connection: Connection, behind: bytes, statuses: list[int]
) -> None:
    connection.writer.write(b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok" + behind)
    assert [(await connection.read()).status for _ in statuses] == statuses
    assert await connection.reader.read() == b""


async def test_a_fast_path_that_fails_is_a_500_and_ends_the_connection(connection: Connection) -> None:
    connection.writer.write(b"POST /whole HTTP/1.1\r\nhost: x\r\nx-fails:\r\n\r\n")
    answer = await connection.reader.read()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize("path", ["/split", "/fails", "/short"])
async def test_an_answer_that_cannot_be_right_is_not_sent(connection: Connection, path: str) -> None:
    connection.writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answer = await connection.reader.read()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 500 ")
    assert b"x-c" not in answer
    assert b"four" not in answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /closes HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /whole HTTP/1.0\r\n\r\n",
    ],
    ids=["server", "client", "HTTP/1.0"],
)
async def test_a_connection_that_is_not_to_be_kept_is_closed(connection: Connection, request_: bytes) -> None:
    connection.writer.write(request_)
    answer = await connection.reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in answer


async def test_a_connection_that_is_idle_for_long_is_closed_and_one_that_is_used_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tok0n.http.connection.IDLE_SECONDS", 0.1)
    app = Echo()
    app.edge = Edge(limits=HttpLimits(head_seconds=0.1))
    loop = asyncio.get_running_loop()
    async with (
        HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as connection,
    ):
        began = loop.time()
        while loop.time() < began + 0.3:
            assert (await connection.send(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")).status == 200
        assert await connection.reader.read() == b""


async def test_a_client_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tok0n.http.server.UNREAD_SECONDS_MAX", 1)
    lost = asyncio.Event()
    connection_lost = ServerConnection.connection_lost

    def tell(self: ServerConnection, exc: Exception | None) -> None:
        connection_lost(self, exc)
        lost.set()

    monkeypatch.setattr(ServerConnection, "connection_lost", tell)
    async with (
        HttpServer(Echo(), bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as connection,
    ):
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads too
        connection.writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(lost.wait(), 20)


async def test_a_body_that_arrives_too_slowly_is_rejected(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tok0n.http.connection.BODY_WINDOW_SECONDS", 0.05)
    answer = await connection.send(b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nab")
    assert answer.status == 408
    assert await connection.reader.read() == b""


async def test_a_body_that_is_fast_enough_is_awaited(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tok0n.http.connection.BODY_WINDOW_SECONDS", 0.05)
    monkeypatch.setattr("tok0n.http.connection.BODY_WINDOW_BYTES_MIN", 1)
    windows = 0
    expire_body = ServerConnection._expire_body
    expired = asyncio.Event()

    def count_window(self: ServerConnection) -> None:
        nonlocal windows
        windows += 1
        expire_body(self)
        expired.set()

    monkeypatch.setattr(ServerConnection, "_expire_body", count_window)
    connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na")
    for byte in (b"b", b"c"):
        expired.clear()
        await asyncio.wait_for(expired.wait(), 10)
        connection.writer.write(byte)
    assert (await connection.read()).body == b"abc"
    assert windows >= 2


async def test_a_client_that_closes_its_side_after_a_request_gets_its_response(connection: Connection) -> None:
    connection.writer.write(b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok" * 3)
    connection.writer.write_eof()
    assert [(await connection.read()).body for _ in range(3)] == [b"ok"] * 3
    assert await connection.reader.read() == b""


async def test_a_head_must_arrive_in_time() -> None:
    app = Echo()
    app.edge = Edge(limits=HttpLimits(head_seconds=0.05))
    async with HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        async with Connection(server.url) as connection:
            assert (await connection.send(b"GET / HTTP/1.1\r\nx-slow: ")).status == 408
            assert await connection.reader.read() == b""
        async with Connection(server.url) as connection:
            assert await connection.reader.read() == b""
        async with Connection(server.url) as connection:
            assert (await connection.request("GET", "/a")).status == 200
            assert (await connection.send(b"GET / HTTP/1.1\r\nx-slow: ")).status == 408


async def test_a_client_has_a_limited_number_of_connections_and_a_trusted_proxy_has_not() -> None:
    app = Echo()
    limits = HttpLimits(client_connections_max=2)
    for is_trusted in (False, True):
        app.edge = Edge(limits=limits, is_trusted={"127.0.0.1": is_trusted}.__getitem__)
        async with HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server:
            async with Connection(server.url) as first, Connection(server.url) as second:
                for connection in (first, second):
                    assert (await connection.request("GET", "/a")).status == 200
                async with Connection(server.url) as third:
                    answer = await third.request("GET", "/a")
                    assert answer.status == (200 if is_trusted else 503)
            while server.state.connections:
                await asyncio.sleep(0)
            async with Connection(server.url) as connection:
                assert (await connection.request("GET", "/a")).status == 200


async def test_a_client_whose_bodies_are_too_large_together_is_rejected_and_others_are_not() -> None:
    app = Echo()
    sizes = HttpLimits(holder_bytes_max=100_000)
    app.edge = Edge(limits=sizes, client_key=lambda _, headers: dict(headers).get(b"x-client"))
    head = b"POST / HTTP/1.1\r\nhost: x\r\nx-client: %b\r\ncontent-length: 60000\r\n\r\n"
    async with (
        HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as first,
        Connection(server.url) as second,
        Connection(server.url) as other,
    ):
        first.writer.write(head % b"a" + bytes(59_999))
        other.writer.write(head % b"b" + bytes(59_999))
        while server.state.buffered.total < 2 * 59_999:
            await asyncio.sleep(0)
        assert (await second.send(head % b"a" + bytes(59_999))).status == 429
        assert [(await connection.send(b"a")).status for connection in (first, other)] == [200, 200]
        assert server.state.buffered.total == 0


async def test_pipelined_requests_are_counted_and_rejected_after_the_response_in_progress() -> None:
    app = Echo()
    app.edge = Edge(limits=HttpLimits(holder_bytes_max=10_000))
    Told.working_on = asyncio.Event()
    many = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000
    async with (
        HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as connection,
    ):
        connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok" + many)
        assert [(await connection.read()).status for _ in range(2)] == [200, 429]
        assert await connection.reader.read() == b""
        assert server.state.buffered.total == 0


async def test_a_full_server_rejects_a_body_of_the_client_that_holds_most() -> None:
    app = Echo()
    app.edge = Edge(
        limits=HttpLimits(buffered_bytes_max=100_000), client_key=lambda _, headers: dict(headers).get(b"x-client")
    )
    head = b"POST / HTTP/1.1\r\nhost: x\r\nx-client: %b\r\ncontent-length: %d\r\n\r\n"
    async with (
        HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as large,
        Connection(server.url) as small,
    ):
        large.writer.write(head % (b"a", 90_000) + bytes(80_000))
        while server.state.buffered.total < 80_000:
            await asyncio.sleep(0)
        answer = await small.send(head % (b"b", 30_000) + bytes(30_000))
        assert (answer.status, len(answer.body)) == (200, 30_000)
        assert (await large.read()).status == 503
        assert server.state.buffered.total == 0
