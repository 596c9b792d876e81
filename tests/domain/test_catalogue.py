"""When a model is listed, and when it is verified again."""

from collections.abc import Sequence

import msgspec
import pytest

from support.models import make_model
from tok0n.domain.catalogue import (
    EndpointCheck,
    Model,
    ModelState,
    StreamCheck,
    StreamState,
    Verification,
    as_listed,
    is_due,
    is_listed,
)

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
                endpoints={"chat": EndpointCheck(checks={"answered": passed})},
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


def streaming(state: ModelState, *, model: Model = MODEL) -> bool:
    return as_listed(model, state, stream_endpoints=["chat"]).streaming_endpoints == ("chat",)


def streamed(*results: bool, continuous_usage: bool = False) -> ModelState:
    """The state after verifications that passed, each followed by a stream with this result."""
    state = ModelState(id="m")
    for number, passed in enumerate(results, start=1):
        check = StreamCheck(passed=passed, continuous_usage=continuous_usage, detail="" if passed else "no usage")
        state = state.after(
            Verification(
                model="m",
                fingerprint=MODEL.fingerprint,
                checked_at_us=number,
                endpoints={"chat": EndpointCheck(checks={"answered": True})},
                streams={"chat": check},
            )
        )
    return state


@pytest.mark.parametrize(
    ("results", "streams"),
    [("+", True), ("-", False), ("+--", True), ("+---", False), ("+--+--", True), ("+---+", True), ("--+", True)],
)
def test_a_model_streams_after_a_pass_until_the_third_failure_in_a_row(results: str, *, streams: bool) -> None:
    state = streamed(*(result == "+" for result in results))
    assert streaming(state) is streams
    assert is_listed(MODEL, state), "a failed stream leaves the model listed"
    assert state.streams["chat"].detail == ("" if results[-1] == "+" else "no usage")


def test_a_model_streams_only_on_endpoints_that_may_stream() -> None:
    assert as_listed(MODEL, streamed(True), stream_endpoints=[]) == MODEL


def test_a_failed_verification_leaves_the_streams_as_they_are() -> None:
    verification = Verification(
        model="m",
        fingerprint=MODEL.fingerprint,
        checked_at_us=9,
        endpoints={"chat": EndpointCheck(checks={"answered": False})},
    )
    assert streaming(streamed(True).after(verification))
    other = msgspec.structs.replace(verification, fingerprint="other")
    assert streamed(True).after(other).streams == {}


def test_another_setting_of_continuous_usage_voids_the_stream_alone() -> None:
    route = msgspec.structs.replace(MODEL.routes[0], continuous_usage=True)
    continuous = msgspec.structs.replace(MODEL, routes=(route,))
    assert is_listed(continuous, streamed(True))
    assert not streaming(streamed(True), model=continuous)
    assert is_due(continuous, streamed(True), now_us=2, interval_us=DAY_US, stream_endpoints=["chat"])
    state = streamed(True, continuous_usage=True)
    assert streaming(state, model=continuous)
    assert not streaming(state)
    failed = state.streams["chat"].after(StreamCheck(passed=False, detail="no usage"))
    assert failed == StreamState(consecutive_failures=1, detail="no usage")


def test_switching_streaming_on_makes_a_model_due_until_its_stream_was_checked() -> None:
    def due(state: ModelState, *, now_us: int = 1, endpoints: Sequence[str] = ("chat",)) -> bool:
        return is_due(MODEL, state, now_us=now_us, interval_us=DAY_US, stream_endpoints=endpoints)

    assert due(after(True))
    assert not due(after(True), endpoints=())
    assert not due(after(False)), "a model that fails as a whole waits"
    assert not due(streamed(True))
    assert not due(streamed(True), endpoints=("chat", "responses")), "the model doesn't serve responses"
    assert not due(streamed(False), now_us=MINUTE_US)
    assert due(streamed(False), now_us=1 + MINUTE_US)
    assert not due(streamed(False), now_us=1 + MINUTE_US, endpoints=())
    assert not due(streamed(False, False), now_us=1 + MINUTE_US)


def test_the_upstream_gets_the_options_that_it_accepted() -> None:
    for options, stats in ((False, False), (True, False), (True, True)):
        check = StreamCheck(passed=True, stream_options=options, continuous_usage_stats=stats)
        state = msgspec.structs.replace(streamed(True), streams={"chat": StreamState().after(check)})
        (route,) = as_listed(MODEL, state, stream_endpoints=["chat"]).routes
        assert (route.stream_options, route.continuous_usage_stats) == (options, stats)


BOTH = msgspec.structs.replace(MODEL, endpoints=("chat", "embeddings"))


def checked(**results: bool) -> ModelState:
    """The state after one verification with these results by endpoint."""
    checks = {
        name: EndpointCheck(checks={"answered": passed}, detail="" if passed else "no answer")
        for name, passed in results.items()
    }
    return ModelState(id="m").after(
        Verification(model="m", fingerprint=BOTH.fingerprint, checked_at_us=1, endpoints=checks)
    )


def test_a_model_is_listed_with_the_endpoints_on_which_it_is_verified() -> None:
    state = checked(chat=False, embeddings=True)
    assert is_listed(BOTH, state)
    assert as_listed(BOTH, state, stream_endpoints=["chat"]).endpoints == ("embeddings",)
    assert not state.passed
    assert state.detail == "chat: no answer"
    assert not is_listed(BOTH, checked(chat=False, embeddings=False))
    assert as_listed(BOTH, checked(chat=True, embeddings=True), stream_endpoints=[]) == BOTH


def test_a_model_with_a_new_endpoint_is_due_and_keeps_the_others() -> None:
    state = checked(chat=True)
    assert is_due(BOTH, state, now_us=1, interval_us=DAY_US)
    assert as_listed(BOTH, state, stream_endpoints=[]).endpoints == ("chat",)
    assert not is_due(BOTH, checked(chat=True, embeddings=True), now_us=1, interval_us=DAY_US)


def test_results_of_an_endpoint_that_the_model_no_longer_has_are_dropped() -> None:
    state = checked(chat=True, embeddings=True).after(
        Verification(
            model="m",
            fingerprint=MODEL.fingerprint,
            checked_at_us=2,
            endpoints={"chat": EndpointCheck(checks={"a": True})},
        )
    )
    assert list(state.endpoints) == ["chat"]
    assert state.verified_at_us == 1
