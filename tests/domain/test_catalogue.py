"""When a model is listed, and when it is verified again."""

import msgspec
import pytest

from support.models import make_model
from tok0n.domain.catalogue import ModelState, Verification, is_due, is_listed

MODEL = make_model(max_output_tokens=10, default_output_tokens=10)
MINUTE_US = 60_000_000
DAY_US = 24 * 60 * MINUTE_US


def after(*results: bool) -> ModelState:
    state = ModelState(id="m")
    for number, passed in enumerate(results, start=1):
        state = state.after(
            Verification(
                model="m",
                fingerprint=MODEL.fingerprint,
                checked_at_us=number,
                checks={"answered": passed},
                latency_ms=1,
            )
        )
    return state


@pytest.mark.parametrize(
    ("results", "listed"),
    [
        ("", False),
        ("+", True),
        ("-", False),
        ("+--", True),
        ("+---", False),
        ("+--+--", True),
        ("+---+", True),
        ("--+", True),
    ],
)
def test_the_third_failure_in_a_row_unlists_and_a_pass_lists(results: str, *, listed: bool) -> None:
    assert is_listed(MODEL, after(*(result == "+" for result in results))) is listed


def test_a_disabled_model_is_not_listed() -> None:
    assert not is_listed(MODEL, msgspec.structs.replace(after(True), enabled=False))


@pytest.mark.parametrize("change", [{"upstream_model": "x"}, {"upstream_url": "x"}, {"upstream": "x"}])
def test_another_upstream_behind_the_id_voids_the_verification(change: dict[str, str]) -> None:
    route = msgspec.structs.replace(MODEL.routes[0], **change)
    changed = msgspec.structs.replace(MODEL, routes=(route,))
    assert not is_listed(changed, after(True))
    assert is_due(changed, after(True), now_us=2, interval_us=DAY_US)


def test_what_was_never_verified_is_due_and_what_passed_is_due_after_the_interval() -> None:
    assert is_due(MODEL, ModelState(id="m"), now_us=0, interval_us=DAY_US)
    assert not is_due(MODEL, after(True), now_us=DAY_US, interval_us=DAY_US)
    assert is_due(MODEL, after(True), now_us=DAY_US + 1, interval_us=DAY_US)
    assert not is_due(MODEL, ModelState(id="m", enabled=False), now_us=0, interval_us=DAY_US)


def test_a_failing_model_is_tried_again_ever_more_rarely_but_at_least_daily() -> None:
    for failures, pause_us in ((1, MINUTE_US), (2, 2 * MINUTE_US), (5, 16 * MINUTE_US), (40, DAY_US)):
        state = after(*([False] * failures))
        assert not is_due(MODEL, state, now_us=failures + pause_us - 1, interval_us=DAY_US)
        assert is_due(MODEL, state, now_us=failures + pause_us, interval_us=DAY_US)
