"""Check the messages of a chat request, and bound what they can cost.

An answer's message may come back as it is: beside OpenAI's fields, the fields that common providers put into their
answers are accepted in assistant messages. A member that is null counts as not given. All strings count, wherever they
are, but for those of an image, audio or file part, which has a maximum of its own.

Sources: OpenAI API reference, "Create chat completion", `messages`; for answers also those of vLLM, SGLang, DeepSeek,
OpenRouter, Mistral, Groq, LiteLLM and Gemini's OpenAI compatibility.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.bound import TextSize
from tok0n.domain.catalogue import Model
from tok0n.domain.chat_fields import boolean, mapping, refuse, sequence, text, word

MESSAGES_MAX = 10_000
PARTS_MAX = 10_000
EXTRA_PREFIX = "messages."
EXTRA_PART_PREFIX = "messages.content."

_COMMON = frozenset({"role", "content", "name"})
_REASONING_TEXTS = ("reasoning_content", "reasoning")
_LISTS_IN_ANSWERS = ("annotations", "reasoning_details", "thinking_blocks")
_IN_ANSWERS = frozenset({"refusal", "tool_calls", "function_call", "audio", "prefix"})
_KEYS: dict[str, frozenset[str]] = {
    "developer": _COMMON,
    "system": _COMMON,
    "user": _COMMON,
    "assistant": _COMMON.union(_IN_ANSWERS, _REASONING_TEXTS, _LISTS_IN_ANSWERS),
    "tool": _COMMON | {"tool_call_id"},
    "function": _COMMON,
}
_MEDIA = {"image_url": "image_tokens_max", "input_audio": "audio_tokens_max", "file": "file_tokens_max"}
_THINKING = "thinking"
_PART_KEYS = {kind: frozenset({"type", kind}) for kind in ("text", "refusal", *_MEDIA)}
_ASSISTANT_PART_KEYS = _PART_KEYS | {_THINKING: frozenset({"type", _THINKING, "signature", "closed"})}
"""Mistral's answers put reasoning into parts of the type `thinking`."""
_NOTHING: frozenset[str] = frozenset()


class MessagesBound(msgspec.Struct, kw_only=True):
    """What the messages can cost: their text, and the tokens of their image, audio and file parts."""

    messages: int
    text: TextSize
    part_tokens: int


class _Extra(msgspec.Struct, frozen=True):
    """The members that `extra_fields` allows in a message and in a content part."""

    message: frozenset[str] = _NOTHING
    part: frozenset[str] = _NOTHING


_NO_EXTRA = _Extra()


def read_messages(messages: Any, model: Model) -> MessagesBound:
    """Check all messages. Raises `InvalidRequest` with the path to the fault, as `messages[0].content`."""
    if type(messages) is not list or not messages:
        refuse("messages", "'messages' must be a list of at least one message.")
    sequence(messages, "messages", most=MESSAGES_MAX)
    extra = _extra(model) if model.extra_fields else _NO_EXTRA
    bound = MessagesBound(messages=len(messages), text=TextSize(), part_tokens=0)
    plain_bytes = 0
    for index, message in enumerate(messages):
        if type(message) is dict and len(message) == 2:
            role, content = message.get("role"), message.get("content")
            if type(content) is str and type(role) is str and role in _KEYS and content.isascii():
                plain_bytes += len(role) + len(content)
                continue
        _read_message(message, index, model, extra, bound)
    bound.text.ascii_bytes += plain_bytes
    return bound


def _extra(model: Model) -> _Extra:
    def after(prefix: str) -> frozenset[str]:
        return frozenset(name.removeprefix(prefix) for name in model.extra_fields if name.startswith(prefix))

    return _Extra(message=after(EXTRA_PREFIX), part=after(EXTRA_PART_PREFIX))


def _read_message(message: Any, index: int, model: Model, extra: _Extra, bound: MessagesBound) -> None:
    if type(message) is not dict:
        refuse(f"messages[{index}]", f"'messages[{index}]' must be an object.")
    role = message.get("role")
    if type(role) is not str or role not in _KEYS:
        refuse(f"messages[{index}].role", f"'messages[{index}].role' must be one of {', '.join(_KEYS)}.")
    if not message.keys() <= _KEYS[role]:
        _refuse_unknown(message, f"messages[{index}]", _KEYS[role] | extra.message)
    content = message.get("content")
    where = f"messages[{index}]"
    _read_content(content, where, role)
    _read_details(message, where, role)
    if type(content) is list:
        bound.text.add({key: value for key, value in message.items() if key != "content"})
        _read_parts(
            content,
            f"{where}.content",
            model,
            extra,
            bound,
            kinds=_ASSISTANT_PART_KEYS if role == "assistant" else _PART_KEYS,
        )
    else:
        bound.text.add(message)


def _refuse_unknown(members: Mapping[str, Any], where: str, known: frozenset[str]) -> None:
    """Refuse members that are not known, unless they are null."""
    for key, value in members.items():
        if key not in known and value is not None:
            name = f"{where}.{key[:80]}"
            refuse(name, f"Unrecognized request argument supplied: {name}")


def _read_content(content: Any, where: str, role: str) -> None:
    """An assistant may have said nothing: a model that reasoned up to its limit answers with null."""
    if type(content) in {str, list} or (content is None and role == "assistant"):
        return
    refuse(f"{where}.content", f"'{where}.content' must be a string or a list of parts.")


def _read_details(message: Mapping[str, Any], where: str, role: str) -> None:
    if role == "tool" or message.get("tool_call_id") is not None:
        text(message.get("tool_call_id"), f"{where}.tool_call_id")
    if message.get("name") is not None:
        word(message["name"], f"{where}.name")
    if role == "assistant":
        _read_answer(message, where)


def _read_answer(message: Mapping[str, Any], where: str) -> None:
    """The members that only an assistant message has."""
    for name in ("refusal", *_REASONING_TEXTS):
        if message.get(name) is not None:
            text(message[name], f"{where}.{name}")
    for name in _LISTS_IN_ANSWERS:
        if message.get(name) is not None:
            sequence(message[name], f"{where}.{name}", most=PARTS_MAX)
    if message.get("audio") is not None:
        refuse(f"{where}.audio", f"'{where}.audio' is not supported here: it is not billed by the token.")
    if message.get("prefix") is not None:
        boolean(message["prefix"], f"{where}.prefix")
    if message.get("tool_calls") is not None:
        _read_tool_calls(message["tool_calls"], f"{where}.tool_calls")
    if message.get("function_call") is not None:
        _read_named(message["function_call"], f"{where}.function_call", "arguments")


def _read_tool_calls(calls: Any, where: str) -> None:
    """Check tool calls. Their ids have no length limit of ours, because some providers keep a signature in them."""
    sequence(calls, where, most=PARTS_MAX)
    for index, call in enumerate(calls):
        here = f"{where}[{index}]"
        mapping(call, here)
        text(call.get("id"), f"{here}.id")
        kind = call.get("type")
        if kind is None:
            kind = "function"
        if kind not in ("function", "custom"):
            refuse(f"{here}.type", f"'{here}.type' must be function or custom.")
        _read_named(call.get(kind), f"{here}.{kind}", "arguments" if kind == "function" else "input")


def _read_named(value: Any, where: str, argument: str) -> None:
    mapping(value, where)
    word(value.get("name"), f"{where}.name")
    text(value.get(argument), f"{where}.{argument}")


def _read_parts(
    parts: list[Any],
    where: str,
    model: Model,
    extra: _Extra,
    bound: MessagesBound,
    *,
    kinds: Mapping[str, frozenset[str]],
) -> None:
    """Check content parts. A part with a maximum of its own counts that maximum instead of its strings."""
    if not parts:
        refuse(where, f"'{where}' must have at least one part.")
    sequence(parts, where, most=PARTS_MAX)
    for index, part in enumerate(parts):
        here = f"{where}[{index}]"
        mapping(part, here)
        kind = part.get("type")
        if type(kind) is not str or kind not in kinds:
            refuse(f"{here}.type", f"'{here}.type' must be one of text, refusal, {', '.join(_MEDIA)}.")
        known = kinds[kind]
        if not part.keys() <= known:
            _refuse_unknown(part, here, known | extra.part)
        if kind in _MEDIA:
            bound.part_tokens += _media_bound(part, kind, here, model)
            bound.text.add([value for key, value in part.items() if key not in known])
            continue
        bound.text.add(part)
        if kind != _THINKING:
            text(part.get(kind), f"{here}.{kind}")
        elif type(part.get(kind)) not in {str, list}:
            refuse(f"{here}.{kind}", f"'{here}.{kind}' must be a string or a list of parts.")


def _media_bound(part: Mapping[str, Any], kind: str, here: str, model: Model) -> int:
    tokens_max: int | None = getattr(model, _MEDIA[kind])
    if tokens_max is None:
        refuse(f"{here}.type", f"The model {model.id!r} does not take parts of type {kind} here.")
    mapping(part.get(kind), f"{here}.{kind}")
    return tokens_max
