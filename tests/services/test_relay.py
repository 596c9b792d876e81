"""Every ending of a stream: what the client sees, what is charged, and what the receipt says."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.fakes import FakeClock, FakeStream, FakeUpstream
from support.gateways import InProcess, in_process
from support.ledgers import ENGINES
from support.streaming import DONE, REPORT, ROLE, STOP, USAGE, Stream, StreamingReader, charged, chunk, events
from tok0n.domain.errors import (
    AccountingFailed,
    Overloaded,
    RejectedByUpstream,
    ServerStopped,
    Tok0nError,
    UpstreamFailed,
)
from tok0n.domain.ledger import Balance, NewReservation
from tok0n.ports.upstream import UpstreamResponse
from tok0n.services.relay import KEEP_ALIVE, UNREAD_BYTES_MAX
from tok0n.services.streams import StreamLimits

pytestmark = pytest.mark.anyio

BROKEN = UpstreamFailed("The upstream provider closed the connection.", detail="reset", outcome_unknown=True)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def gateway(tmp_path: Path, clock: FakeClock) -> AsyncIterator[InProcess]:
    limits = StreamLimits(streams_max=3, hold_seconds=10, unread_bytes_max=4 * 2**20)
    async with in_process(
        tmp_path, FakeUpstream(), clock=clock, make_reader=StreamingReader, stream_limits=limits
    ) as gateway:
        yield gateway
        assert await gateway.pending() == 0
        assert gateway.limiter.running == {}
        assert len(gateway.streams) == 0
        assert (await gateway.db.ledger.audit()).ok


async def opened(gateway: InProcess) -> tuple[Stream, FakeStream]:
    """Ask for a stream. Returns it with its upstream's side."""
    stream = Stream(gateway)
    return stream, await gateway.upstream.next_stream()


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


async def test_a_response_does_not_begin_before_the_request_is_reserved(
    gateway: InProcess, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve, gate = gateway.db.ledger.reserve, asyncio.Event()

    def reserve_late(reservation: NewReservation) -> "asyncio.Future[Balance]":
        async def reserving() -> Balance:
            await gate.wait()
            return await reserve(reservation)

        return asyncio.ensure_future(reserving())

    monkeypatch.setattr(gateway.db.ledger, "reserve", reserve_late)
    stream = Stream(gateway)
    while not len(gateway.streams):
        await asyncio.sleep(0)
    clock.advance(20)
    await gateway.streams.check()
    await asyncio.sleep(0)
    assert not stream.has_begun
    gate.set()
    upstream = await gateway.upstream.next_stream()
    upstream.send(chunk("Hi") + STOP + REPORT + DONE)
    assert await stream.ended() is None


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


async def test_a_client_that_stops_reading_is_dropped_at_its_limit_and_pays(gateway: InProcess) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(chunk("x" * 2 * UNREAD_BYTES_MAX))  # held events don't count
    await stream.begun()
    stream.client.is_reading = False
    sent = 0
    while sent < UNREAD_BYTES_MAX:
        assert not stream.answer.body.has_left
        upstream.send(chunk("x" * 100_000))
        sent += 100_000
    upstream.send(chunk("x" * 100_000) * 2)
    assert (stream.client.is_reset, stream.answer.body.has_left) == (True, True)
    upstream.send(STOP + REPORT + DONE)
    assert await stream.ended() is None
    assert await charged(gateway) == [("SETTLED", 12, None)]
    assert stream.call.client_left


async def test_past_the_total_the_slowest_reader_is_dropped(gateway: InProcess, clock: FakeClock) -> None:
    streams = [await opened(gateway) for _ in range(3)]
    for stream, upstream in streams:
        upstream.send(chunk("Hi"))
        await stream.begun()
    for _ in range(25):
        clock.advance(1)
        for (_, upstream), size in zip(streams, (3_000, 100, 2_000), strict=True):
            upstream.send(chunk("x" * size))
        await gateway.streams.check()
    for stream, _ in streams:
        stream.client.is_reading = False
    for _, upstream in streams:
        upstream.send(chunk("x" * (3 * 2**19)))  # one event may be larger than a stream's limit
    assert [stream.client.is_reset for stream, _ in streams] == [False, True, False]
    for stream, upstream in streams:
        upstream.send(STOP + REPORT + DONE)
        assert await stream.ended() is None
    assert {charge for _, charge, _ in await charged(gateway)} == {12}


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_client_without_progress_for_a_minute_is_dropped(
    gateway: InProcess, clock: FakeClock, *, is_done: bool
) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi"))
    await stream.begun()
    stream.client.is_reading = False
    upstream.send(chunk("x") + (STOP + REPORT + DONE if is_done else b""))
    for _ in range(60):
        await gateway.streams.check()
        assert not stream.client.is_reset
        clock.advance(1)
    await gateway.streams.check()
    assert stream.client.is_reset
    if not is_done:
        upstream.send(STOP + REPORT + DONE)
    assert await stream.ended() is None
    assert await charged(gateway) == [("SETTLED", 12, None)]


async def test_a_client_that_reads_a_byte_a_second_is_dropped_once_the_upstream_is_done(
    gateway: InProcess, clock: FakeClock
) -> None:
    stream, upstream = await opened(gateway)
    upstream.send(chunk("Hi"))
    await stream.begun()
    stream.client.is_reading = False
    upstream.send(chunk("x" * 500_000) + STOP + REPORT + DONE)
    await stream.answer.task
    body = stream.answer.body
    for _ in range(61):
        clock.advance(1)
        taken = body.take()
        stream.client.received += taken[:1]
        body.waiting_bytes = len(taken) - 1
        body._waiting.append(taken[1:])
        await gateway.streams.check()
    assert stream.client.is_reset
    assert await charged(gateway) == [("SETTLED", 12, None)]
