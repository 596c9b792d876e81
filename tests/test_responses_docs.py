"""docs/guide/responses.md is true: its snippets run, and its tables and events are those of the code."""

import json
import re
from pathlib import Path

import httpx2
import openai
import pytest

from support.chat_streams import RECEIPT
from support.response_streams import (
    BEGINNING,
    COMPLETED,
    CREATED,
    HELLO,
    ITEM_DONE,
    MODEL,
    body_of,
    read,
    reader,
    response_event,
)
from test_docs import _accepted
from tok0n.domain.answers import read_answer
from tok0n.domain.endpoints.responses import RESPONSES, read_responses_request
from tok0n.domain.endpoints.responses_stream import KEPT_MEMBER_CHARACTERS_MAX
from tok0n.domain.errors import UpstreamFailed
from tok0n.web.public.guide import VALUE

PAGE = (Path(__file__).parent.parent / "docs/guide/responses.md").read_text()
SERVED = MODEL.__class__(
    id="demo",
    routes=MODEL.routes,
    endpoints=("responses",),
    streaming_endpoints=("responses",),
    max_output_tokens=1_000,
    default_output_tokens=100,
)


def test_the_page_lists_every_field() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.+) \|$", VALUE.sub(r"\2", PAGE.split("## Errors")[0]), re.MULTILINE)
    fields = RESPONSES.operation.schemas(is_streaming=True)["ResponsesRequest"]["properties"]
    assert listed == [(name, _accepted(schema)) for name, schema in fields.items()]


def test_the_page_shows_the_events_that_the_server_sends() -> None:
    stream, _ = read(body_of(CREATED, HELLO), is_cut=True)
    assert f"```\n{stream.render_keep_alive().decode().rstrip()}\n```" in PAGE
    created = {name: CREATED["response"][name] for name in ("id", "object", "created_at", "model", "output")}
    stream, _ = read(body_of({"type": "response.created", "response": created}, HELLO), is_cut=True)
    error = UpstreamFailed("The upstream provider timed out.", detail="")
    event = stream.render_failure(error, request_id="req_1").decode().rstrip().replace('"model":"m"', '"model":"demo"')
    assert f"```\n{event}\n```" in PAGE
    assert f"{KEPT_MEMBER_CHARACTERS_MAX:,} characters" in PAGE


def test_the_curl_of_the_page_is_a_valid_request() -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'", PAGE, re.DOTALL)
    assert read_responses_request(body.encode(), find_model=lambda _: SERVED).output_limit == 200


@pytest.mark.parametrize("index", [0, 1])
def test_the_python_snippets_run(
    index: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        metered = read_responses_request(request.read(), find_model=lambda _: SERVED, is_streaming=True)
        if metered.stream is None:
            body = json.dumps(COMPLETED["response"]).encode()
            return httpx2.Response(200, content=read_answer(RESPONSES, 200, body, request=metered, scrub=str).body)
        stream = reader()
        output = stream.feed(
            body_of(*BEGINNING, HELLO, ITEM_DONE, response_event("completed", 7, **COMPLETED["response"]))
        )
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, content=output + stream.render_completion(RECEIPT), headers=headers)

    client = openai.OpenAI
    transport = httpx2.MockTransport(answer)
    monkeypatch.setattr(
        openai, "OpenAI", lambda **options: client(**options, http_client=httpx2.Client(transport=transport))
    )
    monkeypatch.setenv("TOK0N_API_KEY", "tk0n_x")
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[index], {})
    printed = capsys.readouterr().out
    assert printed == ["Hello wörld\ntokens: 12\n", "Hello\ntokens: 12\n"][index]
