"""A stream that is cancelled at any await, by a client that leaves or a server that stops, holds nothing afterwards."""

import asyncio
import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest

from support.cancelling import CancelAt, cancelled_at_each_await
from support.endpoint_cases import STREAMS, EndpointCase, parse_events
from support.fakes import FakeClock, FakeStream, FakeUpstream
from support.gateways import InProcess, in_process
from support.ledgers import ENGINES, schema
from support.limiters import KINDS, open_limiter, slots
from support.streaming import Client, streaming_reader
from tok0n.domain.errors import Tok0nError, UpstreamFailed
from tok0n.services.pipeline import Pipeline
from tok0n.services.relay import StreamedAnswer

pytestmark = pytest.mark.anyio

SETUPS = [
    pytest.param(kind, engine, case, id=f"{kind}-{engine}-{case.name}")
    for case in STREAMS
    for kind, engine in itertools.product(KINDS, ENGINES)
    if case is STREAMS[0] or (kind, engine) in {("memory", "sqlite"), ("redis", "postgres")}
]
"""One endpoint with each limiter on each engine, the others with each limiter and each engine."""

BROKEN = UpstreamFailed("The upstream provider closed the connection.", detail="reset", outcome_unknown=True)


class AnsweringUpstream(FakeUpstream):
    """Sends a whole stream as soon as one is read, piece by piece. A broken one fails after its first content."""

    def __init__(self, case: EndpointCase, *, is_broken: bool) -> None:
        super().__init__()
        self.case = case
        self.is_broken = is_broken
        self.answering: set[asyncio.Task[None]] = set()

    def stream(self, *arguments: Any, **options: Any) -> Any:
        task = asyncio.create_task(self._answer())
        self.answering.add(task)
        task.add_done_callback(self.answering.discard)
        return super().stream(*arguments, **options)

    async def _answer(self) -> None:
        stream: FakeStream = await self.next_stream()
        pieces = self.case.streaming
        ends = [] if self.is_broken else [pieces.complete, pieces.terminal]
        for piece in (pieces.beginning, pieces.content("Hi"), *filter(None, ends)):
            await asyncio.sleep(0)
            stream.send(piece)
        if self.is_broken:
            stream.end(BROKEN)

    async def idle(self) -> None:
        """Stop waiting for streams that were never asked for."""
        for task in self.answering:
            task.cancel()
        await asyncio.gather(*self.answering, return_exceptions=True)
        self.streams.clear()


async def call(gateway: InProcess, case: EndpointCase) -> StreamedAnswer:
    new = gateway.pipeline.new_call(case.name)
    caller = await gateway.pipeline.authenticate(new, gateway.authorization)
    answer = await gateway.pipeline.serve(case.endpoint, new, caller, case.body(is_stream=True))
    assert isinstance(answer, StreamedAnswer)
    return answer


async def check_nothing_is_held(gateway: InProcess, clock: FakeClock) -> list[dict[str, Any]]:
    """Assert that nothing is reserved, admitted or open. Returns the request rows."""
    async with asyncio.timeout(20):
        while "stream" in {task.get_name() for task in asyncio.all_tasks()}:
            await asyncio.sleep(0)
    assert isinstance(gateway.upstream, AnsweringUpstream)
    await gateway.upstream.idle()
    rows = await gateway.db.rows(schema.request)
    assert {row["status"] for row in rows} <= {"SETTLED", "RELEASED"}
    assert await gateway.pending() == 0
    assert len(gateway.streams) == 0
    (account,) = await gateway.db.rows(schema.account)
    assert await slots(gateway.limiter, clock, account["id"]) == (0, sum(row["dispatched"] for row in rows))
    await gateway.db.store.probe()
    return rows


@pytest.mark.parametrize(("kind", "engine", "case"), SETUPS)
@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
async def test_a_stream_whose_handler_is_cancelled_at_any_await_goes_on_and_is_charged(
    tmp_path: Path, kind: str, engine: str, case: EndpointCase, *, is_broken: bool
) -> None:
    clock = FakeClock()
    upstream = AnsweringUpstream(case, is_broken=is_broken)
    async with (
        open_limiter(kind, clock, key=10**6, user=1, upstream=10**6) as limiter,
        in_process(
            tmp_path, upstream, clock=clock, limiter=limiter, engine=engine, make_reader=streaming_reader
        ) as gateway,
    ):
        rows: list[dict[str, Any]] = []
        async for run in cancelled_at_each_await(lambda: call(gateway, case)):
            if not run.cancelled():
                run.result().body.leave()
            before, rows = rows, await check_nothing_is_held(gateway, clock)
            assert [row["charged"] for row in rows if row not in before] in ([], [0 if is_broken else case.charged])
        assert len(rows) > 1
        assert await gateway.posted() == 1_000_000 - sum(row["charged"] for row in rows)
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize(("kind", "engine", "case"), SETUPS)
@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
async def test_a_stream_that_is_cancelled_at_any_await_tells_its_client_truly_whether_it_was_charged(
    tmp_path: Path, kind: str, engine: str, case: EndpointCase, monkeypatch: pytest.MonkeyPatch, *, is_broken: bool
) -> None:
    clock = FakeClock()
    upstream = AnsweringUpstream(case, is_broken=is_broken)
    admitted = Pipeline._admit_reserve_and_call
    at: CancelAt

    async def cancelled(*arguments: Any) -> Any:
        nonlocal at
        at = CancelAt(admitted(*arguments), n)
        return await at

    monkeypatch.setattr(Pipeline, "_admit_reserve_and_call", cancelled)
    async with (
        open_limiter(kind, clock, key=10**6, user=1, upstream=10**6) as limiter,
        in_process(
            tmp_path, upstream, clock=clock, limiter=limiter, engine=engine, make_reader=streaming_reader
        ) as gateway,
    ):
        rows: list[dict[str, Any]] = []
        for n in itertools.count(1):
            client = Client()
            with contextlib.suppress(Tok0nError):
                answer = await call(gateway, case)
                answer.body.attach(client)
                client.received += answer.body.take()
                await answer.task
                client.received += answer.body.take()
                answer.body.close()
            before, rows = rows, await check_nothing_is_held(gateway, clock)
            is_charged = any(row["charged"] for row in rows if row not in before)
            assert any(map(case.streaming.is_end, parse_events(client.received))) is is_charged
            if at.suspensions < n:
                break
        assert n > 3, "admission or reservation, upstream, settlement or release"
        assert is_charged is not is_broken
        assert (await gateway.db.ledger.audit()).ok
