"""A validated request with its upper bound in tokens, and the steps that endpoints share to read one.

Accepted values are forwarded byte for byte, so numbers keep their digits and strings keep their escapes.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from tok0n.domain.bound import string_bound
from tok0n.domain.catalogue import Model, Route

_encode = msgspec.json.Encoder().encode


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the customer asked of a stream. `includes_usage`: a chat's customer gets a last chunk with the usage."""

    includes_usage: bool = False


class MeteredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A validated request and its upper bound in tokens.

    `output_limit` holds for each of `n` choices; `n` is 0 if the endpoint has no output tokens. `prediction_bytes`
    counts as output, because providers bill rejected predictions as output. `inexact_texts` are strings that
    `prompt_bound` counts by their UTF-8 bytes only, because normalizing them is expensive. Call `with_exact_bound`
    before you reserve. `upstream_body` and `upstream_headers` are for the upstream of `route`. `stream` is None unless
    the customer asked for a stream. `limit_field` is the customer's name for the output limit, or empty if there is
    none. `inputs` is how many results an answer must have, if the endpoint fixes that; each may fill the context
    window. `dropped` names what the customer sent and the upstream doesn't get.
    """

    model: Model
    route: Route
    upstream_body: bytes
    prompt_bound: int
    output_limit: int
    n: int
    prediction_bytes: int
    inexact_texts: tuple[str, ...] = ()
    stream: StreamOptions | None = None
    limit_field: str = "max_completion_tokens"
    inputs: int = 0
    upstream_headers: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def output_bound(self) -> int:
        """The most output tokens that the request can cost."""
        return self.n * (self.output_limit + self.model.reasoning_tokens_max) + self.prediction_bytes

    @property
    def bound(self) -> int:
        """An upper bound of the tokens that a provider should report, and therefore the tokens to reserve."""
        return self.prompt_bound + self.output_bound

    def largest_output_tokens(self, available: int) -> int:
        """Return the largest output limit that `available` tokens cover, or 0 if they cover none."""
        if not self.n:
            return 0
        limit = (available - self.prompt_bound - self.prediction_bytes) // self.n - self.model.reasoning_tokens_max
        return max(0, min(limit, self.model.max_output_tokens))

    def with_exact_bound(self) -> "MeteredRequest":
        """Return the request with its exact bound. Takes up to 400 ns per byte of `inexact_texts`."""
        growth = sum(string_bound(text) - len(text.encode()) for text in self.inexact_texts)
        window = self.model.context_window_tokens
        bound = self.prompt_bound + growth
        if window is not None:
            bound = min(bound, window * max(1, self.inputs))
        return msgspec.structs.replace(self, prompt_bound=bound, inexact_texts=())


def rewrite_body(
    raw: dict[str, msgspec.Raw],
    route: Route,
    output_limit: int | None = None,
    *,
    limit_fields: Collection[str] = (),
    limit_field: str | None = None,
) -> bytes:
    """Return the body for an upstream: the client's raw values, with the upstream's model and the output limit.

    The limit replaces the `limit_fields`, in the field `limit_field` or else in that of the route.
    """
    body: dict[str, Any] = dict(raw)
    for name in limit_fields:
        body.pop(name, None)
    body["model"] = route.upstream_model
    if output_limit is not None:
        body[limit_field or route.output_limit_field] = output_limit
    return _encode(body)
