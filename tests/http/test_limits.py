"""The limits of a connection: deadlines, the rate of a body, connections and buffered bytes of one client."""

import asyncio
from dataclasses import replace

import pytest

from support.echo import BY_NAME, Echo, connect
from support.http import Connection
from tok0n.http import server as server_module
from tok0n.http.connection import Connection as ServerConnection
from tok0n.http.limits import HttpLimits
from tok0n.http.server import HttpServer, ServerOptions, bind
from tok0n.http.watchdog import BodyRate

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    app = Echo(limits=HttpLimits(head_seconds=0.1, idle_seconds=0.1))
    loop = asyncio.get_running_loop()
    async with connect(app) as connection:
        began = loop.time()
        while loop.time() < began + 0.3:
            assert (await connection.send(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")).status == 200
        assert await connection.reader.read() == b""


async def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "UNREAD_SECONDS_MAX", 1)
    lost = asyncio.Event()
    connection_lost = ServerConnection.connection_lost

    def notify(self: ServerConnection, exc: Exception | None) -> None:
        connection_lost(self, exc)
        lost.set()

    monkeypatch.setattr(ServerConnection, "connection_lost", notify)
    async with connect(Echo()) as connection:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads too
        connection.writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(lost.wait(), 20)


async def test_a_body_that_arrives_too_slowly_is_rejected() -> None:
    async with connect(Echo(limits=HttpLimits(body_window_seconds=0.05))) as connection:
        answer = await connection.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nab")
        assert answer.status == 408
        assert await connection.reader.read() == b""


async def test_a_body_that_is_fast_enough_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[str | None] = []
    checked = asyncio.Event()
    violation = BodyRate.violation

    def count_check(self: BodyRate, now: float, *, is_awaited: bool) -> str | None:
        checks.append(violation(self, now, is_awaited=is_awaited))
        checked.set()
        return checks[-1]

    monkeypatch.setattr(BodyRate, "violation", count_check)
    limits = HttpLimits(body_window_seconds=0.05, body_window_bytes_min=1)
    async with connect(Echo(limits=limits)) as connection:
        connection.writer.write(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na")
        for byte in (b"b", b"c"):
            checked.clear()
            await asyncio.wait_for(checked.wait(), 10)
            connection.writer.write(byte)
        assert (await connection.read()).body == b"abc"
    assert len(checks) >= 2
    assert set(checks) == {None}


@pytest.mark.parametrize(
    ("now", "received_bytes", "when_awaited", "when_not_awaited"),
    [
        (10.0, 10_240, "kept", "kept"),
        (10.0, 10_239, "rejected", "kept"),
        (30.0, 10_240, "rejected", "rejected"),
    ],
)
def test_a_body_has_a_minimum_rate_while_it_is_awaited_and_a_total_time(
    now: float, received_bytes: int, when_awaited: str, when_not_awaited: str
) -> None:
    for is_awaited, outcome in ((True, when_awaited), (False, when_not_awaited)):
        rate = BodyRate(HttpLimits(), now=0.0, received_bytes=received_bytes)
        assert (rate.violation(now, is_awaited=is_awaited) is not None) is (outcome == "rejected")


async def test_a_head_must_arrive_in_time() -> None:
    app = Echo(limits=HttpLimits(head_seconds=0.05))
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
    limits = HttpLimits(client_connections_max=2)
    for is_trusted in (False, True):
        app = Echo(ServerOptions(limits=limits, is_trusted={"127.0.0.1": is_trusted}.__getitem__))
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
    app = Echo(replace(BY_NAME, limits=HttpLimits(owner_bytes_max=100_000)))
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
    app = Echo(limits=HttpLimits(owner_bytes_max=10_000))
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
    app = Echo(replace(BY_NAME, limits=HttpLimits(buffered_bytes_max=100_000)))
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
