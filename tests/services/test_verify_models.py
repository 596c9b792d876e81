"""A model is sold only when a real completion showed that its usage can be charged by."""

from pathlib import Path

import msgspec
import pytest

from support.fakes import ANSWER, FakeClock, FakeUpstream
from support.gateways import MODEL
from support.ledgers import Opened, open_engine, schema
from support.limiters import make_limiter
from tok0n.domain.catalogue import VERIFICATION_PROMPT, ModelState
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import RateLimited, UpstreamFailed
from tok0n.ports.upstream import UpstreamResponse
from tok0n.services.catalogue import Catalogue
from tok0n.services.housekeeping import Housekeeping
from tok0n.services.reservations import Reservations
from tok0n.services.verify_models import VerifyModels, output_limits

pytestmark = pytest.mark.anyio


REASONING = msgspec.structs.replace(MODEL, max_output_tokens=10_000)


def verifier(db: Opened, upstream: FakeUpstream, *, per_minute: int = 55, timeout_seconds: float = 5) -> VerifyModels:
    clock = FakeClock()
    return VerifyModels(
        endpoints=[CHAT],
        models=db.models,
        upstreams={"fake": upstream},
        limiter=make_limiter(clock, upstream=per_minute),
        clock=clock,
        timeout_seconds=timeout_seconds,
    )


def answer(old: bytes, new: bytes) -> UpstreamResponse:
    assert old in ANSWER
    return UpstreamResponse(status=200, body=ANSWER.replace(old, new))


async def verify(tmp_path: Path, upstream: FakeUpstream, **more: float) -> ModelState:
    async with open_engine("sqlite", tmp_path) as db:
        return await verifier(db, upstream, **more).verify(MODEL)  # type: ignore[arg-type]


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
        (UpstreamResponse(status=404, body=b"{}"), "shape_and_usage", "status 404"),
        (answer(b'"total_tokens":12', b'"total_tokens":11'), "shape_and_usage", "impossible usage"),
        (
            answer(b'"completion_tokens":3,"total_tokens":12', b'"completion_tokens":17,"total_tokens":26'),
            "output_limit",
            "17 tokens beyond the prompt",
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
    tmp_path: Path, given: UpstreamResponse | UpstreamFailed, failing: str, words: str
) -> None:
    state = await verify(tmp_path, FakeUpstream(given))
    assert state.checks[failing] is False
    assert words in state.detail
    assert (state.verified_at_us, state.consecutive_failures) == (None, 1)


def reasoned(completion: int, *, reasoning: int, total: int | None = None, says: bytes = b"null") -> UpstreamResponse:
    """An answer cut by its output limit."""
    usage = (
        b'"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d,"completion_tokens_details":{"reasoning_tokens":%d}'
        % (completion, 9 + completion if total is None else total, reasoning)
    )
    body = ANSWER.replace(b'"Hello."', says).replace(b'"finish_reason":"stop"', b'"finish_reason":"length"')
    return UpstreamResponse(
        status=200, body=body.replace(b'"prompt_tokens":9,"completion_tokens":3,"total_tokens":12', usage)
    )


def rejects(message: str, **more: object) -> UpstreamResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more
    return UpstreamResponse(status=400, body=msgspec.json.encode({"error": error}))


USED_UP = {
    "OpenAI, 2025": rejects(
        "Could not finish the message because max_tokens or model output limit was reached. Please try again with"
        " higher max_tokens."
    ),
    "Anthropic": rejects("`max_tokens` must be greater than `thinking.budget_tokens`."),
    "below a minimum": rejects("Invalid 'max_completion_tokens': integer below minimum value. Got 16."),
    "content null": reasoned(16, reasoning=0),
    "content empty": reasoned(16, reasoning=10, says=b'""'),
}


@pytest.mark.parametrize("name", USED_UP)
async def test_a_model_whose_reasoning_uses_up_the_limit_is_tried_with_more(name: str, tmp_path: Path) -> None:
    upstream = FakeUpstream(USED_UP[name])
    async with open_engine("sqlite", tmp_path) as db:
        verify_models = verifier(db, upstream)
        state = await verify_models.verify(REASONING)
        limits = [msgspec.json.decode(body)["max_completion_tokens"] for body in upstream.bodies]
        assert limits == [16, 256, 2048]
        assert (state.verified_at_us is not None) == (upstream.answer.status == 200)  # type: ignore[union-attr]
        assert len(await db.rows(schema.operator_request)) == 3, "each attempt is a row of its own"
        upstream.answers = [USED_UP[name], reasoned(200, reasoning=150, says=b'"OK"')]
        state = await verify_models.verify(REASONING)
        assert (state.consecutive_failures, state.detail) == (0, "")
        assert len(upstream.bodies) == 5
        assert (await verify_models.verify_if_unclaimed(REASONING)) is not None


async def test_reasoning_that_took_the_whole_limit_is_tried_with_more(tmp_path: Path) -> None:
    upstream = FakeUpstream(reasoned(16, reasoning=16, says=b'"Hel"'))
    async with open_engine("sqlite", tmp_path) as db:
        state = await verifier(db, upstream).verify(REASONING)
    assert (len(upstream.bodies), state.consecutive_failures) == (2, 0)


@pytest.mark.parametrize(
    ("first", "most", "limits"),
    [
        (16, 5000, [16, 256, 2048]),
        (16, 1000, [16, 256, 1000]),
        (16, 256, [16, 256]),
        (16, 10, [10]),
        (300, 5000, [300, 2048]),
        (4096, 5000, [4096]),
        (4096, 2048, [2048]),
    ],
)
def test_the_limits_that_are_tried_ascend_to_the_models_own(first: int, most: int, limits: list[int]) -> None:
    model = msgspec.structs.replace(MODEL, verify_output_tokens=first, max_output_tokens=most)
    assert output_limits(model) == limits


@pytest.mark.parametrize("answer", [reasoned(150, reasoning=140), reasoned(16, reasoning=0, total=159)])
async def test_use_beyond_the_limit_fails_and_names_the_setting_that_allows_it(
    answer: UpstreamResponse, tmp_path: Path
) -> None:
    upstream = FakeUpstream(answer)
    state = await verify(tmp_path, upstream)
    assert state.checks["output_limit"] is False
    assert "set reasoning_tokens_max of this model to at least 134 (now 0)" in state.detail
    assert len(upstream.bodies) == 1, "a larger limit would hide it"
    for allowed, passes in ((133, False), (134, True)):
        model = msgspec.structs.replace(MODEL, reasoning_tokens_max=allowed)
        async with open_engine("sqlite", tmp_path) as db:
            state = await verifier(db, FakeUpstream(answer)).verify(model)
        assert state.checks["output_limit"] is passes


async def test_an_answer_that_comes_too_late_is_none(tmp_path: Path) -> None:
    state = await verify(tmp_path, FakeUpstream(), timeout_seconds=0)
    assert (state.checks["answered"], state.detail) == (False, "no response within 0 s")


async def test_verifying_takes_a_global_slot_and_waits_for_one(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        verify_models = verifier(db, FakeUpstream(), per_minute=1)
        await verify_models.verify(MODEL)
        with pytest.raises(RateLimited):
            await verify_models.verify(MODEL)
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
