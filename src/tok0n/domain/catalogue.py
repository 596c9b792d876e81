"""What a model is, as declared, and when it is listed. Knows no file and no database."""

import hashlib

import msgspec

FAILURES_MAX = 3
"""A verified model that fails this many verifications in a row leaves the list until it passes."""

RETRY_US = 60_000_000
"""How soon a model that failed is verified again; twice as long after each further failure."""

VERIFICATION_PROMPT = "Reply with the word OK."
"""What a verification asks: it costs a few tokens and holds nobody's content."""

VERIFICATION_OUTPUT_TOKENS = 16
"""The default output limit of a verification: the smallest that the upstreams in use accept."""

VERIFICATION_RETRY_OUTPUT_TOKENS = (256, 2_048)
"""The output limits that a verification tries next while reasoning uses up the one before."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve a model: an upstream, and the name of the model there.

    `output_limit_field` is the field in which the upstream expects the output limit.
    """

    upstream: str
    upstream_url: str = ""
    upstream_model: str
    output_limit_field: str = "max_completion_tokens"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model as the operator declares it. Counts are tokens.

    `routes` has at least one route; requests take the first. `image_tokens_max`,
    `audio_tokens_max` and `file_tokens_max` are what ONE such part can cost at the most; None refuses such parts.
    `extra_fields` names request fields that travel beyond the documented ones; `messages.NAME` allows a field in a
    message, `messages.content.NAME` one in a content part. `tools_max` and `stop_sequences_max` count list items.
    `reasoning_tokens_max` is what the model may use beyond its output limit, for each choice. `verify_output_tokens` is
    the output limit that a verification tries first.
    """

    id: str
    routes: tuple[Route, ...]
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

    @property
    def fingerprint(self) -> str:
        """Changes when another upstream or model answers under this id: the old verification is then void.

        A lower `reasoning_tokens_max` voids it too, because the verification may have passed only with the old one.
        """
        route = self.routes[0]
        parts = [route.upstream, route.upstream_url, route.upstream_model, route.output_limit_field]
        if self.reasoning_tokens_max:
            parts.append(f"reasoning_tokens_max={self.reasoning_tokens_max}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What one tiny real completion showed. `checks` maps the name of each check to whether it passed."""

    model: str
    fingerprint: str
    checked_at_us: int
    checks: dict[str, bool]
    latency_ms: int
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return bool(self.checks) and all(self.checks.values())


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """What the database remembers of a model. A model it has never seen is enabled and unverified.

    `verified_at_us` is since when it passes without a break; `checked_at_us` is the latest verification.
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

    @property
    def passed(self) -> bool:
        """Whether the latest verification passed every check."""
        return bool(self.checks) and all(self.checks.values())

    def after(self, verification: Verification) -> "ModelState":
        """The state once `verification` is known: a pass lists the model, the third failure in a row unlists it."""
        same = self.fingerprint == verification.fingerprint
        failures = 0 if verification.passed else (self.consecutive_failures if same else 0) + 1
        verified_at_us = self.verified_at_us if same and failures < FAILURES_MAX else None
        if verification.passed and verified_at_us is None:
            verified_at_us = verification.checked_at_us
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
        )


def is_verified(model: Model, state: ModelState) -> bool:
    """Whether what answers under this id now is what passed."""
    return state.verified_at_us is not None and state.fingerprint == model.fingerprint


def is_listed(model: Model, state: ModelState) -> bool:
    """Whether customers can see and call the model."""
    return state.enabled and is_verified(model, state)


def is_due(model: Model, state: ModelState, *, now_us: int, interval_us: int) -> bool:
    """Whether an enabled model is to be verified: never, long ago, or not as it is declared now."""
    if not state.enabled:
        return False
    if state.checked_at_us is None or state.fingerprint != model.fingerprint:
        return True
    failures = state.consecutive_failures
    pause_us = min(interval_us, RETRY_US << min(failures - 1, 16)) if failures else interval_us
    return now_us >= state.checked_at_us + pause_us
