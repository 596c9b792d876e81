"""Check the messages of a chat request, and bound what they can cost.

Source: OpenAI API reference, "Create chat completion", `messages`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.bound import string_bound, strings_bound
from tok0n.domain.catalogue import Model
from tok0n.domain.chat_fields import mapping, refuse, sequence, text, word

MESSAGES_MAX = 10_000
PARTS_MAX = 10_000
EXTRA_PREFIX = "messages."

_COMMON = frozenset({"role", "content", "name"})
_KEYS: dict[str, frozenset[str]] = {
    "developer": _COMMON,
    "system": _COMMON,
    "user": _COMMON,
    "assistant": _COMMON | {"refusal", "tool_calls", "function_call", "audio"},
    "tool": frozenset({"role", "content", "tool_call_id"}),
    "function": _COMMON,
}
_MEDIA = {"image_url": "image_tokens_max", "input_audio": "audio_tokens_max", "file": "file_tokens_max"}
_NOTHING: frozenset[str] = frozenset()


class MessagesBound(msgspec.Struct, kw_only=True):
    """What the messages can cost: their strings, and their image, audio and file parts."""

    messages: int
    strings: int
    parts: int


def read_messages(messages: Any, model: Model) -> MessagesBound:
    """Check all messages. Raises `InvalidRequest` with the place of what is wrong, as `messages[0].content`."""
    if type(messages) is not list or not messages:
        refuse("messages", "'messages' must be a list of at least one message.")
    sequence(messages, "messages", most=MESSAGES_MAX)
    extra = _NOTHING
    if model.extra_fields:
        extra = frozenset(n.removeprefix(EXTRA_PREFIX) for n in model.extra_fields if n.startswith(EXTRA_PREFIX))
    bound = MessagesBound(messages=len(messages), strings=0, parts=0)
    for index, message in enumerate(messages):
        _read_message(message, index, model, extra, bound)
    return bound


def _read_message(message: Any, index: int, model: Model, extra: frozenset[str], bound: MessagesBound) -> None:
    if type(message) is not dict:
        refuse(f"messages[{index}]", f"'messages[{index}]' must be an object.")
    role = message.get("role")
    if type(role) is not str or role not in _KEYS:
        refuse(f"messages[{index}].role", f"'messages[{index}].role' must be one of {', '.join(_KEYS)}.")
    if not message.keys() <= _KEYS[role]:
        for key in message.keys() - _KEYS[role] - extra:
            where = f"messages[{index}].{key[:80]}"
            refuse(where, f"Unrecognized request argument supplied: {where}")
    content = message.get("content")
    if type(content) is str and len(message) == 2:
        bound.strings += string_bound(content) + len(role)
        return
    _read_details(message, f"messages[{index}]", role)
    if type(content) is list:
        bound.strings += strings_bound({key: value for key, value in message.items() if key != "content"})
        _read_parts(content, f"messages[{index}].content", model, bound)
    else:
        bound.strings += strings_bound(message)


def _read_details(message: Mapping[str, Any], where: str, role: str) -> None:
    content = message.get("content")
    if content is None:
        if role != "assistant" or not _speaks_otherwise(message):
            refuse(f"{where}.content", f"'{where}.content' must be a string or a list of parts.")
    elif type(content) not in {str, list}:
        refuse(f"{where}.content", f"'{where}.content' must be a string or a list of parts.")
    if role == "tool" or message.get("tool_call_id") is not None:
        word(message.get("tool_call_id"), f"{where}.tool_call_id")
    if message.get("name") is not None:
        word(message["name"], f"{where}.name")
    if message.get("refusal") is not None:
        text(message["refusal"], f"{where}.refusal")
    if message.get("audio") is not None:
        refuse(f"{where}.audio", f"'{where}.audio' is not supported here: it is not billed by the token.")
    if message.get("tool_calls") is not None:
        _read_tool_calls(message["tool_calls"], f"{where}.tool_calls")
    if message.get("function_call") is not None:
        _read_named(message["function_call"], f"{where}.function_call", "arguments")


def _speaks_otherwise(message: Mapping[str, Any]) -> bool:
    return any(message.get(key) for key in ("tool_calls", "function_call", "refusal"))


def _read_tool_calls(calls: Any, where: str) -> None:
    sequence(calls, where, most=PARTS_MAX)
    for index, call in enumerate(calls):
        here = f"{where}[{index}]"
        mapping(call, here)
        word(call.get("id"), f"{here}.id")
        kind = call.get("type")
        if kind not in {"function", "custom"}:
            refuse(f"{here}.type", f"'{here}.type' must be function or custom.")
        _read_named(call.get(kind), f"{here}.{kind}", "arguments" if kind == "function" else "input")


def _read_named(value: Any, where: str, argument: str) -> None:
    mapping(value, where)
    word(value.get("name"), f"{where}.name")
    text(value.get(argument), f"{where}.{argument}")


def _read_parts(parts: list[Any], where: str, model: Model, bound: MessagesBound) -> None:
    """Check content parts. A part with a maximum of its own counts that maximum instead of its strings."""
    if not parts:
        refuse(where, f"'{where}' must have at least one part.")
    sequence(parts, where, most=PARTS_MAX)
    for index, part in enumerate(parts):
        here = f"{where}[{index}]"
        mapping(part, here)
        kind = part.get("type")
        if kind in {"text", "refusal"}:
            text(part.get(kind), f"{here}.{kind}")
            bound.strings += strings_bound(part)
        elif type(kind) is str and kind in _MEDIA:
            bound.parts += _media_bound(part, kind, here, model)
        else:
            refuse(f"{here}.type", f"'{here}.type' must be one of text, refusal, {', '.join(_MEDIA)}.")
        unknown = part.keys() - {"type", kind}
        if unknown:
            name = f"{here}.{min(unknown)[:80]}"
            refuse(name, f"Unrecognized request argument supplied: {name}")


def _media_bound(part: Mapping[str, Any], kind: str, here: str, model: Model) -> int:
    tokens_max: int | None = getattr(model, _MEDIA[kind])
    if tokens_max is None:
        refuse(f"{here}.type", f"The model {model.id!r} does not take parts of type {kind} here.")
    mapping(part.get(kind), f"{here}.{kind}")
    return tokens_max
