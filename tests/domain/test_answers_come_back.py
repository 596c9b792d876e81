"""An answer's message is accepted as it came, from every provider: clients append it and go on."""

from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletionMessage

from support.models import make_model
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.chat import read_chat_request
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model()
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

MESSAGES: dict[str, dict[str, Any]] = {
    "OpenAI": {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []},
    "OpenAI, web search": {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {"start_index": 0, "end_index": 2, "title": "T", "url": "https://example.com"},
            }
        ],
    },
    "OpenAI, tool call": {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL],
        "refusal": None,
        "annotations": [],
    },
    "OpenAI, audio": {"role": "assistant", "content": "Hi", "refusal": None, "audio": None, "annotations": []},
    "DeepSeek": {"role": "assistant", "content": "Hi", "reasoning_content": "Because"},
    "DeepSeek, tool call": {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Because",
        "tool_calls": [CALL | {"index": 0}],
    },
    "OpenRouter": {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "reasoning": "Because",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "Because", "signature": None, "format": "unknown", "index": 0},
            {"type": "reasoning.encrypted", "data": "AAAA", "id": "r1", "format": "x", "index": 1},
        ],
    },
    "vLLM": {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "reasoning": "Because",
        "reasoning_content": "Because",
    },
    "SGLang": {"role": "assistant", "content": "Hi", "reasoning_content": None, "tool_calls": None},
    "Mistral": {"role": "assistant", "tool_calls": None, "content": "Hi", "prefix": False},
    "Mistral, reasoning": {
        "role": "assistant",
        "tool_calls": None,
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Because"}], "closed": True},
            {"type": "text", "text": "Hi"},
        ],
        "prefix": False,
    },
    "Mistral, tool call without type": {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "D681PevKs", "function": {"name": "f", "arguments": "{}"}, "index": 0, "type": None}],
    },
    "Gemini": {
        "role": "assistant",
        "tool_calls": [
            {
                "extra_content": {"google": {"thought_signature": "A" * 2000}},
                "function": {"arguments": "{}", "name": "f"},
                "id": "",
                "type": "function",
            }
        ],
    },
    "Gemini, output used up": {"role": "assistant"},
    "Groq": {"role": "assistant", "content": "Hi", "reasoning": "Because"},
    "Ollama": {"role": "assistant", "content": "", "reasoning": "Because", "tool_calls": [CALL | {"index": 0}]},
    "llama.cpp": {"role": "assistant", "reasoning_content": "Because", "content": None, "tool_calls": [CALL]},
    "LiteLLM": {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL | {"id": "call_1__thought__" + "A" * 2000}],
        "function_call": None,
        "reasoning_content": "Because",
        "thinking_blocks": [{"type": "thinking", "thinking": "Because", "signature": "AAAA"}],
    },
    "xAI": {"role": "assistant", "content": "Hi", "reasoning_content": "Because", "refusal": None},
}


def read(messages: list[Any], model: Model = MODEL) -> MeteredRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}, *messages]}
    return read_chat_request(msgspec.json.encode(body), find_model=lambda _: model)


def strings(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(strings, inner))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_accepted_as_it_came_and_all_its_strings_count(name: str) -> None:
    message = MESSAGES[name]
    result = {"role": "tool", "tool_call_id": "call_1", "content": "5", "name": "f"}
    request = read([message, result])
    assert msgspec.json.decode(request.upstream_body)["messages"][1:] == [message, result]
    expected = strings({"role": "user", "content": "Hi"}) + strings(message) + strings(result) + 3 * 16 + 512
    assert request.prompt_bound == expected


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_accepted_as_the_openai_sdk_dumps_it(name: str) -> None:
    message = ChatCompletionMessage.construct(**MESSAGES[name])
    read([message.to_dict(warnings=False), message.model_dump(warnings=False)])


def test_a_null_member_counts_as_not_given_everywhere() -> None:
    read(
        [
            {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": None}], "tool_calls": None},
            {"role": "assistant", "content": "x", "tool_calls": [CALL | {"custom": None, "x": None}], "zzz": None},
            {"role": "tool", "content": "x", "tool_call_id": "c", "name": None, "annotations": None},
        ]
    )


@pytest.mark.parametrize(
    ("part", "bound"),
    [
        ({"type": "text", "text": "x"}, len("text") + 1),
        ({"type": "image_url", "image_url": {"url": "data:..."}}, 1000),
    ],
)
def test_an_operator_may_allow_a_member_of_a_part(part: dict[str, Any], bound: int) -> None:
    message = {"role": "user", "content": [part | {"cache_control": {"type": "ephemeral"}}]}
    model = msgspec.structs.replace(MODEL, image_tokens_max=1000)
    with pytest.raises(InvalidRequest) as refused:
        read([message], model)
    assert refused.value.param == "messages[1].content[0].cache_control"
    for extra in (("messages.cache_control",), ("cache_control",)):
        with pytest.raises(InvalidRequest):
            read([message], msgspec.structs.replace(model, extra_fields=extra))
    allowed = read([message], msgspec.structs.replace(model, extra_fields=("messages.content.cache_control",)))
    plain = read([], model)
    assert allowed.prompt_bound == plain.prompt_bound + 16 + len("user") + bound + len("ephemeral")
