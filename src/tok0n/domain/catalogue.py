"""Models as the operator declares them, their verification, and the rule for listing them."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from tok0n.domain.errors import UpstreamFailed
from tok0n.domain.ledger import STANDARD
from tok0n.domain.model_days import VerificationResult

FAILURES_MAX = 3
"""A verified model is unlisted after this many failed verifications in a row, until it passes again."""

RETRY_US = 60_000_000
"""The delay before a failed model is verified again. It doubles with each further failure."""

VERIFICATION_PROMPT = "Reply with the word OK."

STREAM_VERIFICATION_PROMPT = "Count from 1 to 40, in digits, separated by spaces."
"""A request for a longer response, to check that every chunk reports usage."""

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

    `endpoints` names the endpoints that its upstream serves. In a listed model, only the verified ones. A request pays
    with tokens of `token_class`.

    `routes` has at least one route; requests take the first. `image_tokens_max`, `audio_tokens_max` and
    `file_tokens_max` are the most that one such part can cost; None rejects such parts. `extra_fields` lists
    undocumented request fields to forward: `NAME` in the body, `messages.NAME` in a message, `messages.content.NAME`
    in a content part. `tools_max` and `stop_sequences_max` count list items. `reasoning_tokens_max` is the most that
    the model may use beyond its output limit for each choice. `verify_output_tokens` is the first output limit that a
    verification tries. `hosted_tools` says whether a tool that the provider runs is dropped or rejected where a request
    doesn't insist on it. `anthropic_betas` lists the values of `anthropic-beta` to forward; None is the default list of
    the endpoint. `streaming_endpoints` names the endpoints on which a verification found that the model streams
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
    token_class: str = STANDARD
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

    `continuous_usage` is the setting of the upstream at that time: another setting voids the result. `code` is the
    error code of a failure. `first_event_ms` is the time to the first event with content, `latency_ms` that to the end.
    """

    passed: bool
    continuous_usage: bool = False
    stream_options: bool = True
    continuous_usage_stats: bool = False
    detail: str = ""
    code: str = UpstreamFailed.code
    latency_ms: int | None = None
    first_event_ms: int | None = None


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model streams on an endpoint, after all checks. `detail` says why the latest check failed.

    The times are those of the latest check that passed.
    """

    verified: bool = False
    consecutive_failures: int = 0
    continuous_usage: bool = False
    stream_options: bool = True
    continuous_usage_stats: bool = False
    detail: str = ""
    latency_ms: int | None = None
    first_event_ms: int | None = None

    def after(self, check: StreamCheck) -> "StreamState":
        """Return the state after `check`. `FAILURES_MAX` failures in a row end the streaming of a verified model."""
        if check.passed:
            return StreamState(
                verified=True,
                continuous_usage=check.continuous_usage,
                stream_options=check.stream_options,
                continuous_usage_stats=check.continuous_usage_stats,
                latency_ms=check.latency_ms,
                first_event_ms=check.first_event_ms,
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


class EndpointCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one small real request. `checks` maps the name of each check to whether it passed.

    `code` is the error code of a failure.
    """

    checks: dict[str, bool]
    latency_ms: int = 0
    detail: str = ""
    code: str = UpstreamFailed.code

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return bool(self.checks) and all(self.checks.values())


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model is verified on an endpoint, after all checks. The other fields are of the latest check."""

    verified: bool = False
    consecutive_failures: int = 0
    checks: dict[str, bool] = {}
    latency_ms: int = 0
    detail: str = ""

    def after(self, check: EndpointCheck) -> "EndpointState":
        """Return the state after `check`. `FAILURES_MAX` failures in a row make a verified endpoint unverified."""
        failures = 0 if check.passed else self.consecutive_failures + 1
        return EndpointState(
            verified=check.passed or (self.verified and failures < FAILURES_MAX),
            consecutive_failures=failures,
            checks=check.checks,
            latency_ms=check.latency_ms,
            detail=check.detail,
        )


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one small real request on each endpoint of a model.

    `streams` has the results of the streams that followed them, by endpoint. They don't decide whether it passed.
    """

    model: str
    fingerprint: str
    checked_at_us: int
    endpoints: dict[str, EndpointCheck]
    streams: dict[str, StreamCheck] = {}

    @property
    def results(self) -> list[VerificationResult]:
        """The result on each endpoint, and of each stream."""
        endpoints = [self._result(endpoint, check) for endpoint, check in self.endpoints.items()]
        return endpoints + [self._result(endpoint, check) for endpoint, check in self.streams.items()]

    def _result(self, endpoint: str, check: EndpointCheck | StreamCheck) -> VerificationResult:
        return VerificationResult(
            model=self.model,
            endpoint=endpoint,
            is_stream=isinstance(check, StreamCheck),
            at_us=self.checked_at_us,
            code=None if check.passed else check.code,
            latency_ms=check.latency_ms,
            first_event_ms=check.first_event_ms if isinstance(check, StreamCheck) else None,
        )


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """The stored state of a model. A model without one is enabled and unverified.

    `verified_at_us` is when the model last became verified on one of its endpoints, and `checked_at_us` is the time of
    its last verification.
    """

    id: str
    enabled: bool = True
    fingerprint: str = ""
    verified_at_us: int | None = None
    checked_at_us: int | None = None
    endpoints: dict[str, EndpointState] = {}
    streams: dict[str, StreamState] = {}

    @property
    def passed(self) -> bool:
        """Whether the latest verification passed every check on every endpoint."""
        return bool(self.endpoints) and not self.consecutive_failures

    @property
    def consecutive_failures(self) -> int:
        """The failures in a row of the endpoint that has most of them."""
        return max((endpoint.consecutive_failures for endpoint in self.endpoints.values()), default=0)

    @property
    def checks(self) -> dict[str, bool]:
        """The latest checks of the first endpoint that failed, or else of the first one."""
        latest = self._latest
        return {} if latest is None else latest.checks

    @property
    def latency_ms(self) -> int | None:
        """How long the request of these checks took."""
        latest = self._latest
        return None if latest is None else latest.latency_ms

    @property
    def detail(self) -> str:
        """Why endpoints failed their latest checks, or an empty string."""
        failed = {name: endpoint.detail for name, endpoint in self.endpoints.items() if endpoint.detail}
        if tuple(self.endpoints) == ("chat",):
            return failed.get("chat", "")
        return "; ".join(f"{name}: {detail}" for name, detail in failed.items())

    @property
    def _latest(self) -> EndpointState | None:
        endpoints = self.endpoints.values()
        failed = (endpoint for endpoint in endpoints if endpoint.consecutive_failures)
        return next(failed, next(iter(endpoints), None))

    @property
    def verified_endpoints(self) -> tuple[str, ...]:
        """The endpoints on which the model is verified."""
        return tuple(name for name, endpoint in self.endpoints.items() if endpoint.verified)

    def after(self, verification: Verification) -> "ModelState":
        """Return the state after `verification`. The results of endpoints that the model no longer has are dropped."""
        is_same_model = self.fingerprint == verification.fingerprint
        endpoints = self.endpoints if is_same_model else {}
        streams = self.streams if is_same_model else {}
        checked = {name: endpoints.get(name, EndpointState()).after(it) for name, it in verification.endpoints.items()}
        verified_at_us = self.verified_at_us if is_same_model else None
        if not any(endpoint.verified for endpoint in checked.values()):
            verified_at_us = None
        elif verified_at_us is None:
            verified_at_us = verification.checked_at_us
        streamed = {name: streams.get(name, StreamState()).after(it) for name, it in verification.streams.items()}
        return ModelState(
            id=self.id,
            enabled=self.enabled,
            fingerprint=verification.fingerprint,
            verified_at_us=verified_at_us,
            checked_at_us=verification.checked_at_us,
            endpoints=checked,
            streams={name: stream for name, stream in streams.items() if name in checked} | streamed,
        )


def is_verified(model: Model, state: ModelState) -> bool:
    """Whether the model is verified with its current settings on one of its endpoints."""
    return state.fingerprint == model.fingerprint and not set(model.endpoints).isdisjoint(state.verified_endpoints)


def is_listed(model: Model, state: ModelState) -> bool:
    """Whether customers can see and call the model."""
    return state.enabled and is_verified(model, state)


def as_listed(model: Model, state: ModelState, *, stream_endpoints: Sequence[str]) -> Model:
    """Return the model with the endpoints on which it is verified, and those on which it streams.

    `stream_endpoints` are those on which models may stream.
    """
    endpoints = tuple(name for name in model.endpoints if name in state.verified_endpoints)
    streaming = tuple(
        name
        for name in endpoints
        if name in stream_endpoints and _has_current_stream(model, state, name) and state.streams[name].verified
    )
    routes = model.routes
    if "chat" in streaming:
        stream = state.streams["chat"]
        route = msgspec.structs.replace(
            routes[0],
            stream_options=stream.stream_options,
            continuous_usage_stats=stream.continuous_usage_stats,
        )
        routes = (route, *routes[1:])
    return msgspec.structs.replace(model, routes=routes, endpoints=endpoints, streaming_endpoints=streaming)


def _has_current_stream(model: Model, state: ModelState, endpoint: str) -> bool:
    """Whether a stream on the endpoint was checked with the current settings."""
    stream = state.streams.get(endpoint)
    return stream is not None and stream.continuous_usage == model.routes[0].continuous_usage


def is_due(
    model: Model, state: ModelState, *, now_us: int, interval_us: int, stream_endpoints: Sequence[str] = ()
) -> bool:
    """Whether to verify the model: it is enabled, and its last verification is too old or of other settings.

    A model is also due if an endpoint that passed has no current result for a stream, but is one of `stream_endpoints`.
    """
    if not state.enabled:
        return False
    if state.checked_at_us is None or state.fingerprint != model.fingerprint:
        return True
    if set(model.endpoints) != set(state.endpoints):
        return True
    streams = [name for name in stream_endpoints if name in model.endpoints]
    passed = [name for name in streams if not state.endpoints[name].consecutive_failures]
    if not all(_has_current_stream(model, state, name) for name in passed):
        return True
    stream_failures = [state.streams[name].consecutive_failures for name in streams if name in state.streams]
    failures = state.consecutive_failures or max(stream_failures, default=0)
    pause_us = min(interval_us, RETRY_US << min(failures - 1, 16)) if failures else interval_us
    return now_us >= state.checked_at_us + pause_us
