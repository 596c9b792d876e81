"""A client that reads slowly, or not at all, is dropped in the end, and pays for its stream as any other."""

import pytest

from support.endpoint_cases import DONE, REPORT, STOP, chunk
from support.fakes import FakeClock
from support.gateways import InProcess
from support.streaming import charged, opened
from tok0n.services.relay import UNREAD_BYTES_MAX

pytestmark = pytest.mark.anyio


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
