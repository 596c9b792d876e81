"""Every ending of a stream, over real sockets on both sides: the bytes that the client gets, and what is charged.

Most tests run for each endpoint that streams and on each engine.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from support.endpoint_cases import CHAT_CASE, STREAMS, USAGE, EndpointCase
from support.gateways import Running
from support.http import Connection, chat, chat_body
from support.ledgers import ENGINES
from support.streaming_client import StreamClient
from support.streaming_sites import TOKENS, Site, begun, open_site, until
from support.streaming_upstream import Exchange
from tok0n.services.relay import UNREAD_BYTES_MAX

pytestmark = pytest.mark.anyio

STREAM = CHAT_CASE.streaming
HELLO = STREAM.beginning + STREAM.content("Hello.")


ENGINE_CASES = [("sqlite", CHAT_CASE), *(("postgres", case) for case in STREAMS)]
"""Every endpoint runs on PostgreSQL, and chat on SQLite too, because no endpoint depends on the engine."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        ids = [f"{engine}-{case.name}" for engine, case in ENGINE_CASES]
        metafunc.parametrize(("engine", "case"), ENGINE_CASES, ids=ids)
    elif "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ENGINES)


def hello(case: EndpointCase) -> bytes:
    """The beginning of a stream, and its first text."""
    return case.streaming.beginning + case.streaming.content("Hello.")


@pytest.fixture
async def site(engine: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path, engine=engine) as site:
        yield site


async def test_a_stream_has_the_documented_headers_and_ends_after_the_charge(site: Site, case: EndpointCase) -> None:
    async with site.client(case) as client:
        exchange = await begun(site, client, hello(case))
        assert exchange.case is case
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-store"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.headers["x-ratelimit-limit-requests"] == "1000000"
        reserved = int(client.headers["x-tok0n-reserved"])
        exchange.complete(case.streaming.end)
        await client.until(lambda events: any(map(case.streaming.is_end, events)))
        assert await site.posted() == TOKENS - case.charged
        await client.ended()
        assert client.has_end
        assert client.content == "Hello."
        assert b"upstream-demo" not in client.received
        if not case.endpoint.has_stream_options:  # other upstreams report usage unasked, and their events travel whole
            assert bytes(client.received) == case.streaming.whole.replace(b"upstream-demo", b"demo")
        receipt = await site.receipt(client)
        assert (receipt["status"], receipt["charged"], receipt["reserved"]) == ("settled", case.charged, reserved)
        assert (receipt["endpoint"], receipt["stream"], receipt["ended"]) == (case.name, True, "completed")
        assert 0 <= receipt["first_event_ms"] <= receipt["upstream_ms"]


async def test_the_last_chunk_of_chat_has_the_usage_and_the_charge(site: Site) -> None:
    async with site.client() as client:
        exchange = await begun(site, client, HELLO)
        assert b'"include_usage":true' in exchange.request
        exchange.complete(STREAM.end)
        *_, stop, usage, _ = await client.ended()
        assert isinstance(stop, dict)
        assert isinstance(usage, dict)
        assert stop["choices"][0]["finish_reason"] == "stop"
        reserved = int(client.headers["x-tok0n-reserved"])
        charge = {"reserved": reserved, "charged": CHAT_CASE.charged, "available": TOKENS - CHAT_CASE.charged}
        assert (usage["choices"], usage["usage"]) == ([], USAGE | {"tok0n": charge})


async def test_each_event_arrives_before_the_upstream_sends_the_next_and_the_connection_is_used_again(
    site: Site, case: EndpointCase
) -> None:
    content = case.streaming.content
    async with site.client(case) as client:
        exchange = await begun(site, client, case.streaming.beginning + content("1"))
        text = "1"
        for number in range(2, 10):
            await client.text(text)
            assert client.content == text
            exchange.send(content(f"{number}"))
            text += f"{number}"
        large = "x" * 2**20
        exchange.send(content(large))
        await client.text(large)
        exchange.complete(case.streaming.end)
        await client.ended()
        assert client.has_end
        headers = {"authorization": f"Bearer {site.gateway.api_key}"}
        connection = Connection(site.gateway.base_url)
        connection.reader, connection.writer = client.reader, client.writer
        assert (await connection.request("GET", "/v1/balance", headers=headers)).status == 200


async def garbage(exchange: Exchange) -> None:
    exchange.send(b"data: {{{\n\n")


async def error_event(exchange: Exchange) -> None:
    exchange.send(exchange.case.streaming.failure({"message": "It failed."}))


async def close(exchange: Exchange) -> None:
    exchange.close()


async def cut_event(exchange: Exchange) -> None:
    exchange.complete(exchange.case.streaming.content("there")[:-20])


async def broken_framing(exchange: Exchange) -> None:
    exchange.send_raw(b"xyz\r\n")


async def without_usage(exchange: Exchange) -> None:
    exchange.complete(exchange.case.streaming.without_usage)


BREAKS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "RST": Exchange.reset,
    "closed": close,
    "an event is cut": cut_event,
    "broken transfer coding": broken_framing,
    "garbage": garbage,
    "an error event": error_event,
    "no usage": without_usage,
}


async def test_a_stream_whose_upstream_breaks_off_ends_with_an_error_event_and_costs_nothing(
    site: Site, case: EndpointCase
) -> None:
    more = case.streaming.content(" How")
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for name, break_off in BREAKS.items():
            clients[name] = client = await stack.enter_async_context(site.client(case))
            exchange = await begun(site, client, hello(case) + more[:-30])
            await client.text("Hello.")
            exchange.send(more[-30:])
            await break_off(exchange)
        await asyncio.gather(*(client.ended() for client in clients.values()))
        for name, client in clients.items():
            code, message = case.streaming.error(client.events[-1])
            assert code == case.error_name("upstream_error"), name
            assert "You were not charged" in message, name
            assert not any(map(case.streaming.is_end, client.events)), name
            assert client.is_complete is case.endpoint.failure_ends_stream, name
            assert client.is_complete or await client.closed(), name
            receipt = await site.receipt(client)
            assert (receipt["status"], receipt["charged"], receipt["code"]) == ("released", 0, "upstream_error"), name
            assert receipt["ended"] == "upstream_error", name
    assert await site.posted() == TOKENS


async def test_an_upstream_that_breaks_off_before_content_is_a_502_and_costs_nothing(
    site: Site, case: EndpointCase
) -> None:
    for name, break_off in BREAKS.items():
        async with site.client(case) as client:
            exchange = await site.upstream.next()
            exchange.send(case.streaming.beginning)
            if break_off is without_usage:  # chat's reason to stop ends the hold
                exchange.complete(case.streaming.bare_end)
            else:
                await break_off(exchange)
            answer = await client.rejected()
            assert (answer.status, case.read_error(answer.body)) == (502, case.error_name("upstream_error")), name
    assert await site.posted() == TOKENS


async def test_a_complete_answer_is_charged_whatever_follows(site: Site, case: EndpointCase) -> None:
    ends = [Exchange.reset, close, broken_framing, garbage, error_event]
    for end in ends:
        async with site.client(case) as client:
            exchange = await begun(site, client, hello(case) + case.streaming.complete)
            await end(exchange)
            await client.ended()
            assert client.has_end, end
    assert await site.posted() == TOKENS - len(ends) * case.charged


async def leave(client: StreamClient) -> None:
    client.writer.close()


@pytest.mark.parametrize("depart", [leave, StreamClient.reset], ids=["FIN", "RST"])
async def test_a_client_that_leaves_pays_for_the_whole_answer(
    site: Site, case: EndpointCase, depart: Callable[[StreamClient], Awaitable[None]]
) -> None:
    async with site.client(case) as client:
        exchange = await begun(site, client, hello(case))
        await client.text("Hello.")
        await depart(client)
        async with asyncio.timeout(20):
            while site.gateway.server.state.connections:  # a FIN alone is no departure: writing to the client shows it
                exchange.send(case.streaming.content("more"))
                await asyncio.sleep(0)
        assert len(site.gateway.streams) == 1
        assert (await site.gateway.account()).balance.pending > 0
        exchange.complete(case.streaming.end)
        receipt = await site.receipt(client)
        assert (receipt["status"], receipt["charged"], receipt["ended"]) == ("settled", case.charged, "client_left")


async def test_a_client_that_leaves_before_the_stream_begins_pays_for_it(site: Site, case: EndpointCase) -> None:
    async with site.client(case) as client:
        exchange = await site.upstream.next()
        exchange.send(case.streaming.beginning)
        await client.reset()
        await site.clients_left()
        exchange.complete(case.streaming.content("Hello.") + case.streaming.end)
    await site.settled()
    assert await site.posted() == TOKENS - case.charged


async def test_a_client_that_leaves_a_stream_that_fails_pays_nothing(site: Site, case: EndpointCase) -> None:
    async with site.client(case) as client:
        exchange = await begun(site, client, hello(case))
        await client.reset()
        await site.clients_left()
        await exchange.reset()
        receipt = await site.receipt(client)
        assert (receipt["status"], receipt["charged"]) == ("released", 0)


async def test_a_client_that_closes_its_half_of_the_connection_gets_all_of_the_answer_and_pays(
    site: Site, case: EndpointCase
) -> None:
    async with site.client(case) as client:
        exchange = await begun(site, client, hello(case))
        client.writer.write_eof()
        exchange.complete(case.streaming.content(" Bye.") + case.streaming.end)
        await client.ended()
        assert (client.content, client.has_end) == ("Hello. Bye.", True)
        assert await client.closed()
        assert await site.posted() == TOKENS - case.charged


async def test_a_client_that_stops_reading_is_reset_at_its_limit_and_pays(site: Site, case: EndpointCase) -> None:
    async with site.client(case) as client:
        exchange = await begun(site, client, hello(case))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            while site.gateway.server.state.connections:
                exchange.send(case.streaming.content("x" * 2**18))
                await exchange.drain()
                await asyncio.sleep(0)
        assert len(site.gateway.streams) == 1
        exchange.complete(case.streaming.end)
        receipt = await site.receipt(client)
        assert (receipt["charged"], receipt["ended"]) == (case.charged, "client_left")


async def test_a_client_that_stops_reading_is_reset_before_its_kernel_and_ours_hold_megabytes(site: Site) -> None:
    async with site.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        exchange = await begun(site, client, HELLO)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        pieces_max = 2 * UNREAD_BYTES_MAX // 2**14
        async with asyncio.timeout(20):
            while site.gateway.server.state.connections:
                assert (pieces_max := pieces_max - 1), "twice the limit is unread"
                exchange.send(STREAM.content("x" * 2**14))
                await exchange.drain()
                await asyncio.sleep(0.005)
        exchange.complete(STREAM.end)
        receipt = await site.receipt(client)
        assert (receipt["charged"], receipt["ended"]) == (CHAT_CASE.charged, "client_left")


async def test_a_client_that_leaves_its_streams_gets_its_slots_back_when_they_are_settled(
    tmp_path: Path, engine: str
) -> None:
    overrides = {"limits.concurrent_requests_per_account": 10}
    async with open_site(tmp_path, engine=engine, overrides=overrides) as site:
        exchanges = []
        opened = [*itertools.islice(itertools.cycle(STREAMS), 10)]
        for case in opened:
            async with site.client(case) as client:
                exchanges.append(await begun(site, client, hello(case)))
                await client.reset()
        await site.clients_left()
        for case in STREAMS:
            async with site.client(case) as client:
                rejected = await client.rejected()
                name = case.error_name("rate_limit_error")
                assert (rejected.status, case.read_error(rejected.body)) == (429, name)
        last = exchanges.pop()
        last.complete(last.case.streaming.end)
        await until(lambda: len(site.gateway.streams) == 9)
        async with site.client() as client:
            (await begun(site, client, HELLO)).complete(STREAM.end)
            await client.ended()
        for exchange in exchanges:
            exchange.complete(exchange.case.streaming.end)
        await site.settled()
        assert await site.posted() == TOKENS - sum(case.charged for case in (*opened, CHAT_CASE))


async def test_one_stream_too_many_gets_503_and_uses_up_no_limit(tmp_path: Path) -> None:
    async with open_site(tmp_path, overrides={"server.streams_max": 1}) as site, site.client() as first:
        exchange = await begun(site, first, HELLO)
        for case in STREAMS:
            async with site.client(case) as second:
                rejected = await second.rejected()
                assert (rejected.status, case.read_error(rejected.body)) == (503, case.error_name("overloaded"))
        exchange.complete(STREAM.end)
        await first.ended()
        async with site.client() as third:
            (await begun(site, third, HELLO)).complete(STREAM.end)
            await third.ended()
            assert int(third.headers["x-ratelimit-remaining-requests"]) == 1_000_000 - 2


async def test_200_streams_at_once_are_relayed_and_charged(site: Site) -> None:
    site.upstream.answers_streams = True
    may_begin = asyncio.Semaphore(50)  # A busy machine would reject some of 200 requests that wait at once.

    async def stream(case: EndpointCase) -> None:
        async with site.client(case) as client:
            async with may_begin:
                await client.begun()
            await client.ended()
            assert client.has_end

    cases = [*itertools.islice(itertools.cycle(STREAMS), 200)]
    await asyncio.gather(*map(stream, cases))
    assert await site.posted() == TOKENS - sum(case.charged for case in cases)


async def test_by_default_a_request_for_a_stream_is_rejected(gateway: Running) -> None:
    answer = await chat(gateway.base_url, gateway.api_key, chat_body(stream=True))
    assert (answer.status, answer.error["param"]) == (400, "stream")
    assert (await gateway.account()).balance.posted == TOKENS
