"""Every ending of a stream, over real sockets on both sides: the bytes that the client gets, and what is charged."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from support.gateways import Running
from support.http import Connection, chat, chat_body
from support.ledgers import ENGINES
from support.streaming import DONE, REPORT, ROLE, STOP, USAGE, chunk
from support.streaming_client import StreamClient
from support.streaming_sites import TOKENS, Site, begun, open_site, until
from support.streaming_upstream import Exchange
from tok0n.services.relay import UNREAD_BYTES_MAX

pytestmark = pytest.mark.anyio

CHARGED = 12
HELLO = ROLE + chunk("Hello.")
END = STOP + REPORT + DONE


@pytest.fixture(params=ENGINES)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path, engine=request.param) as site:
        yield site


async def test_a_stream_has_the_documented_headers_and_ends_after_the_charge(site: Site) -> None:
    async with site.client() as client:
        exchange = await begun(site, client, HELLO)
        assert b'"include_usage":true' in exchange.request
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-store"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.headers["x-ratelimit-limit-requests"] == "1000000"
        reserved = int(client.headers["x-tok0n-reserved"])
        exchange.complete(END)
        await client.until(lambda events: events[-1:] == ["[DONE]"])
        assert await site.posted() == TOKENS - CHARGED
        *_, stop, usage, _ = await client.ended()
        assert client.is_complete
        assert client.content == "Hello."
        assert isinstance(stop, dict)
        assert isinstance(usage, dict)
        assert stop["choices"][0]["finish_reason"] == "stop"
        charge = {"reserved": reserved, "charged": CHARGED, "available": TOKENS - CHARGED}
        assert (usage["choices"], usage["usage"]) == ([], USAGE | {"tok0n": charge})
        receipt = await site.receipt(client)
        assert (receipt["status"], receipt["charged"], receipt["reserved"]) == ("settled", CHARGED, reserved)
        assert (receipt["stream"], receipt["ended"]) == (True, "completed")
        assert 0 <= receipt["first_event_ms"] <= receipt["upstream_ms"]


async def test_each_event_arrives_before_the_upstream_sends_the_next_and_the_connection_is_used_again(
    site: Site,
) -> None:
    async with site.client() as client:
        exchange = await begun(site, client, ROLE + chunk("1"))
        text = "1"
        for number in range(2, 10):
            await client.text(text)
            assert client.content == text
            exchange.send(chunk(f"{number}"))
            text += f"{number}"
        large = "x" * 2**20
        exchange.send(chunk(large))
        await client.text(large)
        exchange.complete(END)
        assert (await client.ended())[-1] == "[DONE]"
        headers = {"authorization": f"Bearer {site.gateway.api_key}"}
        connection = Connection(site.gateway.base_url)
        connection.reader, connection.writer = client.reader, client.writer
        assert (await connection.request("GET", "/v1/balance", headers=headers)).status == 200


async def garbage(exchange: Exchange) -> None:
    exchange.send(b"data: {{{\n\n")


async def error_event(exchange: Exchange) -> None:
    exchange.send(b'data: {"error":{"message":"It failed.","type":"server_error","code":null}}\n\n')


async def close(exchange: Exchange) -> None:
    exchange.close()


async def cut_event(exchange: Exchange) -> None:
    exchange.complete(chunk("there")[:-20])


async def broken_framing(exchange: Exchange) -> None:
    exchange.send_raw(b"xyz\r\n")


async def without_usage(exchange: Exchange) -> None:
    exchange.complete(STOP + DONE)


BREAKS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "RST": Exchange.reset,
    "closed": close,
    "an event is cut": cut_event,
    "broken transfer coding": broken_framing,
    "garbage": garbage,
    "an error event": error_event,
    "no usage": without_usage,
}


async def test_a_stream_whose_upstream_breaks_off_ends_with_an_error_event_and_costs_nothing(site: Site) -> None:
    for name, break_off in BREAKS.items():
        async with site.client() as client:
            exchange = await begun(site, client, HELLO + chunk(" How")[:-30])
            await client.text("Hello.")
            exchange.send(chunk(" How")[-30:])
            await break_off(exchange)
            *_, error = await client.ended()
            assert isinstance(error, dict), name
            assert error["error"]["code"] == "upstream_error", name
            assert not client.is_complete, name
            assert await client.closed(), name
            receipt = await site.receipt(client)
            assert (receipt["status"], receipt["charged"], receipt["code"]) == ("released", 0, "upstream_error"), name
            assert receipt["ended"] == "upstream_error", name
    assert await site.posted() == TOKENS


async def test_an_upstream_that_breaks_off_before_content_is_a_502_and_costs_nothing(site: Site) -> None:
    for name, break_off in BREAKS.items():
        async with site.client() as client:
            exchange = await site.upstream.next()
            exchange.send(ROLE)
            if break_off is without_usage:  # the end of a choice ends the hold
                exchange.complete(DONE)
            else:
                await break_off(exchange)
            answer = await client.rejected()
            assert (answer.status, answer.error["code"]) == (502, "upstream_error"), name
    assert await site.posted() == TOKENS


async def test_a_complete_answer_is_charged_whatever_follows(site: Site) -> None:
    ends = [Exchange.reset, close, broken_framing, garbage, error_event]
    for end in ends:
        async with site.client() as client:
            exchange = await begun(site, client, HELLO + STOP + REPORT)
            await end(exchange)
            assert (await client.ended())[-1] == "[DONE]", end
            assert client.is_complete, end
    assert await site.posted() == TOKENS - len(ends) * CHARGED


async def leave(client: StreamClient) -> None:
    client.writer.close()


@pytest.mark.parametrize("depart", [leave, StreamClient.reset], ids=["FIN", "RST"])
async def test_a_client_that_leaves_pays_for_the_whole_answer(
    site: Site, depart: Callable[[StreamClient], Awaitable[None]]
) -> None:
    async with site.client() as client:
        exchange = await begun(site, client, HELLO)
        await client.text("Hello.")
        await depart(client)
        async with asyncio.timeout(20):
            while site.gateway.server.state.connections:  # a FIN alone is no departure: writing to the client shows it
                exchange.send(chunk("more"))
                await asyncio.sleep(0)
        assert len(site.gateway.streams) == 1
        assert (await site.gateway.account()).balance.pending > 0
        exchange.complete(END)
        receipt = await site.receipt(client)
        assert (receipt["status"], receipt["charged"], receipt["ended"]) == ("settled", CHARGED, "client_left")


async def test_a_client_that_leaves_before_the_stream_begins_pays_for_it(site: Site) -> None:
    async with site.client() as client:
        exchange = await site.upstream.next()
        exchange.send(ROLE)
        await client.reset()
        await site.clients_left()
        exchange.complete(chunk("Hello.") + END)
    await site.settled()
    assert await site.posted() == TOKENS - CHARGED


async def test_a_client_that_leaves_a_stream_that_fails_pays_nothing(site: Site) -> None:
    async with site.client() as client:
        exchange = await begun(site, client, HELLO)
        await client.reset()
        await site.clients_left()
        await exchange.reset()
        receipt = await site.receipt(client)
        assert (receipt["status"], receipt["charged"]) == ("released", 0)


async def test_a_client_that_closes_its_half_of_the_connection_gets_all_of_the_answer_and_pays(site: Site) -> None:
    async with site.client() as client:
        exchange = await begun(site, client, HELLO)
        client.writer.write_eof()
        exchange.complete(chunk(" Bye.") + END)
        assert (await client.ended())[-1] == "[DONE]"
        assert (client.content, client.is_complete) == ("Hello. Bye.", True)
        assert await client.closed()
        assert await site.posted() == TOKENS - CHARGED


async def test_a_client_that_stops_reading_is_reset_at_its_limit_and_pays(site: Site) -> None:
    async with site.client() as client:
        exchange = await begun(site, client, HELLO)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            while site.gateway.server.state.connections:
                exchange.send(chunk("x" * 2**18))
                await exchange.drain()
                await asyncio.sleep(0)
        assert len(site.gateway.streams) == 1
        exchange.complete(END)
        receipt = await site.receipt(client)
        assert (receipt["charged"], receipt["ended"]) == (CHARGED, "client_left")


async def test_a_client_that_stops_reading_is_reset_before_its_kernel_and_ours_hold_megabytes(site: Site) -> None:
    async with site.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        exchange = await begun(site, client, HELLO)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        pieces_max = 2 * UNREAD_BYTES_MAX // 2**14
        async with asyncio.timeout(20):
            while site.gateway.server.state.connections:
                assert (pieces_max := pieces_max - 1), "twice the limit is unread"
                exchange.send(chunk("x" * 2**14))
                await exchange.drain()
                await asyncio.sleep(0.005)
        exchange.complete(END)
        receipt = await site.receipt(client)
        assert (receipt["charged"], receipt["ended"]) == (CHARGED, "client_left")


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_client_that_leaves_its_streams_gets_its_slots_back_when_they_are_settled(
    tmp_path: Path, engine: str
) -> None:
    overrides = {"limits.concurrent_requests_per_account": 10}
    async with open_site(tmp_path, engine=engine, overrides=overrides) as site:
        exchanges = []
        for _ in range(10):
            async with site.client() as client:
                exchanges.append(await begun(site, client, HELLO))
                await client.reset()
        await site.clients_left()
        async with site.client() as client:
            rejected = await client.rejected()
            assert (rejected.status, rejected.error["code"]) == (429, "rate_limit_error")
        exchanges.pop().complete(END)
        await until(lambda: len(site.gateway.streams) == 9)
        async with site.client() as client:
            (await begun(site, client, HELLO)).complete(END)
            await client.ended()
        for exchange in exchanges:
            exchange.complete(END)
        await site.settled()
        assert await site.posted() == TOKENS - 11 * CHARGED


async def test_one_stream_too_many_gets_503_and_uses_up_no_limit(tmp_path: Path) -> None:
    async with open_site(tmp_path, overrides={"server.streams_max": 1}) as site, site.client() as first:
        exchange = await begun(site, first, HELLO)
        async with site.client() as second:
            rejected = await second.rejected()
            assert (rejected.status, rejected.error["code"]) == (503, "overloaded")
        exchange.complete(END)
        await first.ended()
        async with site.client() as third:
            (await begun(site, third, HELLO)).complete(END)
            await third.ended()
            assert int(third.headers["x-ratelimit-remaining-requests"]) == 1_000_000 - 2


async def test_200_streams_at_once_are_relayed_and_charged(site: Site) -> None:
    site.upstream.answers_streams = True
    may_begin = asyncio.Semaphore(50)  # A busy machine would reject some of 200 requests that wait at once.

    async def stream() -> None:
        async with site.client() as client:
            async with may_begin:
                await client.begun()
            assert (await client.ended())[-1] == "[DONE]"

    await asyncio.gather(*(stream() for _ in range(200)))
    assert await site.posted() == TOKENS - 200 * CHARGED


async def test_by_default_a_request_for_a_stream_is_rejected(gateway: Running) -> None:
    answer = await chat(gateway.base_url, gateway.api_key, chat_body(stream=True))
    assert (answer.status, answer.error["param"]) == (400, "stream")
    assert (await gateway.account()).balance.posted == TOKENS
