"""Upstreams that send a second answer, or close, at any moment: no call gets another's, and nothing is sent twice."""

import asyncio
import json
import random
import socket
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from conformance.upstream_messages import sized
from conformance.upstream_server import Peer, UpstreamServer
from tok0n.adapters.upstream import http
from tok0n.adapters.upstream.connection import UpstreamConnection
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.domain.errors import UpstreamFailed

pytestmark = pytest.mark.anyio

CALLS, CALLERS = 1_200, 40


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def client(server: UpstreamServer, **options: Any) -> HttpUpstream:
    return HttpUpstream(name="test", base_url=server.base_url, api_key=None, timeout_seconds=30.0, **options)


class Caller:
    """Makes calls that each carry a number, and compares what comes back."""

    def __init__(self, upstream: HttpUpstream) -> None:
        self.upstream = upstream
        self.wrong: list[int] = []
        self.failed: list[int] = []
        self.outcomes: set[bool] = set()
        self.numbers = iter(range(CALLS))

    async def run(self) -> None:
        for number in self.numbers:
            body = json.dumps({"number": number}).encode()
            try:
                answer = await self.upstream.send("/chat/completions", body)
            except UpstreamFailed as error:
                self.failed.append(number)
                self.outcomes.add(error.outcome_unknown)
            else:
                if answer.body != body:
                    self.wrong.append(number)
            if random.random() < 0.3:
                await asyncio.sleep(random.random() / 1_000)

    async def run_all(self) -> None:
        await asyncio.gather(*[self.run() for _ in range(CALLERS)])


def idle_pairs(upstream: HttpUpstream, server: UpstreamServer) -> list[tuple[UpstreamConnection, Peer]]:
    """The client's idle connections, each with its other end."""
    peers = {peer.transport.get_extra_info("peername"): peer for peer in server.connections if not peer.lost.is_set()}
    pairs = []
    for connection in upstream._idle:
        if connection._transport is None or not connection.usable or connection.has_input():
            continue
        peer = peers.get(connection._transport.get_extra_info("sockname"))
        if peer is not None:
            pairs.append((connection, peer))
    return pairs


async def disturb(upstream: HttpUpstream, server: UpstreamServer, *, close: bool) -> int:
    """Send a surplus answer, or close, on idle connections. It is on the client's socket before anything else runs."""
    disturbed = 0
    while True:
        for connection, peer in idle_pairs(upstream, server)[-2:]:
            if close:
                fd = peer.transport.get_extra_info("socket").fileno()
                with socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as duplicate:
                    duplicate.shutdown(socket.SHUT_WR)
            else:
                peer.transport.write(sized(b'{"number":-1}'))
            while not connection.has_input():
                pass
            disturbed += 1
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return disturbed


@pytest.mark.parametrize("close", [False, True], ids=["second answer", "closed"])
async def test_input_on_an_idle_connection_harms_no_call(*, close: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reuse is not paused here, so that the look at the socket alone must find every case."""
    monkeypatch.setattr(http, "REUSE_PAUSE_SECONDS", 0.0)
    async with UpstreamServer() as server:
        upstream = client(server)
        caller = Caller(upstream)
        disturbing = asyncio.create_task(disturb(upstream, server, close=close))
        await caller.run_all()
        disturbing.cancel()
        assert await disturbing > CALLS // 20, "the test met idle connections"
        await upstream.aclose()
    assert (caller.wrong, caller.failed) == ([], [])


class LateServer(UpstreamServer):
    """Sends each answer, and a second one at a random moment after it, whatever the client has written by then."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[bytes] = Counter()

    def answer(self, peer: Peer, body: bytes) -> None:
        self.seen[body] += 1
        peer.transport.write(sized(body))
        asyncio.get_running_loop().call_later(random.random() / 500, self.send_late, peer, body)

    def send_late(self, peer: Peer, body: bytes) -> None:
        if not peer.transport.is_closing():
            peer.transport.write(sized(body))


async def test_after_the_first_surplus_byte_no_call_gets_anothers_answer() -> None:
    """Before it, a late answer may reach the next call on its connection: HTTP/1.1 cannot tell them apart."""
    async with LateServer() as server:
        upstream = client(server)
        with capture_logs() as logs:
            first = Caller(upstream)
            first.numbers = iter(range(CALLERS * 2))
            await first.run_all()
            async with asyncio.timeout(10):
                while not logs:
                    await asyncio.sleep(0)
            second = Caller(upstream)
            await second.run_all()
        await upstream.aclose()
    assert [entry["event"] for entry in logs] == ["upstream_surplus_response"]
    assert (second.wrong, second.failed) == ([], [])


async def test_without_reuse_no_call_gets_anothers_answer() -> None:
    async with LateServer() as server:
        upstream = client(server, reuse_connections=False)
        caller = Caller(upstream)
        await caller.run_all()
        assert len(server.connections) == CALLS
        await upstream.aclose()
    assert (caller.wrong, caller.failed) == ([], [])


class ClosingServer(LateServer):
    """Closes each connection at a random moment after an answer, like a server whose keep-alive time ends."""

    def send_late(self, peer: Peer, body: bytes) -> None:
        peer.transport.close()


async def test_a_server_that_closes_idle_connections_causes_no_second_sending() -> None:
    async with ClosingServer() as server:
        upstream = client(server)
        caller = Caller(upstream)
        await caller.run_all()
        await upstream.aclose()
    assert caller.wrong == []
    assert caller.outcomes <= {True}, "a request that broke under way has an unknown outcome"
    assert set(server.seen.values()) == {1}
