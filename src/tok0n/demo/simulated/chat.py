"""`POST /chat/completions` of the simulated upstream."""

import time
import uuid
from typing import Annotated, Any, ClassVar

import msgspec

from tok0n.demo.simulated.replies import ITEM_TOKENS, Conversation, Item, Reply, Tool, json_of, reply_to, tokens_of
from tok0n.demo.simulated_stream import StreamOptions, events_of

CHOICES_MAX = 128
OUTPUT_TOKENS_DEFAULT = 1024


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """The members of a message that the simulation uses."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The text of the content."""
        if isinstance(self.content, list):
            return " ".join(part.get("text", "") for part in self.content)
        return self.content or ""

    @property
    def tokens(self) -> int:
        """The tokens of the message's text and tool calls."""
        calls = [call.get("function", {}) for call in self.tool_calls or []]
        texts = [self.text, *(call.get("name", "") + call.get("arguments", "") for call in calls)]
        return ITEM_TOKENS + sum(map(tokens_of, texts))


class ChatBody(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that the simulation uses. It ignores the others."""

    prompt_field: ClassVar[str] = "messages"

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None

    def conversation(self) -> Conversation:
        """Convert the request to what the simulated models of all endpoints read."""
        functions = [tool["function"] for tool in self.tools or [] if isinstance(tool.get("function"), dict)]
        choice = self.tool_choice or "auto"
        if isinstance(choice, dict):
            choice = choice["function"] if isinstance(choice.get("function"), dict) else "auto"
        answer_format = self.response_format or {}
        return Conversation(
            model=self.model,
            items=[Item(role=item.role, text=item.text, tokens=item.tokens) for item in self.messages],
            limit=self.max_completion_tokens or self.max_tokens or OUTPUT_TOKENS_DEFAULT,
            tools=[
                msgspec.convert({"name": function["name"], "parameters": function.get("parameters")}, Tool)
                for function in functions
            ],
            tools_tokens=tokens_of(json_of(self.tools)) if self.tools else 0,
            tool_choice=choice,
            calls_unasked=True,
            stops=[self.stop] if isinstance(self.stop, str) else self.stop or [],
            response_format=msgspec.convert(answer_format.get("type"), str | None),
            schema=answer_format["json_schema"].get("schema") if answer_format.get("type") == "json_schema" else None,
        )

    def answer(self, conversation: Conversation) -> dict[str, Any]:
        """Return a completion in OpenAI's format."""
        replies = [reply_to(conversation) for _ in range(self.n or 1)]
        prompt_tokens = conversation.prompt_tokens
        completion_tokens = sum(reply.tokens for reply in replies)
        return {
            "id": f"chatcmpl-simulated-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [_choice(reply, index) for index, reply in enumerate(replies)],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        }

    def events(self, answer: dict[str, Any]) -> list[bytes]:
        """Return the chunks of a completion. An answer without usage streams none."""
        options = self.stream_options or StreamOptions()
        return events_of(answer, options if "usage" in answer else StreamOptions())


def _choice(reply: Reply, index: int) -> dict[str, Any]:
    """Return a choice."""
    message: dict[str, Any] = {"role": "assistant", "content": None if reply.tool else reply.text, "refusal": None}
    if reply.tool:
        call = {"name": reply.tool.name, "arguments": reply.text}
        message["tool_calls"] = [{"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": call}]
    complete_reason = "tool_calls" if reply.tool else "stop"
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": "length" if reply.is_cut else complete_reason,
    }
