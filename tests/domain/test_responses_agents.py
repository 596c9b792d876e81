"""What coding agents send to POST /v1/responses is accepted, and only what the docs name is removed."""

import json
from typing import Any

import msgspec
import pytest

from support.models import make_model
from support.responses_requests import AGENTS, CODEX, WEB_SEARCH, text_message
from tok0n.domain.endpoints.responses import read_responses_request
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model(endpoints=("responses",), streaming_endpoints=("responses",), image_tokens_max=1500)


def read(body: dict[str, Any]) -> MeteredRequest:
    return read_responses_request(json.dumps(body).encode(), find_model=lambda _: MODEL, is_streaming=True)


@pytest.mark.parametrize("agent", AGENTS)
def test_what_an_agent_sends_travels(agent: str) -> None:
    body = AGENTS[agent]
    request = read(body)
    expected = {name: value for name, value in body.items() if name != "client_metadata"} | {"model": "um"}
    if "tools" in expected:
        expected["tools"] = [tool for tool in body["tools"] if tool != WEB_SEARCH]
    assert msgspec.json.decode(request.upstream_body) == {"max_output_tokens": 100, **expected}
    assert request.dropped == (("web_search",) if WEB_SEARCH in body.get("tools", ()) else ())
    assert request.stream is not None


@pytest.mark.parametrize("agent", AGENTS)
def test_private_metadata_neither_travels_nor_counts(agent: str) -> None:
    body = AGENTS[agent]
    request = read(body)
    plain = read({name: value for name, value in body.items() if name != "client_metadata"})
    assert request == plain
    assert b"secret" not in request.upstream_body


def test_an_image_of_codex_travels() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 50_000, "detail": "high"}
    message = text_message("user", "Look")
    plain = read(CODEX | {"input": [message]})
    with_image = read(CODEX | {"input": [message | {"content": [*message["content"], image]}]})
    assert with_image.prompt_bound == plain.prompt_bound + 1500 + len("high")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"input": [*CODEX["input"], {"type": "compaction_trigger"}]}, "input[2].type"),
        (
            {"input": [text_message("user", "x") | {"internal_chat_message_metadata_passthrough": {"a": 1}}]},
            "input[0].internal_chat_message_metadata_passthrough",
        ),
    ],
)
def test_what_an_agent_never_sends_unasked_is_rejected_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        read(CODEX | fields)
    assert rejected.value.param == param
