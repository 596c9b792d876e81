"""Whatever an upstream sends, each call gets its own answer or a clean failure. Every row runs on both loops."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from conformance.upstream_messages import BODY_BYTES_MAX, LARGE, LATE, UNREACHED, Row
from conformance.upstream_server import UpstreamServer
from conformance.upstream_table import ROWS
from tok0n.adapters.upstream.connection import UpstreamConnection
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.domain.errors import UpstreamFailed
from tok0n.ports.upstream import UpstreamResponse

pytestmark = pytest.mark.anyio

TIMEOUT_SECONDS, LATE_SECONDS = 30.0, 0.2


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


Post = Callable[[HttpUpstream, bytes], Awaitable[UpstreamResponse]]


class GreetedUpstream(HttpUpstream):
    """A client whose server's greeting is on the socket before the client can write its request."""

    def __init__(self, server: UpstreamServer, greeting: bytes, *, timeout_seconds: float) -> None:
        super().__init__(
            name="test",
            base_url=server.base_url,
            api_key="sk-secret",
            timeout_seconds=timeout_seconds,
            body_bytes_max=BODY_BYTES_MAX,
        )
        self._server = server
        self._greeting = greeting

    async def _open_connection(self) -> UpstreamConnection:
        connection = await super()._open_connection()
        if self._greeting:
            while not self._server.connections:
                await asyncio.sleep(0)
            self._server.connections[0].transport.write(self._greeting)
            while not connection.has_input():
                pass
            self._greeting = b""
        return connection


async def send(upstream: HttpUpstream, request: bytes) -> UpstreamResponse:
    return await upstream.send("/chat/completions", request)


async def stream(upstream: HttpUpstream, request: bytes) -> UpstreamResponse:
    timeout_seconds = upstream.timeout_seconds
    async with upstream.stream("/chat/completions", request, timeout_seconds=timeout_seconds) as response:
        body = await response.read_all()
        return UpstreamResponse(status=response.status, body=body, retry_after_seconds=response.retry_after_seconds)


CASES = [pytest.param(row, send, id=row.name) for row in ROWS] + [
    pytest.param(row, stream, id=f"{row.name}, in pieces") for row in ROWS if row.fails != LARGE
]
"""A body that is read in pieces has no size limit."""


async def outcome(post: Post, upstream: HttpUpstream, request: bytes) -> UpstreamResponse | UpstreamFailed:
    try:
        return await post(upstream, request)
    except UpstreamFailed as error:
        return error


def check_outcome(row: Row, result: UpstreamResponse | UpstreamFailed) -> None:
    if row.fails is None:
        assert isinstance(result, UpstreamResponse), result
        assert (result.status, result.body) == (row.status, row.body)
        assert result.retry_after_seconds == row.retry_after_seconds
        return
    assert isinstance(result, UpstreamFailed), result
    assert row.fails in result.message
    was_reached = row.fails != UNREACHED
    assert (result.reached, result.outcome_unknown) == (was_reached, was_reached)
    assert "sk-secret" not in result.message + result.detail


@pytest.mark.parametrize(("row", "post"), CASES)
async def test_an_upstream_has_one_right_outcome_and_no_later_call_gets_its_bytes(row: Row, post: Post) -> None:
    async with UpstreamServer(row) as server:
        upstream = GreetedUpstream(
            server, row.on_connect, timeout_seconds=LATE_SECONDS if row.fails == LATE else TIMEOUT_SECONDS
        )
        with capture_logs() as logs:
            check_outcome(row, await outcome(post, upstream, b"{}" + b" " * row.request_bytes))
            upstream.timeout_seconds = TIMEOUT_SECONDS
            server.row = None
            if row.later:
                server.connections[0].transport.write(row.later)
                while not upstream._idle[0].has_input():
                    pass
            connections = []
            for victim in (b"victim 1", b"victim 2"):
                assert (await upstream.send("/chat/completions", victim)).body == victim
                connections.append(len(server.connections))
            others = [b"victim %d" % number for number in range(3, 9)]
            answers = await asyncio.gather(*(upstream.send("/chat/completions", other) for other in others))
            assert [answer.body for answer in answers] == others
        await upstream.aclose()
    assert connections == ([1, 1] if row.reuse else [2, 3] if row.pauses else [2, 2])
    events = [entry["event"] for entry in logs]
    assert events == (["upstream_surplus_response"] if row.pauses else [])


def test_the_table_is_as_large_as_promised() -> None:
    assert len(ROWS) >= 70
    assert len({row.name for row in ROWS}) == len(ROWS)
