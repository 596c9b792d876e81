"""Measure the prompt of a request to /v1/messages: its text, its blocks, and its images and documents."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.bound import TextSize
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.messages_fields import MEDIA, MESSAGE, MESSAGES, ROLES

_encode = msgspec.json.Encoder().encode


class PromptSize(msgspec.Struct, kw_only=True):
    """The size of a prompt. `messages` counts the system prompt, the messages, and their blocks other than text.

    `part_tokens` is the most tokens that its images and documents can cost.
    """

    messages: int
    text: TextSize
    part_tokens: int = 0


def prompt_size(values: Mapping[str, Any], model: Model) -> PromptSize:
    """Check the messages, and measure them with the checked system prompt.

    Plain ASCII messages, the most common ones, skip the tables for speed.
    """
    messages: Any = values.get("messages")
    MESSAGES.check_length(messages, "messages", model)
    size = PromptSize(messages=len(messages), text=TextSize())
    plain_bytes = 0
    for position, message in enumerate(messages):
        if type(message) is dict and len(message) == 2:
            role, content = message.get("role"), message.get("content")
            if type(content) is str and type(role) is str and role in ROLES and content.isascii():
                plain_bytes += len(role) + len(content)
                continue
        MESSAGE.check(message, ("messages", position), model)
        _measure(message, model, size)
    size.text.ascii_bytes += plain_bytes
    if "system" in values:
        size.messages += 1
        _measure({"content": values["system"]}, model, size)
    return size


def _measure(value: Mapping[str, Any], model: Model, size: PromptSize) -> None:
    """Add a checked message or block to `size`: its strings, and the JSON of its other members.

    A template can render the names in a tool's input, so that counts as JSON. An image or a document costs a fixed
    maximum instead of its data, but the text of a text document counts as well.
    """
    kind = value.get("type")
    for name, member in value.items():
        if type(member) is str:
            size.text.add(member)
        elif name == "content" and type(member) is list:
            for block in member:
                size.messages += block["type"] != "text"
                _measure(block, model, size)
        elif name == "source" and kind in MEDIA:
            size.part_tokens += getattr(model, MEDIA[kind])
            if member["type"] == "text":
                size.text.add(member["data"])
        elif type(member) in {dict, list}:
            size.text.add(_encode(member).decode())
