"""Every ending of a stream: what the client sees, what is charged, and what the receipt says."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.endpoint_cases import DONE, REPORT, ROLE, STOP, USAGE, chunk
from support.fakes import FakeClock, FakeUpstream
from support.gateways import InProcess, in_process
from support.ledgers import ENGINES
from support.streaming import Stream, StreamingReader, charged, events, opened
from tok0n.domain.endpoints.chat_stream import KEEP_ALIVE
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


async def test_nothing_begins_before_content_and_nothing_ends_before_the_charge(gateway: InProcess) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(ROLE)
    await asyncio.sleep(0)
    assert not stream.has_begun
    upstream.send(chunk("Hel"))
    await stream.begun()
    assert [event["choices"][0]["delta"] for event in events(stream.client.received)] == [
        {"role": "assistant"},
        {"content": "Hel"},
    ]
    upstream.send(chunk("lo")[:40])
    before = bytes(stream.client.received)
    upstream.send(chunk("lo")[40:] + STOP + REPORT)
    assert len(events(stream.client.received)) == len(events(before)) + 2
    upstream.send(DONE)
    assert await stream.ended() is None
    *_, usage, done = events(stream.client.received)
    receipt = stream.call.receipt
    assert receipt is not None
    assert usage["usage"] == USAGE | {
        "tok0n": {"reserved": receipt.reserved, "charged": 12, "available": 1_000_000 - 12}
    }
    assert done == "[DONE]"
    assert {event["model"] for event in events(stream.client.received)[:-1]} == {"demo"}
    assert await charged(gateway) == [("SETTLED", 12, None)]
    assert (stream.call.client_left, stream.answer.body.is_complete) == (False, True)


async def test_nothing_begins_before_the_reservation_however_long_it_takes(
    gateway: InProcess, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reservation.__aenter__
    database_is_back = asyncio.Event()

    async def reserve_late(reservation: Reservation) -> Reservation:
        await database_is_back.wait()
        return await reserve(reservation)

    monkeypatch.setattr(Reservation, "__aenter__", reserve_late)
    stream = Stream(gateway)
    async with asyncio.timeout(10):
        while not len(gateway.streams):
            await asyncio.sleep(0)
    clock.advance(60)
    await gateway.streams.check()
    await asyncio.sleep(0)
    assert not stream.has_begun
    database_is_back.set()
    async with asyncio.timeout(10):
        (await gateway.upstream.next_stream()).send(ROLE + STOP + REPORT + DONE)
        assert await stream.ended() is None
    assert await charged(gateway) == [("SETTLED", 12, None)]


COMPLETE = {
    "done": lambda upstream: upstream.send(DONE),
    "clean end": lambda upstream: upstream.end(),
    "reset": lambda upstream: upstream.end(BROKEN),
    "error": lambda upstream: upstream.send(b'data: {"error":{"message":"late"}}\n\n'),
    "garbage": lambda upstream: upstream.send(b"data: {{{\n\n"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ending", COMPLETE)
async def test_a_complete_answer_is_charged_whatever_follows(tmp_path: Path, engine: str, ending: str) -> None:
    async with in_process(tmp_path, FakeUpstream(), engine=engine, make_reader=StreamingReader) as gateway:
        stream, upstream = await opened(gateway)
        upstream.send(ROLE + chunk("Hi") + STOP + REPORT)
        COMPLETE[ending](upstream)
        assert await stream.ended() is None
        assert stream.client.received.endswith(DONE)
        assert await charged(gateway) == [("SETTLED", 12, None)]
        assert upstream.is_left


async def test_silence_after_a_complete_answer_ends_it_after_five_seconds(gateway: InProcess, clock: FakeClock) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi") + STOP + REPORT)
    await stream.begun()
    for _ in range(5):
        await gateway.streams.check()
        assert not stream.answer.task.done()
        clock.advance(1)
        upstream.send(b": a comment\n\n")
    await gateway.streams.check()
    assert await stream.ended() is None
    assert await charged(gateway) == [("SETTLED", 12, None)]


INCOMPLETE = {
    "reset": lambda upstream: upstream.end(BROKEN),
    "clean end": lambda upstream: upstream.end(),
    "error": lambda upstream: upstream.send(b'data: {"error":{"message":"overloaded","code":500}}\n\n'),
    "no usage": lambda upstream: upstream.send(STOP + DONE),
    "garbage": lambda upstream: upstream.send(b"data: {{{\n\n"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ending", INCOMPLETE)
@pytest.mark.parametrize("content", [b"", chunk("Hi")], ids=["held", "begun"])
async def test_an_incomplete_answer_costs_nothing(tmp_path: Path, engine: str, ending: str, content: bytes) -> None:
    async with in_process(tmp_path, FakeUpstream(), engine=engine, make_reader=StreamingReader) as gateway:
        stream, upstream = await opened(gateway)
        upstream.send(ROLE + content)
        INCOMPLETE[ending](upstream)
        if content or ending == "no usage":  # the end of a choice ends the hold
            error = await stream.ended()
            assert isinstance(error, UpstreamFailed)
            *_, last = events(stream.client.received)
            assert last["error"]["code"] == "upstream_error"
            assert not stream.answer.body.is_complete
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
    gateway: InProcess, answer: Any, status: int, error: type[Tok0nError]
) -> None:
    gateway.upstream.answer, gateway.upstream.stream_status = answer, status
    with pytest.raises(error):
        await Stream(gateway).begun()
    assert await charged(gateway) == [("RELEASED", 0, error.code)]


async def test_the_beginning_is_held_for_ten_seconds(gateway: InProcess, clock: FakeClock) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(ROLE)
    clock.advance(9)
    await gateway.streams.check()
    await asyncio.sleep(0)
    assert not stream.has_begun
    clock.advance(1)
    await gateway.streams.check()
    await stream.begun()
    assert len(events(stream.client.received)) == 1
    upstream.send(b'data: {"error":{"message":"bad","code":400}}\n\n')
    assert await stream.ended() is not None
    assert "error" in events(stream.client.received)[-1]


async def test_a_client_gets_a_comment_every_fifteen_seconds_until_the_upstream_is_silent_for_too_long(
    gateway: InProcess, clock: FakeClock
) -> None:
    gateway.upstream.stream_idle_seconds = 60
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi"))
    await stream.begun()
    received = len(stream.client.received)
    for _ in range(59):
        clock.advance(1)
        upstream.send(b": comments don't count\n\n")
        await gateway.streams.check()
    assert stream.client.received[received:] == KEEP_ALIVE * 3
    for _ in range(3):
        clock.advance(1)
        await gateway.streams.check()
    error = await stream.ended()
    assert isinstance(error, UpstreamFailed)
    assert await charged(gateway) == [("RELEASED", 0, "upstream_error")]


async def test_a_client_that_leaves_pays_for_the_whole_answer(gateway: InProcess) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi"))
    await stream.begun()
    stream.answer.body.leave()
    received = bytes(stream.client.received)
    assert gateway.limiter.running
    upstream.send(chunk("there") + STOP + REPORT + DONE)
    assert await stream.ended() is None
    assert stream.client.received == received
    assert stream.call.client_left
    assert await charged(gateway) == [("SETTLED", 12, None)]


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
    gateway: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(_: Any) -> "asyncio.Future[None]":
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(AccountingFailed(upstream_called=True, detail="the disk is full"))
        return failed

    monkeypatch.setattr("tok0n.services.reservations.SETTLE_PAUSES_SECONDS", (0, 0))
    monkeypatch.setattr(gateway.db.ledger, "settle", settle)
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi") + STOP + REPORT + DONE)
    assert isinstance(await stream.ended(), AccountingFailed)
    assert events(stream.client.received)[-1]["error"]["code"] == "api_error"
    assert await charged(gateway) == [("RELEASED", 0, "api_error")]


@pytest.mark.parametrize("sent", [b"", chunk("Hi"), chunk("Hi") + STOP + REPORT], ids=["held", "begun", "complete"])
async def test_a_server_that_stops_charges_only_what_is_complete(gateway: InProcess, sent: bytes) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(sent)
    (relay,) = (task for task in asyncio.all_tasks() if task.get_name() == "stream")
    await asyncio.sleep(0)
    relay.cancel()
    if not sent:
        with pytest.raises(ServerStopped):
            await stream.begun()
        assert await charged(gateway) == [("RELEASED", 0, "cancelled")]
    elif REPORT in sent:
        assert await stream.ended() is None
        assert await charged(gateway) == [("SETTLED", 12, None)]
    else:
        assert isinstance(await stream.ended(), ServerStopped)
        assert "stopped" in events(stream.client.received)[-1]["error"]["message"]
        assert await charged(gateway) == [("RELEASED", 0, "cancelled")]


async def test_too_many_streams_are_rejected_before_they_use_up_a_limit(gateway: InProcess) -> None:
    streams = [await opened(gateway) for _ in range(3)]
    with pytest.raises(Overloaded):
        await Stream(gateway).begun()
    assert len(await charged(gateway)) == 3
    for stream, upstream in streams:
        upstream.send(chunk("Hi") + STOP + REPORT + DONE)
        await stream.ended()
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi") + STOP + REPORT + DONE)
    await stream.ended()
