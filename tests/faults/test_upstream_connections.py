"""The connections of the upstream client: which it reuses, how many it opens, and when none reaches the upstream."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator

import pytest

from support.fakes import ANSWER
from support.scripted_upstream import ScriptedUpstream, hang, http, raw
from support.upstream_clients import client, failure
from tok0n.domain.errors import Overloaded, UpstreamFailed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as server:
        yield server


async def test_calls_at_once_have_a_connection_each_and_later_ones_share_them(server: ScriptedUpstream) -> None:
    gate = asyncio.Event()

    async def gated(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(http(ANSWER))

    server.behaviour = gated
    upstream = client(server.base_url)
    calls = [asyncio.create_task(upstream.send("/chat/completions", b"{}")) for _ in range(2)]
    await server.until(lambda: len(server.requests) == 2)
    gate.set()
    assert [answer.body for answer in await asyncio.gather(*calls)] == [ANSWER] * 2
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    assert server.connections == 2
    await upstream.aclose()


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody(server: ScriptedUpstream) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def remember(writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(http(ANSWER))

    server.behaviour = remember
    upstream = client(server.base_url)
    await upstream.send("/chat/completions", b"{}")
    writers[0].write(http(b"another customer's answer"))
    await server.until(lambda: server.closed_connections == 1)
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    assert server.connections == 2
    await upstream.aclose()


async def test_a_connection_that_the_peer_closed_is_not_used_again(server: ScriptedUpstream) -> None:
    server.behaviour = raw(http(ANSWER), close=True)
    upstream = client(server.base_url)
    for _ in range(3):
        closed = server.closed_connections
        assert (await upstream.send("/chat/completions", b"{}")).status == 200
        await server.until(lambda closed=closed: server.closed_connections > closed)  # type: ignore[misc]
        await asyncio.sleep(0)
    assert server.connections == 3
    await upstream.aclose()


@pytest.mark.parametrize(
    "data",
    [
        http(ANSWER, headers="connection: close\r\n"),
        http(ANSWER) + b"more than was announced",
        http(ANSWER) + http(ANSWER),
        b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER),
    ],
)
async def test_an_unclean_connection_is_not_used_again(server: ScriptedUpstream, data: bytes) -> None:
    server.behaviour = raw(data)
    upstream = client(server.base_url)
    for _ in range(2):
        assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER, "what is whole is not lost"
    assert server.connections == 2
    await upstream.aclose()


async def test_an_idle_connection_is_closed_after_its_time(server: ScriptedUpstream) -> None:
    upstream = client(server.base_url, idle_seconds=0.02)
    await upstream.send("/chat/completions", b"{}")
    await server.until(lambda: server.closed_connections == 1)
    await upstream.aclose()


async def test_beyond_its_connections_it_refuses_at_once(server: ScriptedUpstream) -> None:
    server.behaviour = hang
    upstream = client(server.base_url, connections_max=1)
    calling = asyncio.create_task(upstream.send("/chat/completions", b"{}"))
    await server.until(lambda: len(server.requests) == 1)
    with pytest.raises(Overloaded):
        await upstream.send("/chat/completions", b"{}")
    calling.cancel()
    await asyncio.wait([calling])
    await upstream.aclose()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_a_file_for_a_connection_it_is_we_who_are_overloaded(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    upstream = client(server.base_url)

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
        with pytest.raises(Overloaded) as refused:
            await upstream.send("/chat/completions", b"{}")
    assert os.strerror(number) in refused.value.detail
    server.behaviour = raw(http(ANSWER))
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    await upstream.aclose()


async def test_interim_answers_are_passed_over(server: ScriptedUpstream) -> None:
    server.behaviour = raw(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + http(ANSWER))
    upstream = client(server.base_url)
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    await upstream.aclose()


@pytest.mark.parametrize("host", ["upstream.invalid", "a" * 70 + ".invalid"])
async def test_a_name_that_does_not_resolve_was_never_reached(host: str) -> None:
    failed = await failure(client(f"http://{host}/v1"))
    assert (failed.reached, failed.outcome_unknown) == (False, False)
    assert host not in failed.message


async def test_a_refused_connection_was_never_reached() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        failed = await failure(client(f"http://127.0.0.1:{closed.getsockname()[1]}/v1"))
    assert (failed.reached, failed.outcome_unknown) == (False, False)


@pytest.mark.parametrize(
    "base_url",
    [
        "ftp://127.0.0.1/v1",
        "127.0.0.1/v1",
        "http:///v1",
        "http://user:sk-secret@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=sk-secret",
        "http://127.0.0.1/v1#sk-secret",
        "http://127.0.0.1/v 1 sk-secret",
        "http://127.0.0.1/\r\nx: sk-secret",
    ],
)
def test_an_address_that_cannot_be_sent_is_refused_without_repeating_it(base_url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as refused:
        client(base_url)
    assert "sk-secret" not in str(refused.value)


def test_a_header_that_would_begin_another_is_refused() -> None:
    with pytest.raises(ValueError, match="character"):
        client("http://127.0.0.1/v1", headers={"x-a": "1\r\nx-b: 2"})


async def test_a_peer_that_never_finishes_the_handshake_was_never_reached(server: ScriptedUpstream) -> None:
    failed = await failure(client(server.base_url.replace("http:", "https:"), connect_seconds=0.1))
    assert (failed.reached, failed.outcome_unknown) == (False, False)


async def test_a_peer_that_hangs_up_at_once_is_a_failure_and_leaves_nothing() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        upstream = client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(100):
            with pytest.raises(UpstreamFailed):
                await upstream.send("/chat/completions", b"{}")
        async with asyncio.timeout(5):
            await upstream.aclose()
