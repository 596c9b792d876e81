"""What coding agents send to /v1/messages travels, whole and streamed.

Source: Claude Code 2.1.197 and 2.1.332 and opencode 1.18.33 against a recording server, on 2026-11-28.
"""

from typing import Any

import msgspec
import pytest

from support.messages_requests import CLIENT_TOOL, HELLO, IMAGE, MEDIA_MODEL, MODEL, count, read, sent
from tok0n.domain.endpoints.count_tokens import COUNT_TOKENS
from tok0n.domain.endpoints.messages import MESSAGES
from tok0n.domain.endpoints.messages_stream import KEEP_ALIVE
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

CACHED = {"cache_control": {"type": "ephemeral"}}
DEFERRED = CLIENT_TOOL | {"name": "g", "description": "d", "defer_loading": True}
MEMBERS: dict[str, dict[str, Any]] = {
    "max_tokens": {"max_tokens": 32_000},
    "max_tokens, Opus": {"max_tokens": 64_000},
    "max_tokens, newest": {"max_tokens": 128_000},
    "stream": {"stream": True},
    "stream: false, 332 after a broken stream": {"stream": False},
    "system": {
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
            {"type": "text", "text": "You are"} | CACHED,
        ]
    },
    "system in the middle": {"messages": [HELLO, {"role": "system", "content": "Now"}, HELLO]},
    "system in the middle, blocks": {
        "messages": [HELLO, {"role": "system", "content": [{"type": "text", "text": "Now"} | CACHED]}]
    },
    "a tool's turn": {
        "messages": [
            HELLO,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                    {"type": "text", "text": "Yes"},
                    {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [
                            {"type": "text", "text": "a"},
                            IMAGE,
                            {"type": "tool_reference", "tool_name": "g"},
                        ],
                        **CACHED,
                    }
                ],
            },
        ]
    },
    "a tool's result in one text": {
        "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "a", "is_error": True}]}
        ]
    },
    "tools": {"tools": [CLIENT_TOOL | CACHED, DEFERRED]},
    "28 tools": {"tools": [CLIENT_TOOL | {"name": f"f{number}"} for number in range(28)]},
    "thinking": {"thinking": {"type": "adaptive"}},
    "thinking, 332": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "thinking, 332 interactive": {"thinking": {"type": "adaptive", "display": "updates"}},
    "thinking, 4.5 models": {"thinking": {"type": "enabled", "budget_tokens": 31_999}},
    "thinking, Explore": {"thinking": {"type": "disabled"}},
    "effort": {"output_config": {"effort": "high"}},
    "context_management": {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
    "metadata": {"metadata": {"user_id": '{"device_id":"' + "d" * 64 + '","account_uuid":"","session_id":"s"}'}},
    "temperature, Explore with Haiku": {"temperature": 1},
    "tool_choice": {"tools": [CLIENT_TOOL], "tool_choice": {"type": "auto"}},
    "opencode": {
        "max_tokens": 32_000,
        "system": [{"type": "text", "text": "You are"} | CACHED],
        "tools": [CLIENT_TOOL],
        "tool_choice": {"type": "auto"},
    },
}
BOTH = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "thinking-token-count-2026-05-13,effort-2025-11-24"
)
BETAS = {
    "197": f"{BOTH},prompt-caching-scope-2026-01-05,mid-conversation-system-2026-04-07",
    "197 interactive": f"{BOTH},redact-thinking-2026-02-12",
    "332": f"{BOTH},mid-conversation-tool-changes-2026-07-01,advanced-tool-use-2025-11-20,per-turn-control-2026-07-01",
    "332 interactive": f"{BOTH},thinking-display-updates-2026-08-18,afk-mode-2026-01-31",
    "without experimental betas": "claude-code-20250219,interleaved-thinking-2025-05-14,effort-2025-11-24",
    "count_tokens": f"{BOTH},token-counting-2024-11-01",
}
COUNTED = ("messages", "system", "tools", "thinking", "output_config", "context_management", "tool_choice")


def header(request: MeteredRequest, name: str) -> str | None:
    return dict(request.upstream_headers).get(name)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_travels_whole_streamed_and_counted(name: str) -> None:
    fields = MEMBERS[name]
    for stream in ({}, {"stream": True}):
        body = sent(read(MEDIA_MODEL, beta_header=BOTH, **{**stream, **fields}))
        assert {name: body[name] for name in fields} == fields
    counted = {name: value for name, value in fields.items() if name in COUNTED}
    body = sent(count(MEDIA_MODEL, beta_header=BOTH, **counted))
    assert {name: body[name] for name in counted} == counted


@pytest.mark.parametrize("name", BETAS)
def test_every_beta_travels(name: str) -> None:
    for request in (read(beta_header=BETAS[name]), count(beta_header=BETAS[name])):
        assert header(request, "anthropic-beta") == BETAS[name]
        assert header(request, "anthropic-version") == "2023-06-01"
        assert request.dropped == ()


@pytest.mark.parametrize("beta", ["dangerous-tool-use-2026-09-03", "fallback-credit-2026-06-01"])
def test_the_betas_of_refused_members_are_dropped(beta: str) -> None:
    request = read(beta_header=f"{BOTH},{beta}")
    assert header(request, "anthropic-beta") == BOTH
    assert request.dropped == (beta,)


def test_safeguards_are_refused_in_words_after_which_claude_code_goes_on() -> None:
    safeguards = [{"type": "dangerous_tool_use", "classifier_context": {"x": "y" * 1_700}}]
    with pytest.raises(InvalidRequest) as refused:
        read(safeguards=safeguards)
    assert refused.value.message == "safeguards: Extra inputs are not permitted"


def test_an_output_limit_over_the_models_is_told_in_words_after_which_claude_code_goes_on() -> None:
    model = msgspec.structs.replace(MODEL, id="demo", max_output_tokens=16_384)
    with pytest.raises(InvalidRequest) as refused:
        read(model, max_tokens=32_000)
    expected = "max_tokens: 32000 > 16384, which is the maximum allowed number of output tokens for demo"
    assert refused.value.message == expected


def test_the_web_search_of_claude_code_is_an_error_that_it_hands_to_the_model() -> None:
    """Its request has no other tool. Without the tool, the model would make up the results."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    with pytest.raises(InvalidRequest) as refused:
        read(tools=[search], tool_choice={"type": "auto"})
    assert refused.value.param == "tools[0]"
    assert "web_search_20250305" in refused.value.message


@pytest.mark.parametrize("size", [49_000, 116_000, 2_000_000])
def test_bodies_of_any_usual_size_are_read(size: int) -> None:
    assert read(system="x" * size).prompt_bound > size


def test_errors_have_anthropics_shape_and_the_id_of_the_request() -> None:
    for endpoint in (MESSAGES, COUNT_TOKENS):
        body = endpoint.render_error(message="No", code="invalid_request", param="x", request_id="req_1")
        error = {"type": "invalid_request_error", "message": "No"}
        assert msgspec.json.decode(body) == {"type": "error", "error": error, "request_id": "req_1"}
        assert (endpoint.key_header, endpoint.request_id_header) == (b"x-api-key", b"request-id")


def test_a_silent_stream_sends_an_event_and_no_comment() -> None:
    assert not KEEP_ALIVE.startswith(b":")
