"""A conversation in the playground. The page keeps it and sends it with each form; the server stores nothing of it."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tok0n.domain.errors import InvalidRequest

CONVERSATION_BYTES_MAX = 131_072
"""The most UTF-8 bytes of a conversation's JSON. Percent-encoded, it still fits into a form."""

EXCHANGES_MAX = 1_000

PARAM = "conversation"
"""The input that has the conversation."""

_Count = Annotated[int, Meta(ge=0, le=10**15)]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user's text with the model's response and its receipt, in tokens.

    `charged` is None until the bill of a stopped stream is known.
    """

    user: str
    assistant: str
    model: Annotated[str, Meta(max_length=256)]
    request_id: Annotated[str, Meta(pattern=r"\Areq_[0-9a-f]{1,64}\Z")]
    reserved: _Count
    charged: _Count | None = None
    stopped: bool = False


_DECODER = msgspec.json.Decoder(Annotated[tuple[Exchange, ...], Meta(max_length=EXCHANGES_MAX)])


def read_conversation(text: str) -> tuple[Exchange, ...]:
    """Decode the conversation of a form. An empty text is an empty one. Raises `InvalidRequest`."""
    try:
        return _DECODER.decode(text) if text else ()
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        raise InvalidRequest("We couldn't read the earlier messages. Start a new conversation.", param=PARAM) from None


def write_conversation(exchanges: Sequence[Exchange]) -> str:
    """Encode a conversation for a form."""
    return msgspec.json.encode(exchanges).decode() if exchanges else ""


def check_size(exchanges: Sequence[Exchange]) -> None:
    """Raise `InvalidRequest` if a conversation is too long to continue."""
    if len(write_conversation(exchanges).encode()) > CONVERSATION_BYTES_MAX:
        raise InvalidRequest(
            f"This conversation is longer than {CONVERSATION_BYTES_MAX // 1024} KiB. Start a new one, or send the"
            " request from your own program.",
            param=PARAM,
        )


def turns_of(exchanges: Sequence[Exchange]) -> list[Turn]:
    """Return the turns of the exchanges. A response without text is left out."""
    turns = []
    for exchange in exchanges:
        turns.append(Turn(role="user", text=exchange.user))
        if exchange.assistant:
            turns.append(Turn(role="assistant", text=exchange.assistant))
    return turns


def as_messages(earlier: Sequence[Turn], text: str) -> list[dict[str, str]]:
    """Return the messages of a request in the format that OpenAI and Anthropic share: the turns, then the text."""
    messages = [{"role": turn.role, "content": turn.text} for turn in earlier]
    return [*messages, {"role": "user", "content": text}]
