"""The fixtures that the tests of payments share, and those that the tests of streams share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fake_payments import Shop
from support.fakes import FakeClock, FakeUpstream
from support.gateways import InProcess, in_process
from support.ledgers import ENGINES, open_engine
from support.streaming import streaming_reader
from tok0n.services.streams import StreamLimits


@pytest.fixture(params=ENGINES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_engine(request.param, tmp_path) as db:
        yield Shop(db)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def gateway(tmp_path: Path, clock: FakeClock) -> AsyncIterator[InProcess]:
    limits = StreamLimits(streams_max=3, hold_seconds=10, unread_bytes_max=5 * 2**20)
    async with in_process(
        tmp_path, FakeUpstream(), clock=clock, make_reader=streaming_reader, stream_limits=limits
    ) as gateway:
        yield gateway
        assert await gateway.pending() == 0
        assert gateway.limiter.running == {}
        assert len(gateway.streams) == 0
        assert (await gateway.db.ledger.audit()).ok
