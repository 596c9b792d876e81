"""The limits and features of this server, in the words of the guide."""

from collections.abc import Mapping, Sequence

import msgspec

from tok0n.domain.rate_limit import RateLimits
from tok0n.domain.token_classes import TokenClasses

_KIBIBYTE = 1024
_MINUTE_SECONDS = 60
_SHOWN_IN_MINUTES_FROM_SECONDS = 5 * _MINUTE_SECONDS
"""Shorter times are shown in seconds."""

_SIGN_UP = {
    "open": "**Sign up**, and confirm your email with the link that we send you.",
    "invite": "**Sign up** with your invitation. Without one, contact support.",
    "closed": "**Sign in.** You can't sign up here: support creates accounts.",
}


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the guide says about this server. Sequences have an item for each upstream or model.

    `registration` is "open", "invite" or "closed". `continuous_models` are the ids of the models whose provider reports
    usage in every chunk, so that it can be stopped.
    """

    limits: RateLimits
    body_bytes_max: int
    body_seconds: float
    buffered_bytes_max: int
    connections_per_client_max: int
    streams_max: int
    unread_bytes_max: int
    stream_hold_seconds: float
    answer_bytes_max: Sequence[int]
    timeout_seconds: Sequence[float]
    stream_seconds: Sequence[float]
    stream_idle_seconds: Sequence[float]
    tools_max: Sequence[int]
    stop_sequences_max: Sequence[int]
    registration: str
    sells: bool
    token_classes: TokenClasses
    continuous_models: Sequence[str]
    is_streaming: bool

    @property
    def features(self) -> frozenset[str]:
        """The names whose passages `<!--if NAME-->` the guide keeps."""
        has = {
            "sells": self.sells,
            "classes": self.token_classes.are_several(),
            "continuous_usage": self.is_streaming and bool(self.continuous_models),
        }
        return frozenset(name for name, is_present in has.items() if is_present)

    @property
    def values(self) -> Mapping[str, str]:
        """The values that replace those in the files."""
        return self.limit_values | {
            "limits_note": "These are the limits of this server.",
            "limit_column": "value",
            "sign_up": _SIGN_UP[self.registration],
            "get_tokens": (
                "Buy a pack or redeem a code on the page *Buy*."
                if self.sells
                else "Redeem a code on the page *Buy*. Tokens on this service are granted, not sold."
            ),
            "classes": self._classes(),
            "one_price": (
                "One token pays for one token on every model of its class."
                if self.token_classes.are_several()
                else "One token pays for one token on every listed model."
            ),
            "continuous_models": ", ".join(f"`{model}`" for model in self.continuous_models),
        }

    @property
    def limit_values(self) -> dict[str, str]:
        """The values that are limits. Those of the default settings are written in the files."""
        return {
            "requests_per_minute_per_key": f"{self.limits.requests_per_minute_per_key:,}",
            "concurrent_requests_per_account": f"{self.limits.concurrent_requests_per_account:,}",
            "upstream_requests_per_minute": f"{self.limits.upstream_requests_per_minute:,}",
            "body_bytes": _bytes(self.body_bytes_max),
            "body_seconds": _time(self.body_seconds),
            "tools": _range([f"{count:,}" for count in sorted(self.tools_max)]),
            "stop_sequences": _range([f"{count:,}" for count in sorted(self.stop_sequences_max)]),
            "tools_items": _range([f"{count:,} items" for count in sorted(self.tools_max)]),
            "stop_items": _range([f"{count:,} items" for count in sorted(self.stop_sequences_max)]),
            "answer_bytes": _range([_bytes(size) for size in sorted(self.answer_bytes_max)]),
            "timeout": _range([_time(seconds) for seconds in sorted(self.timeout_seconds)]),
            "stream_seconds": _range([_time(seconds) for seconds in sorted(self.stream_seconds)]),
            "stream_idle_seconds": _range([_time(seconds) for seconds in sorted(self.stream_idle_seconds)]),
            "buffered_bytes": _bytes(self.buffered_bytes_max),
            "streams": f"{self.streams_max:,}",
            "unread_bytes": _bytes(self.unread_bytes_max),
            "connections_per_client": f"{self.connections_per_client_max:,}",
            "stream_hold_seconds": f"{self.stream_hold_seconds:g} seconds",
        }

    def _classes(self) -> str:
        if not self.token_classes.are_several():
            return "On this server, every model uses standard tokens."
        return f"This server has: {', '.join(self.token_classes.titles().values())}."


def _range(texts: Sequence[str]) -> str:
    """Return the lowest and the highest of sorted limits, which depend on the model."""
    if not texts:
        return "none"
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}, depending on the model"


def _bytes(size: int) -> str:
    for unit, name in ((_KIBIBYTE**3, "GiB"), (_KIBIBYTE**2, "MiB"), (_KIBIBYTE, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit:,} {name}"
    return f"{size:,} bytes"


def _time(seconds: float) -> str:
    if seconds >= _SHOWN_IN_MINUTES_FROM_SECONDS and seconds % _MINUTE_SECONDS == 0:
        return f"{seconds / _MINUTE_SECONDS:g} min"
    return f"{seconds:g} s"
