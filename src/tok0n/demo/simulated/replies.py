"""Decides what a simulated model replies, for every endpoint. Knows no HTTP and no shape of an answer."""

import re
from typing import Any

import msgspec

from tok0n.domain.catalogue import VERIFICATION_OUTPUT_TOKENS, VERIFICATION_PROMPT

QUOTED_CHARACTERS_MAX = 300
BYTES_PER_TOKEN = 4
"""The usual ratio for English text. It gives fewer tokens than bytes, so usage stays below the gateway's bound."""

ITEM_TOKENS = 4
REQUEST_TOKENS = 3

_CALL_LINE = re.compile(r"^\s*\[call (\S+) (\{.*\})\]\s*$", re.MULTILINE)


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the client runs. A custom tool takes text instead of a JSON object."""

    name: str
    parameters: Any = None
    is_custom: bool = False
    namespace: str | None = None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A message, a tool call or a tool's result. The role of a result is `tool`."""

    role: str
    text: str
    tokens: int


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What every endpoint's request says. `limit` is the output limit in tokens.

    `tool_choice` is `auto`, `none`, `required`, or the name of a tool in `{"name": …}`. `calls_unasked`: with `auto`,
    the reply calls the first tool unless the last item is a tool's result.
    """

    model: str
    items: list[Item]
    limit: int
    tools: list[Tool] = []
    tools_tokens: int = 0
    tool_choice: str | dict[str, Any] = "auto"
    calls_unasked: bool = False
    stops: list[str] = []
    response_format: str | None = None
    schema: Any = None

    @property
    def prompt_tokens(self) -> int:
        """The tokens of the items and tool definitions."""
        return REQUEST_TOKENS + self.tools_tokens + sum(item.tokens for item in self.items)

    @property
    def is_verification(self) -> bool:
        """Whether the request is a verification by the gateway."""
        return (
            len(self.items) == 1
            and self.items[0].text == VERIFICATION_PROMPT
            and self.limit <= VERIFICATION_OUTPUT_TOKENS
        )

    @property
    def last(self) -> Item:
        """The last item. Instructions that follow the user's turn don't hide it."""
        spoken = [item for item in self.items if item.role not in {"system", "developer"}]
        return spoken[-1] if spoken else self.items[-1]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The text of an answer, or the arguments of a tool call in `text`, cut at the output limit."""

    text: str
    tokens: int
    tool: Tool | None = None
    is_cut: bool = False
    stop: str | None = None


def reply_to(conversation: Conversation) -> Reply:
    """Return the reply: a tool call if the user's turn or `tool_choice` wants one, else a text."""
    tool, text = _call(conversation)
    stop = None
    if tool is None:
        text, stop = _until_stop(conversation.stops, _text(conversation))
    cut = text.encode()[: BYTES_PER_TOKEN * conversation.limit].decode(errors="ignore")
    counted = cut if tool is None else tool.name + cut
    tokens = min(conversation.limit, max(1, tokens_of(counted)))
    is_cut = cut != text
    return Reply(text=cut, tokens=tokens, tool=tool, is_cut=is_cut, stop=None if is_cut else stop)


def tokens_of(text: str) -> int:
    """Return the simulated tokens of a text."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def json_of(value: Any) -> str:
    """Return a value as JSON text."""
    return msgspec.json.encode(value).decode()


def strings_of(value: Any) -> str:
    """Return every string value in a decoded JSON value, joined. The gateway's bound counts the same strings."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(map(strings_of, value.values()))
    return "".join(map(strings_of, value)) if isinstance(value, list) else ""


def _call(conversation: Conversation) -> tuple[Tool | None, str]:
    """Return the tool to call and its arguments. No tool: the reply is a text."""
    choice, tools = conversation.tool_choice, conversation.tools
    if choice == "none" or not tools:
        return None, ""
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool.name == choice.get("name")]
    last = conversation.last
    if last.role == "user":
        for name, arguments in reversed(_CALL_LINE.findall(last.text)):
            for tool in tools:
                if tool.name == name and _is_object(arguments):
                    return tool, _input(arguments) if tool.is_custom else arguments
    is_wanted = isinstance(choice, dict) or choice == "required"
    is_wanted = is_wanted or (conversation.calls_unasked and last.role != "tool")
    if not is_wanted or not tools:
        return None, ""
    return tools[0], "simulated" if tools[0].is_custom else json_of(_sample(tools[0].parameters))


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(arguments), dict)
    except msgspec.DecodeError:
        return False


def _input(arguments: str) -> str:
    """Return the text for a custom tool: the member `input`, or else the JSON as it is."""
    text = msgspec.json.decode(arguments).get("input")
    return text if isinstance(text, str) else arguments


def _sample(schema: Any) -> Any:
    """Return a sample value for a JSON schema. Considers only types, enums, examples and defaults."""
    if not isinstance(schema, dict):
        return {}
    for name in ("enum", "examples"):
        if isinstance(schema.get(name), list) and schema[name]:
            return schema[name][0]
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    if kind == "object":
        return {name: _sample(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_sample(schema.get("items", {"type": "string"}))]
    return {"integer": 1, "number": 1, "boolean": True, "null": None}.get(kind, "simulated")


def _until_stop(stops: list[str], text: str) -> tuple[str, str | None]:
    """Return the text before the first stop string, and that string."""
    match = min(((text.find(stop), stop) for stop in stops if stop and stop in text), default=None)
    return (text, None) if match is None else (text[: match[0]], match[1])


def _text(conversation: Conversation) -> str:
    """Return the text of the reply, or JSON if the response format requires it."""
    if conversation.last.text == VERIFICATION_PROMPT:
        return "OK"
    if conversation.response_format == "json_schema":
        return json_of(_sample(conversation.schema))
    description = _description(conversation)
    if conversation.response_format == "json_object":
        return json_of({"simulated": True, "answer": description})
    return description


def _description(conversation: Conversation) -> str:
    """Describe the request in sentences."""
    last = conversation.last
    text = last.text
    quoted = text if len(text) <= QUOTED_CHARACTERS_MAX else text[:QUOTED_CHARACTERS_MAX] + "…"
    sentences = [
        f"This is {conversation.model}, a simulated model in Tok0n's demo. It uses no language model.",
        f"Your last message, as {last.role}, has {_count(len(text.split()), 'word')}: “{quoted}”.",
    ]
    others = [item for item in conversation.items if item is not last]
    instructions = sum(item.role in {"system", "developer"} for item in others)
    if instructions:
        sentences.append(f"You also gave {_count(instructions, 'instruction')}, which a real model would follow.")
    earlier = len(others) - instructions
    if earlier:
        sentences.append(f"You sent {_count(earlier, 'message')} before it.")
    if conversation.tools:
        sentences.append(f"A real model could have called one of {_count(len(conversation.tools), 'tool')}.")
    sentences.append("The gateway reserved tokens for this request, charged the usage below, and released the rest.")
    return " ".join(sentences)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
