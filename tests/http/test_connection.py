"""One connection: requests and responses, complete and in pieces, and when the connection closes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.echo import PACED_PATH, Echo, connect
from support.http import Connection
from tok0n.http.server import HttpServer, bind
from tok0n.http.states import TRANSITIONS, ConnectionEvent, State

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    async with connect(Echo()) as connection:
        yield connection


async def test_pipelined_requests_are_answered_in_their_order(connection: Connection) -> None:
    for path in (b"/a?b=c", b"/paced", b"http://x/d%20e?f", b"/last"):
        connection.writer.write(
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path, len(path), path)
        )
    answers = [await connection.read() for _ in range(4)]
    assert [answer.body for answer in answers] == [b"/a?b=c", b"/paced", b"http://x/d%20e?f", b"/last"]
    assert (answers[0].headers["x-path"], answers[0].headers["x-query"]) == ("/a", "b=c")
    assert (answers[2].headers["x-path"], answers[2].headers["x-query"]) == ("/d e", "f")


async def test_a_body_may_be_large_and_arrive_in_pieces(connection: Connection) -> None:
    body = bytes(range(256)) * 4_096
    connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 100_000):
        connection.writer.write(body[start : start + 100_000])
        await connection.writer.drain()
    assert (await connection.read()).body == body
    chunks = b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    answer = await connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunks)
    assert answer.body == b"onetwo"


async def test_a_client_that_expects_100_continue_gets_it(connection: Connection) -> None:
    connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await connection.send(b"ok")).body == b"ok"


async def test_a_streamed_response_is_chunked_and_a_response_to_head_has_no_body(connection: Connection) -> None:
    answer = await connection.send(b"GET /pieces HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert await connection.reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    connection.writer.write(b"HEAD /pieces HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head
    assert (await connection.send(b"GET /after HTTP/1.1\r\nhost: x\r\n\r\n")).headers["x-path"] == "/after"


@pytest.mark.parametrize("target", ["GET http://", "GET host:443", "GET #x", "GET /a#b"])
async def test_a_target_that_is_not_a_path_is_a_400_and_not_logged_as_our_fault(
    connection: Connection, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    connection.writer.write(f"{target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert (await connection.reader.read()).startswith(b"HTTP/1.1 400 ")
    assert "unexpected_error" not in "".join(capfd.readouterr())


async def test_many_small_pipelined_requests_do_not_count_as_one_large_head(connection: Connection) -> None:
    count = 5_000
    connection.writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n" * count)
    for _ in range(count):
        assert (await connection.read()).status == 200


@pytest.mark.parametrize(
    ("behind", "statuses"), [(b"\0\0\r\n\r\n", [200, 400]), (b"GET x://h HTTP/1.1\r\nhost: x\r\n\r\n", [200, 400])]
)
async def test_bytes_behind_a_request_never_get_its_response(
    connection: Connection, behind: bytes, statuses: list[int]
) -> None:
    connection.writer.write(b"POST /paced HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok" + behind)
    assert [(await connection.read()).status for _ in statuses] == statuses
    assert await connection.reader.read() == b""


async def test_a_client_that_closes_its_side_after_a_request_gets_its_response(connection: Connection) -> None:
    connection.writer.write(b"POST /paced HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok" * 3)
    connection.writer.write_eof()
    assert [(await connection.read()).body for _ in range(3)] == [b"ok"] * 3
    assert await connection.reader.read() == b""


async def test_complete_and_incomplete_requests_reach_the_same_handler(connection: Connection) -> None:
    complete = b"POST /paced HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok"
    assert (await connection.send(complete)).headers["x-path"] == PACED_PATH
    connection.writer.write(complete[:-1])
    await connection.writer.drain()
    assert (await connection.send(b"k")).body == b"ok"
    put = await connection.send(b"PUT /paced HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")
    assert put.headers["x-path"] == PACED_PATH


async def test_a_handler_learns_that_its_client_has_left() -> None:
    app = Echo()
    async with HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        async with Connection(server.url) as connection:
            connection.writer.write(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
            await connection.writer.drain()
        await asyncio.wait_for(app.client_has_left.wait(), 10)


@pytest.mark.parametrize("path", ["/split-header", "/fails"])
async def test_a_handler_that_fails_is_a_500_and_the_connection_closes(connection: Connection, path: str) -> None:
    connection.writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    response = await connection.reader.read()
    assert response.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in response
    assert b"x-c" not in response


@pytest.mark.parametrize("path", ["/fails-late", "/too-short"])
async def test_a_stream_that_fails_is_cut_so_that_no_client_takes_it_for_complete(
    connection: Connection, path: str
) -> None:
    connection.writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    response = await connection.reader.read()
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"one" in response
    assert not response.endswith(b"0\r\n\r\n")


async def test_a_client_of_http_10_gets_a_reset_when_its_stream_fails(connection: Connection) -> None:
    connection.writer.write(b"GET /fails-late HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await connection.reader.read()


async def test_a_client_of_http_10_gets_a_reset_when_its_stream_is_cancelled_at_shutdown() -> None:
    server = HttpServer(Echo(), bind("127.0.0.1", 0), shutdown_seconds=0)
    await server.__aenter__()
    async with Connection(server.url) as connection:
        connection.writer.write(b"GET /stalls HTTP/1.0\r\n\r\n")
        assert (await connection.reader.readuntil(b"one")).startswith(b"HTTP/1.1 200 ")
        await server.__aexit__(None, None, None)
        with pytest.raises(ConnectionResetError):
            await connection.reader.read()


async def test_a_stream_longer_than_its_content_length_is_not_sent(connection: Connection) -> None:
    connection.writer.write(b"GET /too-long HTTP/1.1\r\nhost: x\r\n\r\n")
    response = await connection.reader.read()
    assert b"one" not in response


async def test_a_stream_to_an_http_10_client_ends_with_the_connection(connection: Connection) -> None:
    connection.writer.write(b"GET /pieces HTTP/1.0\r\n\r\n")
    head, _, body = (await connection.reader.read()).partition(b"\r\n\r\n")
    assert (b"chunked" in head, body) == (False, b"onetwo")


@pytest.mark.parametrize(
    "request_",
    [b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"POST /paced HTTP/1.0\r\n\r\n"],
    ids=["connection: close", "HTTP/1.0"],
)
async def test_a_connection_that_the_client_does_not_keep_is_closed(connection: Connection, request_: bytes) -> None:
    connection.writer.write(request_)
    response = await connection.reader.read()
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in response


async def test_a_streamed_204_has_no_body(connection: Connection) -> None:
    connection.writer.write(b"GET /no-content HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert (head.startswith(b"HTTP/1.1 204 "), b"chunked" in head) == (True, False)
    assert (await connection.send(b"GET /after HTTP/1.1\r\nhost: x\r\n\r\n")).headers["x-path"] == "/after"


async def test_a_rejected_head_request_gets_no_body(connection: Connection) -> None:
    connection.writer.write(b"HEAD #x HTTP/1.1\r\nhost: x\r\n\r\n")
    response = await connection.reader.read()
    assert response.startswith(b"HTTP/1.1 400 ")
    assert response.endswith(b"\r\n\r\n")


def test_every_state_can_close_and_closing_is_final() -> None:
    assert {state for state, event in TRANSITIONS if event is ConnectionEvent.CLOSE} == set(State)
    assert [event for state, event in TRANSITIONS if state is State.CLOSING] == [ConnectionEvent.CLOSE]
