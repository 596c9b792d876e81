"""Read one chat completion request: what may travel, what travels, and the most that it can cost.

Decides, and acts on nothing. Values that are accepted travel untouched: numbers keep their digits, text its bytes.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from tok0n.domain.bound import prompt_bound, string_bound
from tok0n.domain.catalogue import Model
from tok0n.domain.chat_fields import COUNTED, FIELDS, is_integer, refuse, refuse_unknown, sequence
from tok0n.domain.chat_messages import read_messages
from tok0n.domain.errors import InvalidRequest, UnknownModel
from tok0n.domain.json_text import JsonText, decode_object

MODEL_ID_CHARACTERS_MAX = 256

UTF8_BYTES_MAX = 4
"""The most bytes of a character."""

EXACT_BYTES_MAX = 16 * 1024
"""The most bytes of non-ASCII strings that are normalized at once, in well under a millisecond."""

_LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")
_DEFINITIONS = frozenset({"tools", "functions", "response_format", "tool_choice"})
_READ_APART = frozenset({"model", "messages", *_LIMIT_FIELDS})
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
    model = _read_model(values.get("model"), find_model)
    extra_bytes = _check_fields(values, raw, model)
    messages = read_messages(values.get("messages"), model)
    output_limit = _read_output_limit(values, model)
    texts = messages.text.other
    text_bytes, is_exact = _text_bytes(texts) if texts else (0, True)
    bound = prompt_bound(
        messages=messages.messages,
        strings=messages.text.ascii_bytes + text_bytes,
        parts=messages.part_tokens,
        definitions_bytes=extra_bytes + _definitions_bytes(values, raw),
        has_tools=bool(values.get("tools") or values.get("functions")),
        context_window_tokens=model.context_window_tokens,
    )
    return ChatRequest(
        model=model,
        upstream_body=_rewrite(raw, model, output_limit),
        prompt_bound=bound,
        output_limit=output_limit,
        n=values.get("n") or 1,
        prediction_bytes=0 if values.get("prediction") is None else len(bytes(raw["prediction"])),
        inexact_texts=() if is_exact or bound == model.context_window_tokens else tuple(texts),
    )


def _text_bytes(texts: list[str]) -> tuple[int, bool]:
    """The bound of strings that are not ASCII, and whether it is exact or counts only their UTF-8 bytes."""
    if sum(map(len, texts)) > EXACT_BYTES_MAX // UTF8_BYTES_MAX:
        size = sum(len(text.encode()) for text in texts)
        if size > EXACT_BYTES_MAX:
            return size, False
    return sum(map(string_bound, texts)), True


def _read_model(model_id: Any, find_model: FindModel) -> Model:
    if type(model_id) is not str or not model_id:
        refuse("model", "'model' must name a model: GET /v1/models lists them.")
    if len(model_id) > MODEL_ID_CHARACTERS_MAX:
        refuse("model", f"'model' must have {MODEL_ID_CHARACTERS_MAX} characters at the most.")
    model = find_model(model_id)
    if model is None:
        raise UnknownModel(model_id)
    return model


def _check_fields(values: dict[str, Any], raw: dict[str, msgspec.Raw], model: Model) -> int:
    """Check each field; returns the bytes of those that only this model's `extra_fields` allow.

    An unknown field that is null counts as not given: it is taken out of `raw`, so that no upstream refuses it.
    """
    extra_bytes = 0
    for name, value in values.items():
        if name in _READ_APART:
            continue
        check = FIELDS.get(name)
        if check is not None:
            if value is not None:
                if name in COUNTED and type(value) is list:
                    sequence(value, name, most=getattr(model, COUNTED[name]))
                check(value, name)
        elif name in model.extra_fields:
            extra_bytes += len(bytes(raw[name]))
        elif value is None:
            del raw[name]
        else:
            refuse_unknown(name)
    return extra_bytes


def _definitions_bytes(values: dict[str, Any], raw: dict[str, msgspec.Raw]) -> int:
    """The bytes of what providers rewrite into the prompt."""
    if _DEFINITIONS.isdisjoint(values):
        return 0
    return sum(len(bytes(raw[name])) for name in _DEFINITIONS if type(values.get(name)) in {list, dict})


def _read_output_limit(values: dict[str, Any], model: Model) -> int:
    """M: one of the two spellings, or both when they agree; the model's default when there is none."""
    limit: int | None = None
    for name in _LIMIT_FIELDS:
        value = values.get(name)
        if value is None:
            continue
        if not is_integer(value) or value < 1:
            refuse(name, f"'{name}' must be a positive integer.")
        if value > model.max_output_tokens:
            refuse(name, f"'{name}' can be {model.max_output_tokens} at the most for the model {model.id!r}.")
        if limit not in {None, value}:
            raise InvalidRequest(
                "'max_tokens' and 'max_completion_tokens' mean the same; give one, or the same value twice.",
                param="max_tokens",
            )
        limit = value
    return model.default_output_tokens if limit is None else limit


def _rewrite(raw: dict[str, msgspec.Raw], model: Model, output_limit: int) -> bytes:
    """The body for the upstream: the same raw values, but for the model and the output limit."""
    body: dict[str, Any] = dict(raw)
    for name in _LIMIT_FIELDS:
        body.pop(name, None)
    body["model"] = model.upstream_model
    body[model.output_limit_field] = output_limit
    return _encode(body)
