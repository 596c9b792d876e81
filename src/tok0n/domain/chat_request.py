"""Validate a chat completion request, write the body for the upstream, and bound the request's cost.

Accepted values are forwarded byte for byte, so numbers keep their digits and strings keep their escapes.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from tok0n.domain.bound import prompt_bound, string_bound
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.chat import (
    DEFINITIONS,
    LIMIT_FIELDS,
    MODEL_ID,
    check_fields,
    messages_size,
    output_limit,
)
from tok0n.domain.errors import UnknownModel
from tok0n.domain.json_text import JsonText, decode_object

UTF8_BYTES_MAX = 4
"""The most bytes of one character in UTF-8."""

EXACT_BYTES_MAX = 16 * 1024
"""The most bytes of non-ASCII strings to normalize on the event loop. Takes well under a millisecond."""

_encode = msgspec.json.Encoder().encode

FindModel = Callable[[str], Model | None]


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A validated request and its upper bound in tokens.

    `output_limit` holds for each of `n` choices. `prediction_bytes` counts as output, because providers bill rejected
    predictions as output. `inexact_texts` are strings that `prompt_bound` counts by their UTF-8 bytes only, because
    normalizing them is expensive. Call `exact` before you reserve.
    """

    model: Model
    upstream_body: bytes
    prompt_bound: int
    output_limit: int
    n: int
    prediction_bytes: int
    inexact_texts: tuple[str, ...] = ()

    @property
    def output_bound(self) -> int:
        """The most output tokens that the request can cost."""
        return self.n * (self.output_limit + self.model.reasoning_tokens_max) + self.prediction_bytes

    @property
    def bound(self) -> int:
        """The most tokens that the request can cost, and therefore the tokens to reserve."""
        return self.prompt_bound + self.output_bound

    def largest_output_tokens(self, available: int) -> int:
        """Return the largest output limit that `available` tokens cover, or 0 if they cover none."""
        limit = (available - self.prompt_bound - self.prediction_bytes) // self.n - self.model.reasoning_tokens_max
        return max(0, min(limit, self.model.max_output_tokens))

    def exact(self) -> "ChatRequest":
        """Return the request with its exact bound. Takes up to 400 ns per byte of `inexact_texts`."""
        growth = sum(string_bound(text) - len(text.encode()) for text in self.inexact_texts)
        window = self.model.context_window_tokens
        bound = self.prompt_bound + growth
        return msgspec.structs.replace(
            self, prompt_bound=bound if window is None else min(bound, window), inexact_texts=()
        )


def read_chat_request(body: JsonText, *, find_model: FindModel) -> ChatRequest:
    """Validate and bound a request. Raises `InvalidRequest`, which names the field, or `UnknownModel`.

    The bound is exact unless the messages have more than `EXACT_BYTES_MAX` bytes of non-ASCII strings.
    """
    values, raw = decode_object(body)
    model = _find(values.get("model"), find_model)
    extra_bytes = check_fields(values, raw, model)
    size = messages_size(values.get("messages"), model)
    limit = output_limit(values, model)
    has_definitions = not DEFINITIONS.isdisjoint(values)
    texts = size.text.other
    text_bytes, is_exact = _text_bytes(texts) if texts else (0, True)
    bound = prompt_bound(
        messages=size.messages,
        strings=size.text.ascii_bytes + text_bytes,
        parts=size.part_tokens,
        definitions_bytes=extra_bytes + (_definitions_bytes(values, raw) if has_definitions else 0),
        has_tools=has_definitions and bool(values.get("tools") or values.get("functions")),
        context_window_tokens=model.context_window_tokens,
    )
    return ChatRequest(
        model=model,
        upstream_body=_rewrite(raw, model, limit),
        prompt_bound=bound,
        output_limit=limit,
        n=values.get("n") or 1,
        prediction_bytes=0 if values.get("prediction") is None else len(bytes(raw["prediction"])),
        inexact_texts=() if is_exact or bound == model.context_window_tokens else tuple(texts),
    )


def _definitions_bytes(values: dict[str, Any], raw: dict[str, msgspec.Raw]) -> int:
    """Return the bytes of the fields that providers rewrite into the prompt."""
    return sum(len(bytes(raw[name])) for name in DEFINITIONS if type(values.get(name)) in {list, dict})


def _text_bytes(texts: list[str]) -> tuple[int, bool]:
    """Return the bound of non-ASCII strings, and whether it is exact. An inexact bound is their UTF-8 bytes."""
    if sum(map(len, texts)) > EXACT_BYTES_MAX // UTF8_BYTES_MAX:
        size = sum(len(text.encode()) for text in texts)
        if size > EXACT_BYTES_MAX:
            return size, False
    return sum(map(string_bound, texts)), True


def _find(model_id: Any, find_model: FindModel) -> Model:
    MODEL_ID.check_id(model_id, "model")
    model = find_model(model_id)
    if model is None:
        raise UnknownModel(model_id)
    return model


def _rewrite(raw: dict[str, msgspec.Raw], model: Model, limit: int) -> bytes:
    """Return the body for the upstream: the client's raw values, with the upstream's model and the output limit."""
    body: dict[str, Any] = dict(raw)
    for name in LIMIT_FIELDS:
        body.pop(name, None)
    body["model"] = model.upstream_model
    body[model.output_limit_field] = limit
    return _encode(body)
