"""Requests to POST /v1/responses as coding agents send them."""

from typing import Any

import msgspec
import pytest

from support.models import make_model
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.responses import read_responses_request
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model(endpoints=("responses",))
STREAMING_MODEL = msgspec.structs.replace(MODEL, streaming_endpoints=("chat", "responses"))

SCHEMA = {
    "type": "object",
    "properties": {"cmd": {"type": "string"}},
    "required": ["cmd"],
    "additionalProperties": False,
}


def read(_model: Model = MODEL, /, **fields: Any) -> MeteredRequest:
    """Read a request for a gateway that doesn't stream."""
    body = msgspec.json.encode({"model": "m", "input": "Hi"} | fields)
    return read_responses_request(body, find_model=lambda _: _model)


def read_streaming(_model: Model = STREAMING_MODEL, /, **fields: Any) -> MeteredRequest:
    """Read a request for a gateway that streams."""
    body = msgspec.json.encode({"model": "m", "input": "Hi"} | fields)
    return read_responses_request(body, find_model=lambda _: _model, is_streaming=True)


def sent(request: MeteredRequest) -> Any:
    """Return the decoded body for the upstream."""
    return msgspec.json.decode(request.upstream_body)


def rejection(_model: Model = MODEL, /, **fields: Any) -> InvalidRequest:
    """Return the error of an invalid request."""
    with pytest.raises(InvalidRequest) as rejected:
        read(_model, **fields)
    return rejected.value


def function(name: str, **more: Any) -> dict[str, Any]:
    """Return a function tool."""
    return {"type": "function", "name": name, "description": "Runs it.", "strict": False, "parameters": SCHEMA} | more


def namespace(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    """Return a namespace of tools."""
    return {"type": "namespace", "name": name, "description": "Tools.", "tools": list(tools)}


def text_message(role: str, text: str, kind: str = "input_text") -> dict[str, Any]:
    """Return a message as Codex sends it, with an id that no SDK type has."""
    return {"type": "message", "id": "msg_1", "role": role, "content": [{"type": kind, "text": text}]}


APPLY_PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" LF'},
}
TOOL_SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": SCHEMA}
WEB_SEARCH = {"type": "web_search", "external_web_access": True, "search_content_types": ["text", "image"]}

CODEX: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "store": False,
    "tool_choice": "auto",
    "input": [text_message("developer", "You are a coding agent."), text_message("user", "Say hello")],
    "tools": [function("exec_command"), namespace("multi_agent_v1", function("spawn"), function("wait")), WEB_SEARCH],
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a21fa4-0000",
    "client_metadata": {"session_id": "s", "x-codex-turn-metadata": '{"cwd":"/home/me/secret","git":"git@host:me"}'},
}
"""A first turn of Codex 0.171.0 with a model id that it doesn't know."""

_HISTORY = [
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "gAAAAABo"},
    {"type": "function_call", "id": "fc_1", "name": "exec_command", "arguments": '{"cmd":"ls"}', "call_id": "call_1",
     "status": "completed", "namespace": "functions"},
    {"type": "function_call_output", "id": "fo_1", "call_id": "call_1", "output": "a.txt"},
    {"type": "custom_tool_call", "id": "ct_1", "name": "apply_patch", "input": "*** Begin Patch", "call_id": "call_2",
     "status": "completed"},
    {"type": "custom_tool_call_output", "id": "co_1", "call_id": "call_2",
     "output": [{"type": "input_text", "text": "Done"}]},
    {"type": "tool_search_call", "id": "ts_1", "execution": "client", "call_id": "call_3", "status": "completed",
     "arguments": {"query": "calendar", "limit": 3}},
    {"type": "tool_search_output", "id": "to_1", "execution": "client", "call_id": "call_3", "status": "completed",
     "tools": [namespace("mcp__calendar", function("list", defer_loading=True))]},
    text_message("assistant", "Done.", "output_text"),
    text_message("user", "Thanks"),
]  # fmt: skip
_OUTPUT_SCHEMA = {
    "verbosity": "low",
    "format": {"type": "json_schema", "strict": True, "schema": SCHEMA, "name": "codex_output_schema"},
}

AGENTS: dict[str, dict[str, Any]] = {
    "Codex, an unknown model": CODEX,
    "Codex, later turns": CODEX | {"input": [*CODEX["input"], *_HISTORY]},
    "Codex, gpt-5.5": CODEX
    | {
        "tools": [function("exec_command"), APPLY_PATCH, TOOL_SEARCH, namespace("multi_agent_v1", function("spawn"))],
        "reasoning": {"effort": "medium"},
        "text": {"verbosity": "low"},
    },
    "Codex, gpt-6, whose tools are an input item": {name: value for name, value in CODEX.items() if name != "tools"}
    | {
        "input": [
            {
                "type": "additional_tools",
                "id": "at_1",
                "role": "developer",
                "tools": [namespace("functions", APPLY_PATCH | {"name": "exec"}), namespace("clock", function("now"))],
            },
            *CODEX["input"],
        ],
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "context": "all_turns"},
    },
    "Codex, a compaction": CODEX | {"tools": [], "parallel_tool_calls": False, "input": [*CODEX["input"], *_HISTORY]},
    "Codex, a title": CODEX | {"tools": [], "text": _OUTPUT_SCHEMA},
    "Codex, the guardian": CODEX | {"prompt_cache_key": "guardian:01a2", "text": _OUTPUT_SCHEMA, "tools": []},
    "Codex, no summaries": CODEX | {"reasoning": {}},
    "opencode": {
        "model": "m",
        "input": [
            {"role": "developer", "content": "You are opencode."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        ],
        "max_output_tokens": 500,
        "store": False,
        "prompt_cache_key": "k",
        "tools": [function("bash")],
        "tool_choice": "auto",
        "stream": True,
    },
}
"""What each client sends. Source: measured against a recording server on 2026-11-28."""
