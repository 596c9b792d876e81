"""Which models the operator enables and verifies, and what each report says about them."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from support.fakes import FakeClock, FakeUpstream
from support.gateways import MODEL
from support.ledgers import Opened, open_engine
from support.limiters import make_limiter
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import NotFound, UpstreamFailed
from tok0n.ports.upstream import UpstreamResponse
from tok0n.services import verify_models
from tok0n.services.catalogue import Catalogue
from tok0n.services.verify_models import CONCURRENT_MAX, VerifyModels

pytestmark = pytest.mark.anyio

MANY = [msgspec.structs.replace(MODEL, id=f"m{number}") for number in range(CONCURRENT_MAX + 4)]


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine("sqlite", tmp_path) as opened:
        yield opened


def verifier(db: Opened, upstream: FakeUpstream) -> VerifyModels:
    clock = FakeClock()
    return VerifyModels(
        endpoints=[CHAT],
        models=db.models,
        upstreams={"fake": upstream},
        limiter=make_limiter(clock, upstream=1_000),
        clock=clock,
        timeout_seconds=5,
    )


async def test_an_enabled_model_is_listed_once_it_is_verified(db: Opened) -> None:
    catalogue = Catalogue({MODEL.id: MODEL}, db.models)
    report = await catalogue.set_enabled(MODEL.id, enabled=True)
    assert (report.enabled, report.verified, report.listed) == (True, False, False)
    assert (await verifier(db, FakeUpstream()).verify(MODEL)).passed
    await catalogue.refresh()
    assert [report.listed for report in catalogue.reports()] == [True]


async def test_a_disabled_model_is_not_listed_at_once_and_stays_verified(db: Opened) -> None:
    catalogue = Catalogue({MODEL.id: MODEL}, db.models)
    await verifier(db, FakeUpstream()).verify(MODEL)
    report = await catalogue.set_enabled(MODEL.id, enabled=False)
    assert (report.enabled, report.verified, report.listed) == (False, True, False)
    assert catalogue.find(MODEL.id) is None


async def test_only_declared_models_are_enabled_or_verified(db: Opened) -> None:
    catalogue = Catalogue({model.id: model for model in MANY}, db.models)
    assert catalogue.declared_models() == MANY
    assert catalogue.declared_models(["m2", "m1"]) == [MANY[2], MANY[1]]
    with pytest.raises(NotFound, match="declare no model 'x'"):
        catalogue.declared_models(["m1", "x"])
    with pytest.raises(NotFound):
        await catalogue.set_enabled("x", enabled=True)
    assert await db.models.states() == {}


async def test_many_models_are_verified_in_order_and_a_few_at_once(db: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_models, "CONCURRENT_MAX", 2)
    running, most = 0, 0

    class CountingUpstream(FakeUpstream):
        async def send(self, path: str, body: bytes, *, headers: Sequence[tuple[str, str]] = ()) -> UpstreamResponse:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return await super().send(path, body)
            finally:
                running -= 1

    states = await verifier(db, CountingUpstream()).verify_all(MANY)
    assert [state.id for state in states] == [model.id for model in MANY]
    assert all(state.passed for state in states)
    assert most == 2


async def test_a_model_that_failed_or_was_never_verified_has_not_passed(db: Opened) -> None:
    failure = UpstreamFailed("It failed.", detail="refused", reached=False)
    (state,) = await verifier(db, FakeUpstream(failure)).verify_all([MODEL])
    assert not state.passed
    assert not Catalogue({MODEL.id: MODEL}, db.models).reports()[0].state.passed
