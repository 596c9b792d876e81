"""A request that was read and bounded, and what the endpoints share to read one.

Accepted values travel untouched: numbers keep their digits, text its bytes.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from tok0n.domain.bound import string_bound
from tok0n.domain.catalogue import Model, Route

UTF8_BYTES_MAX = 4
"""The most bytes of a character."""

EXACT_BYTES_MAX = 16 * 1024
"""The most bytes of non-ASCII strings that are normalized at once, in well under a millisecond."""

_encode = msgspec.json.Encoder().encode


class MeteredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be sent, and its upper bound in tokens.

    `output_limit` is M, for each of `n` choices; `prediction_bytes` is added, because a rejected prediction is billed
    as output. `inexact_texts` are the strings that `prompt_bound` counts by their UTF-8 bytes only, because normalizing
    them is expensive: call `exact` before you reserve.
    """

    model: Model
    route: Route
    upstream_body: bytes
    prompt_bound: int
    output_limit: int
    n: int
    prediction_bytes: int
    inexact_texts: tuple[str, ...] = ()

    @property
    def output_bound(self) -> int:
        """The most output tokens it can cost."""
        return self.n * (self.output_limit + self.model.reasoning_tokens_max) + self.prediction_bytes

    @property
    def bound(self) -> int:
        """The most tokens it can cost: what is reserved."""
        return self.prompt_bound + self.output_bound

    def largest_output_tokens(self, available: int) -> int:
        """The largest output limit that `available` tokens cover; 0 when none does."""
        fits = (available - self.prompt_bound - self.prediction_bytes) // self.n - self.model.reasoning_tokens_max
        return max(0, min(fits, self.model.max_output_tokens))

    def exact(self) -> "MeteredRequest":
        """The same request with its exact bound. Takes up to 400 ns per byte of `inexact_texts`."""
        growth = sum(string_bound(text) - len(text.encode()) for text in self.inexact_texts)
        window = self.model.context_window_tokens
        bound = self.prompt_bound + growth
        return msgspec.structs.replace(
            self, prompt_bound=bound if window is None else min(bound, window), inexact_texts=()
        )


def bound_texts(texts: Collection[str]) -> tuple[int, bool]:
    """Return the bound of strings that are not ASCII, and whether it is exact.

    Beyond `EXACT_BYTES_MAX` it counts their UTF-8 bytes only.
    """
    if sum(map(len, texts)) > EXACT_BYTES_MAX // UTF8_BYTES_MAX:
        size = sum(len(text.encode()) for text in texts)
        if size > EXACT_BYTES_MAX:
            return size, False
    return sum(map(string_bound, texts)), True


def rewrite_body(
    raw: dict[str, msgspec.Raw], route: Route, output_limit: int, *, limit_fields: Collection[str]
) -> bytes:
    """Return the body for the upstream: the same raw values, except for the model and the output limit."""
    body: dict[str, Any] = dict(raw)
    for name in limit_fields:
        body.pop(name, None)
    body["model"] = route.upstream_model
    body[route.output_limit_field] = output_limit
    return _encode(body)
