"""A tool that the provider would run never travels, wherever a request has it, and everything else stays as it was."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.models import make_model
from support.responses_requests import APPLY_PATCH, CODEX, TOOL_SEARCH, WEB_SEARCH, function, namespace
from tok0n.domain.endpoints.responses import read_responses_request
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model(endpoints=("responses",), streaming_endpoints=("responses",))
REFUSING_MODEL = msgspec.structs.replace(MODEL, hosted_tools="refuse")
HOSTED = [
    WEB_SEARCH,
    {"type": "web_search_2025_08_26"},
    {"type": "web_search_preview"},
    {"type": "web_search_preview_2025_03_11"},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "computer"},
    {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "linux"},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "x", "server_url": "https://x", "authorization": "secret"},
    {"type": "programmatic_tool_calling"},
    {"type": "tool_search"},
    {"type": "tool_search", "execution": "server"},
]
CLIENTS = [function("f"), APPLY_PATCH, TOOL_SEARCH, namespace("n", function("g"), APPLY_PATCH)]


def places(tools: list[Any]) -> dict[str, tuple[dict[str, Any], str]]:
    """Return requests with `tools` in each place, and the path of the list."""
    message = {"role": "user", "content": "x"}
    return {
        "tools": ({"tools": tools}, "tools"),
        "additional tools": (
            {"input": [message, {"type": "additional_tools", "role": "developer", "tools": tools}]},
            "input[1].tools",
        ),
        "found tools": (
            {"input": [{"type": "tool_search_output", "execution": "client", "tools": tools}, message]},
            "input[0].tools",
        ),
        "a namespace": ({"tools": [namespace("n", *tools)]}, "tools[0].tools"),
        "a namespace of additional tools": (
            {"input": [{"type": "additional_tools", "tools": [function("f"), namespace("n", *tools)]}]},
            "input[0].tools[1].tools",
        ),
    }


def read(fields: dict[str, Any], model: Any = MODEL) -> MeteredRequest:
    body = {"model": "m", "input": "x"} | fields
    return read_responses_request(json.dumps(body).encode(), find_model=lambda _: model)


@pytest.mark.parametrize("place", places([]))
@pytest.mark.parametrize("tool", HOSTED)
def test_a_hosted_tool_is_dropped_and_named(tool: Any, place: str) -> None:
    with_tool = read(places([function("a"), tool, function("b")])[place][0])
    without = read(places([function("a"), function("b")])[place][0])
    assert with_tool.dropped == (tool["type"],)
    assert msgspec.json.decode(with_tool.upstream_body) == msgspec.json.decode(without.upstream_body)
    assert with_tool.prompt_bound <= without.prompt_bound
    assert "secret" not in with_tool.upstream_body.decode()


@pytest.mark.parametrize("place", places([]))
@pytest.mark.parametrize("tool", HOSTED)
@pytest.mark.parametrize(
    ("model", "choice"),
    [
        (REFUSING_MODEL, None),
        (REFUSING_MODEL, "auto"),
        (MODEL, "required"),
        (MODEL, "none"),
        (MODEL, {"type": "function", "name": "a"}),
        (MODEL, {"type": "allowed_tools", "mode": "auto", "tools": []}),
    ],
)
def test_a_hosted_tool_that_the_customer_counts_on_is_rejected(tool: Any, place: str, model: Any, choice: Any) -> None:
    fields, path = places([function("a"), tool])[place]
    with pytest.raises(InvalidRequest) as rejected:
        read(fields | {"tool_choice": choice}, model)
    assert rejected.value.param == f"{path}[1]"
    assert tool["type"] in rejected.value.message
    assert ('"auto"' in rejected.value.message) is (model is MODEL)


def test_the_error_says_how_codex_switches_its_tool_off() -> None:
    with pytest.raises(InvalidRequest) as rejected:
        read(CODEX | {"stream": False}, REFUSING_MODEL)
    assert 'web_search = "disabled"' in rejected.value.message


def test_only_the_affected_list_is_written_anew() -> None:
    body = (
        b'{"model":"m","temperature":1.0, "input":[ {"role":"user","content":"\\u00e9"} ],"tools":[ {"type" : "custom",'
    )
    body += b'"name":"\\u0066"} , {"type":"web_search"}]}'
    request = read_responses_request(body, find_model=lambda _: MODEL)
    assert request.upstream_body == (
        b'{"model":"um","temperature":1.0,"input":[ {"role":"user","content":"\\u00e9"} ],"tools":[{"type" : "custom",'
        b'"name":"\\u0066"}],"store":false,"max_output_tokens":100}'
    )


def test_only_the_affected_item_is_written_anew() -> None:
    tools = b'{"type":"additional_tools" , "tools":[{"type":"web_search"}, {"type" : "custom","name":"\\u0066"}]}'
    body = b'{"model":"m","input":[ {"role" : "user","content":1.50}, %b ]}'.replace(b"1.50", b'"\\u00e9"') % tools
    request = read_responses_request(body, find_model=lambda _: MODEL)
    assert request.upstream_body == (
        b'{"model":"um","input":[{"role" : "user","content":"\\u00e9"},{"type":"additional_tools",'
        b'"tools":[{"type" : "custom","name":"\\u0066"}]}],"store":false,"max_output_tokens":100}'
    )


TOOLS = st.lists(st.sampled_from(HOSTED + CLIENTS), max_size=6)


@given(top=TOOLS, added=TOOLS, found=TOOLS, inner=TOOLS)
def test_what_remains_is_what_the_client_runs_in_the_same_order(
    top: list[Any], added: list[Any], found: list[Any], inner: list[Any]
) -> None:
    inner = [tool for tool in inner if tool["type"] not in {"namespace", "tool_search"} or tool in HOSTED]

    def body(kept: Any) -> dict[str, Any]:
        item = {"type": "additional_tools", "tools": [*filter(kept, added), namespace("n", *filter(kept, inner))]}
        output = {"type": "tool_search_output", "execution": "client", "tools": list(filter(kept, found))}
        return {"tools": list(filter(kept, top)), "input": [item, {"role": "user", "content": "x"}, output]}

    request = read(body(lambda _: True))
    plain = read(body(lambda tool: tool not in HOSTED))
    assert msgspec.json.decode(request.upstream_body) == msgspec.json.decode(plain.upstream_body)
    dropped = [tool["type"] for tool in (*top, *added, *inner, *found) if tool in HOSTED]
    assert request.dropped == tuple(dict.fromkeys(dropped))
    assert plain.dropped == ()
