"""Tools of the client travel. Tools that the provider would run are dropped and named, or rejected."""

from typing import Any

import msgspec
import pytest

from support import anthropic_sdk
from support.messages_requests import CLIENT_TOOL, MODEL, count, read, sent
from tok0n.domain.errors import InvalidRequest

TOOLS = set(anthropic_sdk.read_table()["tools"])
TYPED = {kind for kind in TOOLS if kind.startswith(("bash_", "text_editor_", "memory_", "computer_2"))}
UNBOUNDED = {"browser_toolset_20260801", "computer_toolset_20260801"}
"""Toolsets: the provider describes an unknown number of tools."""
HOSTED = TOOLS - TYPED - UNBOUNDED - {"custom"}
NO_NAMES = ["web_search_a\r\nx: y", "web_search_\r", "web_fetch_é", "advisor_" + "x" * 65, "mcp_toolset, x"]
"""Types that a response header can't name."""
REFUSING = msgspec.structs.replace(MODEL, hosted_tools="refuse")


def tool(kind: str) -> dict[str, Any]:
    return {"type": kind, "name": "t"}


def test_the_tools_of_the_sdk_are_of_four_kinds() -> None:
    kinds = {"advisor", "code_execution", "mcp_toolset", "tool_search_tool", "web_fetch", "web_search"}
    assert {kind for kind in TOOLS if kind.startswith(tuple(kinds))} == HOSTED
    assert {prefix for prefix in kinds if any(kind.startswith(prefix) for kind in HOSTED)} == kinds


@pytest.mark.parametrize("kind", sorted(TYPED))
def test_typed_tools_of_the_client_travel(kind: str) -> None:
    for reader in (read, count):
        request = reader(tools=[tool(kind)])
        assert (sent(request)["tools"], request.dropped) == ([tool(kind)], ())


@pytest.mark.parametrize("kind", ["custom", None])
def test_a_tool_needs_no_type(kind: str | None) -> None:
    assert sent(read(tools=[CLIENT_TOOL | {"type": kind}]))["tools"] == [CLIENT_TOOL | {"type": kind}]


@pytest.mark.parametrize("kind", sorted(HOSTED))
@pytest.mark.parametrize("choice", [{}, {"tool_choice": None}, {"tool_choice": {"type": "auto"}}])
def test_hosted_tools_are_dropped_and_named(kind: str, choice: dict[str, Any]) -> None:
    for reader in (read, count):
        request = reader(tools=[tool(kind), CLIENT_TOOL, tool(kind)], **choice)
        assert (sent(request)["tools"], request.dropped) == ([CLIENT_TOOL], (kind,))
        assert request.bound == reader(tools=[CLIENT_TOOL], **choice).bound


@pytest.mark.parametrize("kind", sorted(HOSTED))
@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (MODEL, {"tool_choice": {"type": "any"}}),
        (MODEL, {"tool_choice": {"type": "none"}}),
        (MODEL, {"tool_choice": {"type": "tool", "name": "t"}}),
        (REFUSING, {}),
        (REFUSING, {"tool_choice": {"type": "auto"}}),
    ],
)
def test_a_request_that_counts_on_a_hosted_tool_is_refused(kind: str, model: Any, fields: dict[str, Any]) -> None:
    for reader in (read, count):
        with pytest.raises(InvalidRequest) as refused:
            reader(model, tools=[CLIENT_TOOL, tool(kind)], **fields)
        assert refused.value.param == "tools[1]"
        assert kind in refused.value.message


def test_a_request_with_nothing_but_hosted_tools_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(tools=[tool("web_search_20260318"), tool("web_fetch_20260318")])
    assert refused.value.param == "tools[0]"
    assert "WebSearch" in refused.value.message


@pytest.mark.parametrize(
    "kind", [*sorted(UNBOUNDED), "function", "bash", "bash_x", "computer_use", "", [], {}, 7, *NO_NAMES]
)
def test_a_tool_of_another_type_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(tools=[CLIENT_TOOL, {"type": kind, "name": "t"}])
    assert refused.value.param == "tools[1].type"


@pytest.mark.parametrize(
    ("param", "wrong"),
    [
        ("tools[0]", 7),
        ("tools[0].name", {"input_schema": {}}),
        ("tools[0].name", {"type": "bash_20250124"}),
        ("tools[0].input_schema", {"name": "f"}),
        ("tools[0].zzz", CLIENT_TOOL | {"zzz": 1}),
        ("tools[0].defer_loading", CLIENT_TOOL | {"defer_loading": "yes"}),
        ("tools[0].allowed_callers[0]", CLIENT_TOOL | {"allowed_callers": ["code_execution_20250825"]}),
    ],
)
def test_what_is_wrong_with_a_tool_is_named(param: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(tools=[wrong])
    assert refused.value.param == param


def test_a_model_bounds_its_tools() -> None:
    read(tools=[CLIENT_TOOL] * MODEL.tools_max)
    with pytest.raises(InvalidRequest) as refused:
        read(tools=[CLIENT_TOOL] * (MODEL.tools_max + 1))
    assert refused.value.param == "tools"


@pytest.mark.parametrize("choice", [{"type": "function"}, "auto", {"type": "tool"}, {}, {"type": []}])
def test_a_tool_choice_that_is_not_anthropics_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(tools=[CLIENT_TOOL], tool_choice=choice)
    assert (refused.value.param or "").startswith("tool_choice")
