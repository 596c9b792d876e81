"""Models as the operator declares them, their verification, and the rule for listing them."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

FAILURES_MAX = 3
"""A verified model is unlisted after this many failed verifications in a row, until it passes again."""

RETRY_US = 60_000_000
"""The delay before a failed model is verified again. It doubles with each further failure."""

VERIFICATION_PROMPT = "Reply with the word OK."

STREAM_VERIFICATION_PROMPT = "Count from 1 to 40, in digits, separated by spaces."
"""A request for a longer response, which proves that every chunk reports usage."""

VERIFICATION_OUTPUT_TOKENS = 16
"""The default output limit of a verification: the lowest limit that every known upstream accepts."""

VERIFICATION_RETRY_OUTPUT_TOKENS = (256, 2_048)
"""The next output limits that a verification tries if reasoning uses up the previous one."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve a model: an upstream, and the name of the model there.

    `output_limit_field` is the upstream's name for the output limit. `stream_options` is False for an upstream that
    rejects the field of this name but reports the usage of a stream unasked. `continuous_usage` is the setting of the
    upstream, and `continuous_usage_stats` whether it needs the option of this name for it.
    """

    upstream: str
    upstream_url: str = ""
    upstream_model: str
    output_limit_field: str = "max_completion_tokens"
    stream_options: bool = True
    continuous_usage: bool = False
    continuous_usage_stats: bool = False


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as the operator declares it. Amounts are tokens.

    `endpoints` names the endpoints that its upstream serves. In a listed model, only the verified ones.

    `routes` has at least one route; requests take the first. `image_tokens_max`, `audio_tokens_max` and
    `file_tokens_max` are the most that one such part can cost; None rejects such parts. `extra_fields` lists
    undocumented request fields to forward: `NAME` in the body, `messages.NAME` in a message, `messages.content.NAME`
    in a content part. `tools_max` and `stop_sequences_max` count list items. `reasoning_tokens_max` is the most that
    the model may use beyond its output limit for each choice. `verify_output_tokens` is the first output limit that a
    verification tries. `hosted_tools` says whether a tool that the provider runs is dropped or rejected where a request
    doesn't insist on it. `anthropic_betas` lists the values of `anthropic-beta` to forward; None is the default list of
    the endpoint. `streaming_endpoints` names the endpoints on which a verification proved that the model streams
    with usage; it is empty unless streaming is switched on.
    """

    id: str
    routes: tuple[Route, ...]
    endpoints: tuple[str, ...] = ("chat",)
    context_window_tokens: int | None = None
    max_output_tokens: int
    default_output_tokens: int
    image_tokens_max: int | None = None
    audio_tokens_max: int | None = None
    file_tokens_max: int | None = None
    extra_fields: tuple[str, ...] = ()
    tools_max: int = 128
    stop_sequences_max: int = 4
    reasoning_tokens_max: int = 0
    verify_output_tokens: int = VERIFICATION_OUTPUT_TOKENS
    owned_by: str = "tok0n"
    hosted_tools: Literal["drop", "refuse"] = "drop"
    anthropic_betas: tuple[str, ...] | None = None
    streaming_endpoints: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A hash of the settings that a verification depends on. If it changes, earlier verifications are void.

        It includes `reasoning_tokens_max`, because a verification may not pass with a lower one.
        """
        route = self.routes[0]
        parts = [route.upstream, route.upstream_url, route.upstream_model, route.output_limit_field]
        if self.reasoning_tokens_max:
            parts.append(f"reasoning_tokens_max={self.reasoning_tokens_max}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class StreamCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one small stream on an endpoint. `stream_options` and `continuous_usage_stats` are as in `Route`.

    `continuous_usage` is the setting of the upstream at that time: another setting voids the result.
    """

    passed: bool
    continuous_usage: bool = False
    stream_options: bool = True
    continuous_usage_stats: bool = False
    detail: str = ""


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model streams on an endpoint, after all checks. `detail` says why the latest check failed."""

    verified: bool = False
    consecutive_failures: int = 0
    continuous_usage: bool = False
    stream_options: bool = True
    continuous_usage_stats: bool = False
    detail: str = ""

    def after(self, check: StreamCheck) -> "StreamState":
        """Return the state after `check`. `FAILURES_MAX` failures in a row end the streaming of a verified model."""
        if check.passed:
            return StreamState(
                verified=True,
                continuous_usage=check.continuous_usage,
                stream_options=check.stream_options,
                continuous_usage_stats=check.continuous_usage_stats,
            )
        is_same = self.continuous_usage == check.continuous_usage
        failures = (self.consecutive_failures if is_same else 0) + 1
        return msgspec.structs.replace(
            self,
            verified=self.verified and is_same and failures < FAILURES_MAX,
            consecutive_failures=failures,
            continuous_usage=check.continuous_usage,
            detail=check.detail,
        )


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one small real completion. `checks` maps the name of each check to whether it passed.

    `streams` has the results of the streams that followed it, by endpoint. They don't decide whether it passed.
    """

    model: str
    fingerprint: str
    checked_at_us: int
    checks: dict[str, bool]
    latency_ms: int
    detail: str = ""
    streams: dict[str, StreamCheck] = {}

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return bool(self.checks) and all(self.checks.values())


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """The stored state of a model. A model without one is enabled and unverified.

    `verified_at_us` is when the model last became verified, and `checked_at_us` is the time of its last verification.
    """

    id: str
    enabled: bool = True
    fingerprint: str = ""
    verified_at_us: int | None = None
    checked_at_us: int | None = None
    consecutive_failures: int = 0
    latency_ms: int | None = None
    checks: dict[str, bool] = {}
    detail: str = ""
    streams: dict[str, StreamState] = {}

    @property
    def passed(self) -> bool:
        """Whether the latest verification passed every check."""
        return bool(self.checks) and all(self.checks.values())

    def after(self, verification: Verification) -> "ModelState":
        """Return the state after `verification`. `FAILURES_MAX` failures in a row make the model unverified."""
        is_same_model = self.fingerprint == verification.fingerprint
        failures = 0 if verification.passed else (self.consecutive_failures if is_same_model else 0) + 1
        verified_at_us = self.verified_at_us if is_same_model and failures < FAILURES_MAX else None
        if verification.passed and verified_at_us is None:
            verified_at_us = verification.checked_at_us
        streams = self.streams if is_same_model else {}
        checked = {name: streams.get(name, StreamState()).after(it) for name, it in verification.streams.items()}
        return ModelState(
            id=self.id,
            enabled=self.enabled,
            fingerprint=verification.fingerprint,
            verified_at_us=verified_at_us,
            checked_at_us=verification.checked_at_us,
            consecutive_failures=failures,
            latency_ms=verification.latency_ms,
            checks=verification.checks,
            detail=verification.detail,
            streams=streams | checked,
        )


def is_verified(model: Model, state: ModelState) -> bool:
    """Whether the model passed a verification with its current settings."""
    return state.verified_at_us is not None and state.fingerprint == model.fingerprint


def is_listed(model: Model, state: ModelState) -> bool:
    """Whether customers can see and call the model."""
    return state.enabled and is_verified(model, state)


def with_streaming(model: Model, state: ModelState, *, stream_endpoints: Sequence[str]) -> Model:
    """Return the model with the endpoints on which it streams, out of those on which models may stream."""
    streams = {name: state.streams[name] for name in stream_endpoints if _has_current_stream(model, state, name)}
    endpoints = tuple(name for name, stream in streams.items() if stream.verified)
    if not endpoints:
        return model
    stream = streams[endpoints[0]]
    route = msgspec.structs.replace(
        model.routes[0],
        stream_options=stream.stream_options,
        continuous_usage_stats=stream.continuous_usage_stats,
    )
    return msgspec.structs.replace(model, routes=(route, *model.routes[1:]), streaming_endpoints=endpoints)


def _has_current_stream(model: Model, state: ModelState, endpoint: str) -> bool:
    """Whether a stream on the endpoint was checked with the current settings."""
    stream = state.streams.get(endpoint)
    return stream is not None and stream.continuous_usage == model.routes[0].continuous_usage


def is_due(
    model: Model, state: ModelState, *, now_us: int, interval_us: int, stream_endpoints: Sequence[str] = ()
) -> bool:
    """Whether to verify the model: it is enabled, and its last verification is too old or of other settings.

    A model that passed is also due if it has no current result for one of `stream_endpoints`.
    """
    if not state.enabled:
        return False
    if state.checked_at_us is None or state.fingerprint != model.fingerprint:
        return True
    if state.passed and not all(_has_current_stream(model, state, name) for name in stream_endpoints):
        return True
    stream_failures = [state.streams[name].consecutive_failures for name in stream_endpoints if name in state.streams]
    failures = state.consecutive_failures or max(stream_failures, default=0)
    pause_us = min(interval_us, RETRY_US << min(failures - 1, 16)) if failures else interval_us
    return now_us >= state.checked_at_us + pause_us
