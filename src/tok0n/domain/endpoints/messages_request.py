"""Check a request to /v1/messages or /v1/messages/count_tokens, and remove what the upstream must not get."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.endpoint import FindModel
from tok0n.domain.endpoints.fields import NAME_CHARACTERS_MAX, Field, reject
from tok0n.domain.endpoints.find_model import find_listed
from tok0n.domain.endpoints.messages_betas import (
    drop_members,
    read_betas,
    read_version,
    reject_blocks,
    split_betas,
)
from tok0n.domain.endpoints.messages_fields import NOT_PERMITTED, REQUIRED
from tok0n.domain.endpoints.messages_size import PromptSize, prompt_size
from tok0n.domain.endpoints.messages_tools import drop_hosted_tools
from tok0n.domain.json_text import JsonText, decode_object

_CHECKED_SEPARATELY = frozenset({"model", "messages", "max_tokens"})


class CheckedRequest(msgspec.Struct, kw_only=True):
    """A checked request. `values` and `raw` have what the upstream gets, decoded and as the client's bytes.

    `headers` are for the upstream. `dropped` names the hosted tools, betas and members that were removed. `extra_bytes`
    is the size of the operator's extra fields.
    """

    model: Model
    values: dict[str, Any]
    raw: dict[str, msgspec.Raw]
    size: PromptSize
    headers: tuple[tuple[str, str], ...]
    dropped: tuple[str, ...]
    extra_bytes: int


def check_request(
    body: JsonText, *, fields: Mapping[str, Field], find_model: FindModel, headers: Mapping[bytes, bytes]
) -> CheckedRequest:
    """Check a request whose endpoint has these fields. Raises `InvalidRequest`, which names the field."""
    values, raw = decode_object(body)
    model = find_listed(values.get("model"), find_model, "messages")
    version = read_version(headers)
    forwarded, dropped = split_betas(read_betas(headers), model)
    extra_bytes = _check_fields(values, raw, model, fields)
    size = prompt_size(values, model)
    reject_blocks(values["messages"], model, dropped=dropped)
    tools = drop_hosted_tools(values, raw, model)
    members = drop_members(values, raw, forwarded=forwarded, dropped=dropped) if dropped else ()
    betas = (("anthropic-beta", ",".join(forwarded)),) if forwarded else ()
    return CheckedRequest(
        model=model,
        values=values,
        raw=raw,
        size=size,
        headers=(("anthropic-version", version), *betas),
        dropped=(*tools, *dropped, *members),
        extra_bytes=extra_bytes,
    )


def _check_fields(
    values: dict[str, Any], raw: dict[str, msgspec.Raw], model: Model, fields: Mapping[str, Field]
) -> int:
    """Check all fields except the model and the messages. Returns the bytes of the `extra_fields`.

    Removes every optional field that is null, because Anthropic's API rejects null in some of them.
    """
    extra_bytes = 0
    for name, value in tuple(values.items()):
        if value is None and name not in REQUIRED:
            del values[name], raw[name]
        elif name in fields:
            if name not in _CHECKED_SEPARATELY:
                fields[name].check(value, name, model)
        elif name in model.extra_fields:
            extra_bytes += len(bytes(raw[name]))
        else:
            name = name[:NAME_CHARACTERS_MAX]  # noqa: PLW2901
            reject(name, f"{name}: {NOT_PERMITTED}")
    if "max_tokens" in fields:
        fields["max_tokens"].check(values.get("max_tokens"), "max_tokens", model)
    return extra_bytes
