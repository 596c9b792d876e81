"""Every documented input item and tool of POST /v1/responses travels or is rejected by name, members included."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam

from support.responses_requests import MODEL, read, rejection, sent
from tok0n.domain.endpoints.hosted_tools import is_hosted
from tok0n.domain.endpoints.responses import RESPONSES

MEDIA_MODEL = msgspec.structs.replace(MODEL, image_tokens_max=100, file_tokens_max=200)

ITEMS: dict[str, Any] = {
    "message": {"role": "user", "content": "Hi", "phase": None},
    "reasoning": {
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "a"}],
        "content": [{"type": "reasoning_text", "text": "b"}],
        "encrypted_content": "gAAA",
    },
    "function_call": {"call_id": "c", "name": "f", "arguments": "{}", "namespace": "n", "async": False},
    "function_call_output": {"call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
    "custom_tool_call": {
        "call_id": "c",
        "name": "f",
        "input": "x",
        "status": "completed",
        "caller": {"type": "direct"},
    },
    "custom_tool_call_output": {"call_id": "c", "output": "x"},
    "tool_search_call": {"execution": "client", "call_id": "c", "arguments": {"query": "x"}},
    "tool_search_output": {"execution": "client", "call_id": "c", "tools": [{"type": "function", "name": "f"}]},
    "additional_tools": {"role": "developer", "tools": [{"type": "namespace", "name": "n", "tools": []}]},
    "compaction": {"encrypted_content": "gAAA"},
    "configuration_update": {"reasoning": {"effort": "low"}, "text": {"format": {"type": "text"}}},
}


def documented_types(union: Any) -> dict[str, set[str]]:
    """Map the types in a union of the SDK's typed dictionaries to their members."""
    types: dict[str, set[str]] = {}
    for kind in get_args(union):
        hints = get_type_hints(kind)
        hint = hints["type"] if get_origin(hints["type"]) is Literal else get_args(hints["type"])[0]
        for name in get_args(hint):
            types.setdefault(name, set()).update(hints)
    return types


DOCUMENTED_ITEMS = documented_types(ResponseInputItemParam)


@pytest.mark.parametrize("kind", DOCUMENTED_ITEMS)
def test_every_documented_item_travels_or_is_rejected_by_name(kind: str) -> None:
    if kind in ITEMS:
        item = {"type": kind} | ITEMS[kind]
        assert sent(read(input=[item]))["input"] == [item]
    else:
        error = rejection(input=[{"type": kind, "id": "x", "role": "user"}])
        assert error.param == "input[0].type"
        assert kind in error.message


@pytest.mark.parametrize("kind", ITEMS)
def test_every_documented_member_of_an_item_is_accepted_and_no_other(kind: str) -> None:
    members = DOCUMENTED_ITEMS[kind] | {"id", "status", "created_by"}
    read(input=[dict.fromkeys(members) | {"type": kind} | ITEMS[kind]])
    for name in members - set(ITEMS[kind]) - {"type", "arguments"}:
        assert (rejection(input=[{"type": kind} | ITEMS[kind] | {name: 7.5}]).param or "").startswith(
            f"input[0].{name}"
        )
    item = {"type": kind} | ITEMS[kind] | {"zzz": 1}
    assert rejection(input=[item]).param == "input[0].zzz"
    assert sent(read(msgspec.structs.replace(MODEL, extra_fields=("input.zzz",)), input=[item]))["input"] == [item]


PARTS: dict[str, Any] = {
    "input_text": {"text": "x"},
    "output_text": {"text": "x", "annotations": [{"type": "url_citation", "url": "u"}], "logprobs": []},
    "refusal": {"refusal": "no"},
    "input_image": {"image_url": "data:image/png;base64,AAAA", "detail": "auto"},
    "input_file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf", "detail": "low"},
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("place", ["content", "output"])
def test_parts_travel_in_messages_and_outputs(kind: str, place: str) -> None:
    part = {"type": kind} | PARTS[kind]
    item = (
        {"role": "user", "content": [part]}
        if place == "content"
        else {"type": "function_call_output", "output": [part]}
    )
    assert sent(read(MEDIA_MODEL, input=[item]))["input"] == [item]
    path = f"input[0].{place}[0]"
    if kind in {"input_image", "input_file"}:
        error = rejection(input=[item])
        assert (error.param, kind in error.message) == (f"{path}.type", True)
    item[place] = [part | {"prompt_cache_breakpoint": {"mode": "explicit"}}]
    assert rejection(MEDIA_MODEL, input=[item]).param == f"{path}.prompt_cache_breakpoint"


@pytest.mark.parametrize(
    ("part", "member"),
    [
        ({"type": "input_image", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_url": "https://x"}, "file_url"),
        ({"type": "input_file", "file_url": "https://x", "file_data": "x"}, "file_url"),
        ({"type": "input_image"}, "image_url"),
        ({"type": "input_image", "image_url": {"url": "x"}}, "image_url"),
        ({"type": "input_audio", "input_audio": {}}, "type"),
        ({"type": []}, "type"),
        ({}, "type"),
    ],
)
def test_a_part_that_is_no_data_is_named(part: Any, member: str) -> None:
    error = rejection(MEDIA_MODEL, input=[{"role": "user", "content": [part]}])
    assert error.param == f"input[0].content[0].{member}"


DOCUMENTED_TOOLS = documented_types(ToolParam)
CLIENT_TOOLS: dict[str, Any] = {
    "function": {"name": "f", "parameters": {"type": "object"}, "strict": False, "defer_loading": True},
    "custom": {"name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}},
    "namespace": {"name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
    "tool_search": {"execution": "client", "description": "d", "parameters": {}},
}


@pytest.mark.parametrize("kind", DOCUMENTED_TOOLS)
def test_every_documented_tool_travels_or_is_dropped_or_is_rejected_by_name(kind: str) -> None:
    if kind in CLIENT_TOOLS:
        tool = {"type": kind} | CLIENT_TOOLS[kind]
        request = read(tools=[tool])
        assert (sent(request)["tools"], request.dropped) == ([tool], ())
    elif is_hosted({"type": kind}):
        request = read(tools=[{"type": kind}])
        assert (sent(request)["tools"], request.dropped) == ([], (kind,))
    else:
        assert rejection(tools=[{"type": kind}]).param == "tools[0].type"
        assert kind in {"shell", "local_shell", "apply_patch"}


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("tools[0].type", {"tools": [{"type": []}]}),
        ("tools[0]", {"tools": [7]}),
        ("tools[0].tools", {"tools": [{"type": "namespace", "name": "n"}]}),
        ("tools[0].tools[0].type", {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "namespace"}]}]}),
        ("tool_choice.type", {"tool_choice": {"type": {}}}),
        ("tool_choice.tools[0].type", {"tool_choice": {"type": "allowed_tools", "tools": [{"type": {}}]}}),
        ("text.format.type", {"text": {"format": {"type": []}}}),
        ("input[0].type", {"input": [{"type": {}}]}),
        ("input[0].role", {"input": [{"role": "tool", "content": "x"}]}),
        ("input[0].content", {"input": [{"role": "user"}]}),
        ("input[0].tools[0].name", {"input": [{"type": "additional_tools", "tools": [{"type": "function"}]}]}),
        ("input[0].summary[0].type", {"input": [{"type": "reasoning", "summary": [{"type": "text", "text": "x"}]}]}),
        ("input[0].execution", {"input": [{"type": "tool_search_call", "execution": "server"}]}),
    ],
)
def test_a_wrong_value_is_named_wherever_it_is(path: str, wrong: dict[str, Any]) -> None:
    assert rejection(**wrong).param == path


def test_a_model_bounds_each_list_of_tools() -> None:
    tool = {"type": "function", "name": "f"}
    for place in ("tools", "input"):
        for count, is_read in ((128, True), (129, False)):
            tools = [tool] * count
            fields: Any = (
                {"tools": tools} if place == "tools" else {"input": [{"type": "additional_tools", "tools": tools}]}
            )
            if is_read:
                read(**fields)
            else:
                assert "128" in rejection(**fields).message


def test_the_schema_offers_exactly_the_accepted_items() -> None:
    schema = RESPONSES.operation.schemas(is_streaming=False)["ResponsesItem"]
    offered = {name for kind in schema["anyOf"] for name in kind["properties"]["type"]["enum"] if name is not None}
    assert offered == set(ITEMS)
