"""A beta and its members go together: both travel, or both are dropped and named."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import anthropic_sdk
from support.messages_requests import CLIENT_TOOL, HELLO, MODEL, body_of, count, read, sent
from tok0n.domain.endpoints.endpoint import NO_HEADERS
from tok0n.domain.endpoints.messages import MESSAGES
from tok0n.domain.endpoints.messages_betas import BETAS_MAX, BLOCKS, DEFAULT_BETAS, MEMBERS, VERSION
from tok0n.domain.errors import InvalidRequest

NO_BETAS = msgspec.structs.replace(MODEL, anthropic_betas=())
ALL_BETAS = msgspec.structs.replace(MODEL, anthropic_betas=(*MEMBERS, *BLOCKS.values(), "context-1m-2025-08-07"))
CACHE = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
COMPUTER = {"name": "computer", "display_width_px": 1, "display_height_px": 1}

# For each beta: fields with its members, the same without them, and the names that are reported.
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "context-management-2025-06-27": (
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {},
        ("context_management",),
    ),
    "effort-2025-11-24": (
        {"output_config": {"effort": "high", "format": {"type": "json_schema"}}},
        {"output_config": {"format": {"type": "json_schema"}}},
        ("output_config.effort",),
    ),
    "advanced-tool-use-2025-11-20": (
        {"tools": [CLIENT_TOOL, CLIENT_TOOL | {"defer_loading": True, "input_examples": [{}]}]},
        {"tools": [CLIENT_TOOL, CLIENT_TOOL]},
        ("tools.defer_loading", "tools.input_examples"),
    ),
    "thinking-display-updates-2026-08-18": (
        {"thinking": {"type": "adaptive", "display": "updates"}},
        {"thinking": {"type": "adaptive"}},
        ("thinking.display",),
    ),
    "thinking-binding-controls-2026-08-01": (
        {"thinking": {"type": "adaptive", "block_binding": {}}},
        {"thinking": {"type": "adaptive"}},
        ("thinking.block_binding",),
    ),
    "task-budgets-2026-03-13": (
        {"output_config": {"task_budget": {"type": "tokens", "total": 5}}},
        {"output_config": {}},
        ("output_config.task_budget",),
    ),
    "structured-outputs-2025-11-13": (
        {
            "output_format": {"type": "json_schema"},
            "output_config": {"effort": "low", "format": {"type": "json_schema"}},
            "tools": [CLIENT_TOOL | {"strict": True}],
        },
        {"output_config": {"effort": "low"}, "tools": [CLIENT_TOOL]},
        ("output_format", "output_config.format", "tools.strict"),
    ),
    "fine-grained-tool-streaming-2025-05-14": (
        {"tools": [CLIENT_TOOL | {"eager_input_streaming": True}]},
        {"tools": [CLIENT_TOOL]},
        ("tools.eager_input_streaming",),
    ),
    "prompt-caching-scope-2026-01-05": (
        {
            "cache_control": CACHE,
            "system": [{"type": "text", "text": "a", "cache_control": CACHE}],
            "tools": [CLIENT_TOOL | {"cache_control": CACHE}],
            "messages": [
                HELLO,
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "a", "cache_control": CACHE},
                        {
                            "type": "tool_result",
                            "tool_use_id": "t",
                            "content": [{"type": "text", "text": "a", "cache_control": CACHE}],
                        },
                    ],
                },
            ],
        },
        {},
        (
            "cache_control.scope",
            "system.cache_control.scope",
            "tools.cache_control.scope",
            "messages.content.cache_control.scope",
            "messages.content.content.cache_control.scope",
        ),
    ),
    "extended-cache-ttl-2025-04-11": ({"cache_control": CACHE}, {}, ("cache_control.ttl",)),
    "prompt-caching-2024-07-31": ({"cache_control": CACHE}, {}, ("cache_control",)),
    "computer-use-2024-10-22": (
        {"tools": [CLIENT_TOOL, COMPUTER | {"type": "computer_20241022"}, {"type": "bash_20241022", "name": "bash"}]},
        {"tools": [CLIENT_TOOL]},
        ("tools",),
    ),
    "computer-use-2025-01-24": (
        {"tools": [CLIENT_TOOL, COMPUTER | {"type": "computer_20250124"}, {"type": "bash_20250124", "name": "bash"}]},
        {"tools": [CLIENT_TOOL, {"type": "bash_20250124", "name": "bash"}]},
        ("tools",),
    ),
    "computer-use-2025-11-24": (
        {"tools": [CLIENT_TOOL, COMPUTER | {"type": "computer_20251124"}]},
        {"tools": [CLIENT_TOOL]},
        ("tools",),
    ),
}


def without(value: Any, name: str) -> Any:
    """Return a value without a member of its `cache_control`, at any depth."""
    if isinstance(value, list):
        return [without(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: without(inner, name) for key, inner in value.items() if key != name}


def test_every_beta_with_members_has_a_case() -> None:
    assert set(PAIRS) == set(MEMBERS)
    assert set(MEMBERS) | set(BLOCKS.values()) <= set(DEFAULT_BETAS)
    assert len(set(DEFAULT_BETAS)) == len(DEFAULT_BETAS)


def test_no_default_beta_changes_a_price_or_needs_a_refused_field() -> None:
    prefixes = ("context-1m", "fast-mode", "mcp-client", "code-execution", "files-api", "skills", "compact",
                "server-side-fallback", "fallback-credit", "advisor", "user-profiles", "message-threads",
                "dangerous-tool-use", "inline-tools")  # fmt: skip
    assert [beta for beta in DEFAULT_BETAS if beta.startswith(prefixes)] == []
    documented = set(anthropic_sdk.read_table()["betas"])
    assert documented.intersection(DEFAULT_BETAS) >= {beta for beta in PAIRS if beta in documented}


@pytest.mark.parametrize("beta", PAIRS)
def test_a_beta_that_is_dropped_takes_its_members_with_it(beta: str) -> None:
    fields, rest, names = PAIRS[beta]
    if beta == "prompt-caching-scope-2026-01-05":
        rest = without(fields, "scope")
    elif beta == "extended-cache-ttl-2025-04-11":
        rest = without(fields, "ttl")
    bare = {"model": "um", "max_tokens": 100, "messages": [HELLO]}
    for reader in (read, count):
        expected = bare if reader is read else {name: bare[name] for name in ("model", "messages")}
        request = reader(NO_BETAS, beta_header=beta, **fields)
        assert sent(request) == expected | rest
        assert dict(request.upstream_headers) == {"anthropic-version": VERSION}
        assert request.dropped == (beta, *names)
        request = reader(MODEL, beta_header=beta, **fields)
        assert sent(request) == expected | fields
        assert dict(request.upstream_headers)["anthropic-beta"] == beta
        assert request.dropped == ()
        assert sent(reader(NO_BETAS, **fields)) == expected | fields


def test_a_member_that_a_forwarded_beta_needs_as_well_stays() -> None:
    model = msgspec.structs.replace(MODEL, anthropic_betas=("context-management-2025-06-27", "x"))
    fields = PAIRS["context-management-2025-06-27"][0]
    request = read(model, beta_header="context-management-2025-06-27,context-management-2027-01-01", **fields)
    assert sent(request)["context_management"] == fields["context_management"]
    assert request.dropped == ("context-management-2027-01-01",)


def test_a_display_that_needs_no_beta_stays() -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    request = read(NO_BETAS, beta_header="thinking-display-updates-2026-08-18", thinking=thinking)
    assert sent(request)["thinking"] == thinking
    assert request.dropped == ("thinking-display-updates-2026-08-18",)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_whose_beta_is_dropped_is_refused(kind: str) -> None:
    block = {"type": kind, "tool": {"type": "tool_reference", "name": "f"}}
    messages = [HELLO, {"role": "system", "content": [block]}]
    beta = BLOCKS[kind]
    assert sent(read(beta_header=beta, messages=messages))["messages"] == messages
    with pytest.raises(InvalidRequest) as refused:
        read(NO_BETAS, beta_header=beta, messages=messages)
    assert refused.value.param == "messages[1].content[0].type"
    assert beta in refused.value.message


def test_an_operator_may_list_other_betas() -> None:
    request = read(ALL_BETAS, beta_header="context-1m-2025-08-07, claude-code-20250219 ,,effort-2025-11-24")
    assert dict(request.upstream_headers)["anthropic-beta"] == "context-1m-2025-08-07,effort-2025-11-24"
    assert request.dropped == ("claude-code-20250219",)


def test_members_that_stay_keep_their_bytes() -> None:
    tool = b'{"name":"f","defer_loading":true,"input_schema":{ "maximum" : 1.50, "title":"\\u00e9" }}'
    body = b'{"model":"m","max_tokens":5,"messages":[],"tools":[%b]}' % tool
    body = body.replace(b'"messages":[]', b'"messages":[{"role":"user","content":"Hi"}]')
    headers = {b"anthropic-beta": b"advanced-tool-use-2025-11-20"}
    request = MESSAGES.read_request(body, find_model=lambda _: NO_BETAS, headers=headers)
    assert tool.replace(b'"defer_loading":true,', b"") in request.upstream_body


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({b"anthropic-version": b"latest"}, "anthropic-version"),
        ({b"anthropic-version": b"2023-06-01\xff"}, "anthropic-version"),
        ({b"anthropic-version": b"20\xb23-06-01"}, "anthropic-version"),
        ({b"anthropic-beta": b"a b"}, "anthropic-beta"),
        ({b"anthropic-beta": b"\xff"}, "anthropic-beta"),
        ({b"anthropic-beta": b"x" * 65}, "anthropic-beta"),
        ({b"anthropic-beta": b",".join(b"x%d" % number for number in range(BETAS_MAX + 1))}, "anthropic-beta"),
    ],
)
def test_a_header_that_makes_no_sense_is_named(headers: dict[bytes, bytes], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        MESSAGES.read_request(body_of(), find_model=lambda _: MODEL, headers=headers)
    assert refused.value.param == param
    assert param in refused.value.message


@pytest.mark.parametrize(
    ("sent_version", "forwarded"), [(None, VERSION), (b"", VERSION), (b"2023-01-01", "2023-01-01")]
)
def test_the_version_travels(sent_version: bytes | None, forwarded: str) -> None:
    headers = NO_HEADERS if sent_version is None else {b"anthropic-version": sent_version}
    request = MESSAGES.read_request(body_of(), find_model=lambda _: MODEL, headers=headers)
    assert request.upstream_headers == (("anthropic-version", forwarded),)


@given(version=st.binary(max_size=12), beta=st.binary(max_size=80))
def test_no_header_breaks_the_reader_or_a_line(version: bytes, beta: bytes) -> None:
    headers = {b"anthropic-version": version, b"anthropic-beta": beta}
    try:
        request = MESSAGES.read_request(body_of(), find_model=lambda _: MODEL, headers=headers)
    except InvalidRequest:
        return
    for text in (*dict(request.upstream_headers).values(), *request.dropped):
        assert text.isascii()
        assert text.isprintable()
