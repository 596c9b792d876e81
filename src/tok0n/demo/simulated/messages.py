"""`POST /messages` and `POST /messages/count_tokens` of the simulated upstream, in Anthropic's format."""

import uuid
from typing import Annotated, Any, ClassVar

import msgspec

from tok0n.demo.simulated.replies import (
    ITEM_TOKENS,
    Conversation,
    Item,
    Reply,
    Tool,
    json_of,
    reply_to,
    strings_of,
    tokens_of,
)
from tok0n.demo.simulated_stream import words_of

_UNREAD = frozenset({"source", "signature", "data", "cache_control"})
"""Members of a block that hold no text for the model."""


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | list[dict[str, Any]]

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The content as blocks."""
        return [{"type": "text", "text": self.content}] if isinstance(self.content, str) else self.content

    def item(self) -> Item:
        """Return the message. One with tool results is a result."""
        results = [block for block in self.blocks if block.get("type") == "tool_result"]
        text = " ".join(_text(block) for block in results or self.blocks)
        tokens = ITEM_TOKENS + sum(tokens_of(_counted(block)) for block in self.blocks)
        return Item(role="tool" if results else self.role, text=text, tokens=tokens)


class _Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that the prompt's tokens depend on. The simulation ignores the others."""

    prompt_field: ClassVar[str] = "messages"

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None

    def _conversation(self, *, limit: int, stops: list[str]) -> Conversation:
        system = [_Message(role="system", content=self.system)] if self.system else []
        output_format = (self.output_config or {}).get("format") or {}
        return Conversation(
            model=self.model,
            items=[message.item() for message in [*system, *self.messages]],
            limit=limit,
            tools=[
                msgspec.convert({"name": tool["name"], "parameters": tool["input_schema"]}, Tool)
                for tool in self.tools or []
                if "input_schema" in tool
            ],
            tools_tokens=tokens_of(json_of(self.tools)) if self.tools else 0,
            tool_choice=_choice(self.tool_choice),
            stops=stops,
            response_format=msgspec.convert(output_format.get("type"), str | None),
            schema=output_format.get("schema"),
        )


class CountBody(_Prompt, frozen=True, kw_only=True):
    """A request to count the tokens of a prompt."""

    stream = None
    stream_options = None

    def conversation(self) -> Conversation:
        """Return what the simulated model reads."""
        return self._conversation(limit=1, stops=[])

    def answer(self, conversation: Conversation) -> dict[str, Any]:
        """Return the number of tokens."""
        return {"input_tokens": conversation.prompt_tokens}

    def events(self, answer: dict[str, Any]) -> list[bytes]:
        """A count has no stream."""
        raise NotImplementedError(answer)


class MessagesBody(_Prompt, frozen=True, kw_only=True):
    """The fields of a request that the simulation uses. It ignores the others."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stop_sequences: list[str] | None = None
    stream: bool | None = None

    stream_options = None

    def conversation(self) -> Conversation:
        """Return what the simulated model reads."""
        return self._conversation(limit=self.max_tokens, stops=self.stop_sequences or [])

    def answer(self, conversation: Conversation) -> dict[str, Any]:
        """Return a message."""
        reply = reply_to(conversation)
        return {
            "id": f"msg_simulated_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [_block(reply)],
            "stop_reason": _stop_reason(reply),
            "stop_sequence": reply.stop,
            "usage": {
                "input_tokens": conversation.prompt_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": reply.tokens,
            },
        }

    def events(self, answer: dict[str, Any]) -> list[bytes]:
        """Return the events of a message. An answer without usage streams none."""
        usage = answer.get("usage")
        begun = answer | {"content": [], "stop_reason": None, "stop_sequence": None}
        if usage is not None:
            begun["usage"] = usage | {"output_tokens": 1}
        (block,) = answer["content"]
        end = {name: answer[name] for name in ("stop_reason", "stop_sequence")}
        final = {} if usage is None else {"usage": usage}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": block | _emptied(block)},
            {"type": "ping"},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in _deltas(block)),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end} | final,
            {"type": "message_stop"},
        ]
        return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event)) for event in events]


def _choice(choice: dict[str, Any] | None) -> str | dict[str, Any]:
    kind = (choice or {}).get("type", "auto")
    if kind == "tool":
        return {"name": (choice or {}).get("name")}
    return {"any": "required", "none": "none"}.get(kind, "auto")


def _text(block: dict[str, Any]) -> str:
    """Return the text of a block, or of a tool result's blocks."""
    content = block.get("content", block.get("text", ""))
    if isinstance(content, list):
        return " ".join(_text(part) for part in content)
    return content if isinstance(content, str) else ""


def _counted(block: dict[str, Any]) -> str:
    """Return the strings of a block that count as tokens."""
    read = {name: value for name, value in block.items() if name not in _UNREAD}
    if isinstance(read.get("content"), list):
        read["content"] = [_counted(part) for part in read["content"]]
    return strings_of(read)


def _block(reply: Reply) -> dict[str, Any]:
    if reply.tool is None:
        return {"type": "text", "text": reply.text, "citations": None}
    values = {} if reply.is_cut else msgspec.json.decode(reply.text)
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": reply.tool.name, "input": values}


def _stop_reason(reply: Reply) -> str:
    if reply.is_cut:
        return "max_tokens"
    if reply.tool is not None:
        return "tool_use"
    return "end_turn" if reply.stop is None else "stop_sequence"


def _emptied(block: dict[str, Any]) -> dict[str, Any]:
    return {"text": ""} if block["type"] == "text" else {"input": {}}


def _deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": word} for word in words_of(block["text"])]
    words = words_of(json_of(block["input"]))
    return [{"type": "input_json_delta", "partial_json": word} for word in words]
