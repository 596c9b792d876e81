"""Every ending of a stream: what the client sees, what is charged, and what the receipt says.

Most tests run for each endpoint that streams.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.endpoint_cases import CHAT_CASE, STREAMS, USAGE, EndpointCase, by_name, chunk
from support.fakes import FakeClock, FakeStream, FakeUpstream
from support.gateways import InProcess, in_process
from support.streaming import Stream, charged, opened, streaming_reader
from tok0n.domain.errors import (
    AccountingFailed,
    Overloaded,
    RejectedByUpstream,
    ServerStopped,
    Tok0nError,
    UpstreamFailed,
)
from tok0n.ports.upstream import UpstreamResponse
from tok0n.services.reservations import Reservation

pytestmark = pytest.mark.anyio

BROKEN = UpstreamFailed("The upstream provider closed the connection.", detail="reset", outcome_unknown=True)


@pytest.fixture(params=STREAMS, ids=by_name)
def case(request: pytest.FixtureRequest) -> EndpointCase:
    found: EndpointCase = request.param
    return found


def hello(case: EndpointCase) -> bytes:
    """The beginning of a stream, and its first text."""
    return case.streaming.beginning + case.streaming.content("Hi")


async def test_nothing_begins_before_content_and_nothing_ends_before_the_charge(
    gateway: InProcess, case: EndpointCase
) -> None:
    pieces = case.streaming
    stream, upstream = await opened(gateway, case)
    upstream.send(pieces.beginning)
    await asyncio.sleep(0)
    assert not stream.has_begun
    upstream.send(pieces.content("Hel"))
    await stream.begun()
    assert pieces.text(stream.events) == "Hel"
    more = pieces.content("lo")
    upstream.send(more[:40])
    before = len(stream.events)
    upstream.send(more[40:] + pieces.complete)
    assert pieces.text(stream.events) == "Hello"
    assert before < len(stream.events)
    assert not any(map(pieces.is_end, stream.events))
    upstream.send(pieces.terminal)
    assert await stream.ended() is None
    assert pieces.is_end(stream.events[-1])
    assert b"upstream-demo" not in stream.client.received
    assert await charged(gateway) == [case.row]
    assert (stream.call.client_left, stream.answer.body.is_complete) == (False, True)


async def test_the_last_chunk_of_chat_has_the_usage_and_the_charge(gateway: InProcess) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(CHAT_CASE.streaming.whole)
    assert await stream.ended() is None
    *_, usage, done = stream.events
    receipt = stream.call.receipt
    assert receipt is not None
    assert isinstance(usage, dict)
    assert usage["usage"] == USAGE | {
        "tok0n": {"reserved": receipt.reserved, "charged": 12, "available": 1_000_000 - 12}
    }
    assert done == "[DONE]"


async def test_nothing_begins_before_the_reservation_however_long_it_takes(
    gateway: InProcess, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, case: EndpointCase
) -> None:
    reserve = Reservation.__aenter__
    database_is_back = asyncio.Event()

    async def reserve_late(reservation: Reservation) -> Reservation:
        await database_is_back.wait()
        return await reserve(reservation)

    monkeypatch.setattr(Reservation, "__aenter__", reserve_late)
    stream = Stream(gateway, case)
    async with asyncio.timeout(10):
        while not len(gateway.streams):
            await asyncio.sleep(0)
    clock.advance(60)
    await gateway.streams.check()
    await asyncio.sleep(0)
    assert not stream.has_begun
    database_is_back.set()
    async with asyncio.timeout(10):
        (await gateway.upstream.next_stream()).send(case.streaming.beginning + case.streaming.end)
        assert await stream.ended() is None
    assert await charged(gateway) == [case.row]


ENGINE_CASES = [
    *(pytest.param("sqlite", case, id=f"sqlite-{case.name}") for case in STREAMS),
    pytest.param("postgres", CHAT_CASE, id="postgres-chat"),
]
"""The engine doesn't know how a stream ends; the ledger's state machine runs every endpoint on each."""

COMPLETE: dict[str, Callable[[FakeStream, EndpointCase], None]] = {
    "done": lambda upstream, case: upstream.send(case.streaming.terminal),
    "clean end": lambda upstream, _: upstream.end(),
    "reset": lambda upstream, _: upstream.end(BROKEN),
    "error": lambda upstream, case: upstream.send(case.streaming.failure({"message": "late"})),
    "garbage": lambda upstream, _: upstream.send(b"data: {{{\n\n"),
}


@pytest.mark.parametrize(("engine", "case"), ENGINE_CASES)
@pytest.mark.parametrize("ending", COMPLETE)
async def test_a_complete_answer_is_charged_whatever_follows(
    tmp_path: Path, engine: str, ending: str, case: EndpointCase
) -> None:
    async with in_process(tmp_path, FakeUpstream(), engine=engine, make_reader=streaming_reader) as gateway:
        stream, upstream = await opened(gateway, case)
        upstream.send(hello(case) + case.streaming.complete)
        COMPLETE[ending](upstream, case)
        assert await stream.ended() is None
        assert case.streaming.is_end(stream.events[-1])
        assert await charged(gateway) == [case.row]
        assert upstream.is_left


@pytest.mark.parametrize("case", [case for case in STREAMS if case.streaming.terminal], ids=by_name)
async def test_silence_after_a_complete_answer_ends_it_after_five_seconds(
    gateway: InProcess, clock: FakeClock, case: EndpointCase
) -> None:
    stream, upstream = await opened(gateway, case)
    upstream.send(hello(case) + case.streaming.complete)
    await stream.begun()
    for _ in range(5):
        await gateway.streams.check()
        assert not stream.answer.task.done()
        clock.advance(1)
        upstream.send(b": a comment\n\n")
    await gateway.streams.check()
    assert await stream.ended() is None
    assert await charged(gateway) == [case.row]


INCOMPLETE: dict[str, Callable[[FakeStream, EndpointCase], None]] = {
    "reset": lambda upstream, _: upstream.end(BROKEN),
    "clean end": lambda upstream, _: upstream.end(),
    "error": lambda upstream, case: upstream.send(case.streaming.failure({"message": "overloaded"})),
    "no usage": lambda upstream, case: upstream.send(case.streaming.without_usage),
    "garbage": lambda upstream, _: upstream.send(b"data: {{{\n\n"),
}


@pytest.mark.parametrize(("engine", "case"), ENGINE_CASES)
@pytest.mark.parametrize("ending", INCOMPLETE)
@pytest.mark.parametrize("has_content", [False, True], ids=["held", "begun"])
async def test_an_incomplete_answer_costs_nothing(
    tmp_path: Path, engine: str, ending: str, case: EndpointCase, *, has_content: bool
) -> None:
    async with in_process(tmp_path, FakeUpstream(), engine=engine, make_reader=streaming_reader) as gateway:
        stream, upstream = await opened(gateway, case)
        upstream.send(hello(case) if has_content else case.streaming.beginning)
        INCOMPLETE[ending](upstream, case)
        if has_content or (ending == "no usage" and case.streaming.end_is_content):
            assert isinstance(await stream.ended(), UpstreamFailed)
            assert case.streaming.error(stream.events[-1])[0] == case.error_name("upstream_error")
            assert not any(map(case.streaming.is_end, stream.events))
            assert stream.answer.body.is_complete is case.endpoint.failure_ends_stream
        else:
            with pytest.raises(UpstreamFailed):
                await stream.begun()
        assert await charged(gateway) == [("RELEASED", 0, "upstream_error")]
        assert await gateway.posted() == 1_000_000


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (UpstreamFailed("It failed.", detail="refused", reached=False), 200, UpstreamFailed),
        (Overloaded(queue="upstream connections"), 200, Overloaded),
        (UpstreamResponse(status=500, body=b"{}"), 500, UpstreamFailed),
        (UpstreamResponse(status=400, body=b'{"error":{"message":"too long"}}'), 400, RejectedByUpstream),
    ],
)
async def test_an_upstream_that_does_not_stream_gets_the_error_of_a_whole_answer(
    gateway: InProcess, answer: Any, status: int, error: type[Tok0nError], case: EndpointCase
) -> None:
    gateway.upstream.answer, gateway.upstream.stream_status = answer, status
    with pytest.raises(error):
        await Stream(gateway, case).begun()
    assert await charged(gateway) == [("RELEASED", 0, error.code)]


async def test_the_beginning_is_held_for_ten_seconds(gateway: InProcess, clock: FakeClock, case: EndpointCase) -> None:
    stream, upstream = await opened(gateway, case)
    upstream.send(case.streaming.beginning)
    clock.advance(9)
    await gateway.streams.check()
    await asyncio.sleep(0)
    assert not stream.has_begun
    clock.advance(1)
    await gateway.streams.check()
    await stream.begun()
    assert bytes(stream.client.received) == case.streaming.beginning.replace(b"upstream-demo", b"demo")
    upstream.send(case.streaming.failure({"message": "bad", "code": 400}))
    assert await stream.ended() is not None
    assert case.streaming.error(stream.events[-1])


async def test_a_client_gets_a_keep_alive_every_fifteen_seconds_until_the_upstream_is_silent_for_too_long(
    gateway: InProcess, clock: FakeClock, case: EndpointCase
) -> None:
    gateway.upstream.stream_idle_seconds = 60
    stream, upstream = await opened(gateway, case)
    upstream.send(hello(case))
    await stream.begun()
    received = len(stream.client.received)
    for _ in range(59):
        clock.advance(1)
        upstream.send(b": comments don't count\n\n")
        await gateway.streams.check()
    assert stream.client.received[received:] == case.streaming.keep_alive * 3
    for _ in range(3):
        clock.advance(1)
        await gateway.streams.check()
    error = await stream.ended()
    assert isinstance(error, UpstreamFailed)
    assert await charged(gateway) == [("RELEASED", 0, "upstream_error")]


async def test_a_client_that_leaves_pays_for_the_whole_answer(gateway: InProcess, case: EndpointCase) -> None:
    stream, upstream = await opened(gateway, case)
    upstream.send(hello(case))
    await stream.begun()
    stream.answer.body.leave()
    received = bytes(stream.client.received)
    assert gateway.limiter.running
    upstream.send(case.streaming.content("there") + case.streaming.end)
    assert await stream.ended() is None
    assert stream.client.received == received
    assert stream.call.client_left
    assert await charged(gateway) == [case.row]


async def test_a_client_that_leaves_an_upstream_with_continuous_usage_pays_for_what_was_reported(
    gateway: InProcess,
) -> None:
    gateway.upstream.continuous_usage = True
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi", usage={"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}))
    await stream.begun()
    stream.answer.body.leave()
    assert await stream.ended() is None
    assert upstream.is_left
    assert await charged(gateway) == [("SETTLED", 10, None)]

    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi"))
    await stream.begun()
    stream.answer.body.leave()
    assert not stream.answer.task.done()
    upstream.send(chunk("there", usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}))
    assert await stream.ended() is None
    assert sorted(charge for _, charge, _ in await charged(gateway)) == [10, 11]


async def test_a_stream_whose_settlement_fails_ends_with_an_error_and_costs_nothing(
    gateway: InProcess, monkeypatch: pytest.MonkeyPatch, case: EndpointCase
) -> None:
    def settle(_: Any) -> "asyncio.Future[None]":
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(AccountingFailed(upstream_called=True, detail="the disk is full"))
        return failed

    monkeypatch.setattr("tok0n.services.reservations.SETTLE_PAUSES_SECONDS", (0, 0))
    monkeypatch.setattr(gateway.db.ledger, "settle", settle)
    stream, upstream = await opened(gateway, case)
    upstream.send(case.streaming.whole)
    assert isinstance(await stream.ended(), AccountingFailed)
    assert case.streaming.error(stream.events[-1])[0] == case.error_name("api_error")
    assert not any(map(case.streaming.is_end, stream.events))
    assert await charged(gateway) == [("RELEASED", 0, "api_error")]


@pytest.mark.parametrize("sent", ["nothing", "the beginning", "a text", "a complete answer"])
async def test_a_server_that_stops_charges_only_what_is_complete(
    gateway: InProcess, sent: str, case: EndpointCase
) -> None:
    stream, upstream = await opened(gateway, case)
    pieces = {"nothing": b"", "the beginning": case.streaming.beginning, "a text": hello(case)}
    upstream.send(pieces.get(sent, hello(case) + case.streaming.complete))
    (relay,) = (task for task in asyncio.all_tasks() if task.get_name() == "stream")
    await asyncio.sleep(0)
    relay.cancel()
    if sent in {"nothing", "the beginning"}:
        with pytest.raises(ServerStopped):
            await stream.begun()
        assert await charged(gateway) == [("RELEASED", 0, "cancelled")]
    elif sent == "a text":
        assert isinstance(await stream.ended(), ServerStopped)
        assert "stopped" in case.streaming.error(stream.events[-1])[1]
        assert await charged(gateway) == [("RELEASED", 0, "cancelled")]
    else:
        assert await stream.ended() is None
        assert case.streaming.is_end(stream.events[-1])
        assert await charged(gateway) == [case.row]


async def test_too_many_streams_are_rejected_before_they_use_up_a_limit(gateway: InProcess) -> None:
    streams = [(case, *await opened(gateway, case)) for case in STREAMS]
    assert len(streams) == 3
    for case in STREAMS:
        with pytest.raises(Overloaded):
            await Stream(gateway, case).begun()
    assert len(await charged(gateway)) == 3
    for case, stream, upstream in streams:
        upstream.send(case.streaming.whole)
        await stream.ended()
    stream, upstream = await opened(gateway)
    upstream.send(CHAT_CASE.streaming.whole)
    await stream.ended()
