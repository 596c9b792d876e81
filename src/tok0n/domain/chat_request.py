"""Read one chat completion request: what may travel, what travels, and the most that it can cost.

Decides, and acts on nothing. Values that are accepted travel untouched: numbers keep their digits, text its bytes.
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
"""The most bytes of a character."""

EXACT_BYTES_MAX = 16 * 1024
"""The most bytes of non-ASCII strings that are normalized at once, in well under a millisecond."""

_encode = msgspec.json.Encoder().encode

FindModel = Callable[[str], Model | None]


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be sent, and its upper bound in tokens.

    `output_limit` is M, for each of `n` choices; `prediction_bytes` is added, because a rejected prediction is billed
    as output. `inexact_texts` are the strings that `prompt_bound` counts by their UTF-8 bytes only, because normalizing
    them is expensive: call `exact` before you reserve.
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

    def exact(self) -> "ChatRequest":
        """The same request with its exact bound. Takes up to 400 ns per byte of `inexact_texts`."""
        growth = sum(string_bound(text) - len(text.encode()) for text in self.inexact_texts)
        window = self.model.context_window_tokens
        bound = self.prompt_bound + growth
        return msgspec.structs.replace(
            self, prompt_bound=bound if window is None else min(bound, window), inexact_texts=()
        )


def read_chat_request(body: JsonText, *, find_model: FindModel) -> ChatRequest:
    """Read and bound a request. Raises `InvalidRequest` naming the field, or `UnknownModel`.

    The bound is exact unless more than `EXACT_BYTES_MAX` of the messages are in strings that are not ASCII.
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
    """The bytes of the fields that providers rewrite into the prompt."""
    return sum(len(bytes(raw[name])) for name in DEFINITIONS if type(values.get(name)) in {list, dict})


def _text_bytes(texts: list[str]) -> tuple[int, bool]:
    """The bound of strings that are not ASCII, and whether it is exact or counts only their UTF-8 bytes."""
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
    """The body for the upstream: the same raw values, but for the model and the output limit."""
    body: dict[str, Any] = dict(raw)
    for name in LIMIT_FIELDS:
        body.pop(name, None)
    body["model"] = model.upstream_model
    body[model.output_limit_field] = limit
    return _encode(body)
