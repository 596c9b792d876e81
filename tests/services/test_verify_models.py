"""A model is sold only when a real completion showed that its usage can be charged by."""

from pathlib import Path

import msgspec
import pytest

from support.fakes import ANSWER, FakeClock, FakeUpstream
from support.gateways import MODEL
from support.ledgers import Opened, open_engine
from support.limiters import make_limiter
from tok0n.domain.catalogue import VERIFICATION_PROMPT, ModelState
from tok0n.domain.errors import RateLimited, UpstreamFailed
from tok0n.ports import UpstreamAnswer
from tok0n.services.catalogue import Catalogue
from tok0n.services.housekeeping import Housekeeping
from tok0n.services.reserving import Reservations
from tok0n.services.verify_models import VerifyModels

pytestmark = pytest.mark.anyio


def verifier(db: Opened, upstream: FakeUpstream, *, per_minute: int = 55, timeout_seconds: float = 5) -> VerifyModels:
    clock = FakeClock()
    return VerifyModels(
        models=db.models,
        upstreams={"fake": upstream},
        limiter=make_limiter(clock, upstream=per_minute),
        clock=clock,
        timeout_seconds=timeout_seconds,
    )


def answer(old: bytes, new: bytes) -> UpstreamAnswer:
    assert old in ANSWER
    return UpstreamAnswer(status=200, body=ANSWER.replace(old, new))


async def verify(tmp_path: Path, upstream: FakeUpstream, **more: float) -> ModelState:
    async with open_engine("sqlite", tmp_path) as db:
        return await verifier(db, upstream, **more)(MODEL)  # type: ignore[arg-type]


async def test_a_good_answer_passes_every_check(tmp_path: Path) -> None:
    upstream = FakeUpstream()
    state = await verify(tmp_path, upstream)
    assert state.checks == {"answered": True, "shape_and_usage": True, "output_limit": True, "bound": True}
    assert state.verified_at_us is not None
    sent = msgspec.json.decode(upstream.bodies[0])
    assert sent["messages"] == [{"role": "user", "content": VERIFICATION_PROMPT}]
    assert (sent["model"], sent["max_completion_tokens"]) == ("upstream-demo", 16)


@pytest.mark.parametrize(
    ("given", "failing", "words"),
    [
        (UpstreamFailed("It failed.", detail="refused", reached=False), "answered", "refused"),
        (UpstreamAnswer(status=404, body=b"{}"), "shape_and_usage", "status 404"),
        (answer(b'"total_tokens":12', b'"total_tokens":11'), "shape_and_usage", "impossible usage"),
        (
            answer(b'"completion_tokens":3,"total_tokens":12', b'"completion_tokens":17,"total_tokens":26'),
            "output_limit",
            "17 completion tokens",
        ),
        (
            answer(b'"prompt_tokens":9,"completion_tokens":3,"total_tokens":12', b'"prompt_tokens":9000,'
                   b'"completion_tokens":3,"total_tokens":9003'),
            "bound",
            "9003 tokens used",
        ),
    ],
)  # fmt: skip
async def test_each_failing_check_is_named(
    tmp_path: Path, given: UpstreamAnswer | UpstreamFailed, failing: str, words: str
) -> None:
    state = await verify(tmp_path, FakeUpstream(given))
    assert state.checks[failing] is False
    assert words in state.detail
    assert (state.verified_at_us, state.consecutive_failures) == (None, 1)


async def test_an_answer_that_comes_too_late_is_none(tmp_path: Path) -> None:
    state = await verify(tmp_path, FakeUpstream(), timeout_seconds=0)
    assert (state.checks["answered"], state.detail) == (False, "no answer within 0 s")


async def test_verifying_takes_a_global_slot_and_waits_for_one(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        verify_models = verifier(db, FakeUpstream(), per_minute=1)
        await verify_models(MODEL)
        with pytest.raises(RateLimited):
            await verify_models(MODEL)
        assert (await db.models.states())["demo"].consecutive_failures == 0


async def test_housekeeping_verifies_what_is_due_and_lists_it(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        clock = FakeClock()
        upstream = FakeUpstream()
        catalogue = Catalogue({"demo": MODEL}, db.models)
        await catalogue.refresh()
        housekeeping = Housekeeping(
            ledger=db.ledger,
            reservations=Reservations(db.ledger, clock),
            catalogue=catalogue,
            verify_models=verifier(db, upstream),
            clock=clock,
            verify_interval_us=3_600_000_000,
        )
        assert catalogue.find("demo") is None
        await housekeeping.verify_due()
        assert catalogue.find("demo") == MODEL
        await housekeeping.verify_due()
        assert len(upstream.bodies) == 1, "once is enough for the interval"
        clock.advance(3600)
        await housekeeping.verify_due()
        assert len(upstream.bodies) == 2
