"""The playground of each endpoint: the same pipeline, the same receipt, and nothing of the prompt is kept."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support import message_streams, response_streams
from support.api_keys import keys_of
from support.gateways import EMAIL, Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, http, ok, raw, status
from support.users import mail_settings
from support.visitor import Visitor, text_of
from tok0n.domain.endpoints import ENDPOINTS

pytestmark = pytest.mark.anyio

PATH = "/dashboard/playground"
CANARY = "canary-Zq7-of-a-prompt"
EVERY = 'endpoints = ["chat", "embeddings", "responses", "messages"]\n'
ONE_MORE = '[models.words]\nupstream = "fake"\nendpoints = ["embeddings"]\n'

CHAT = {
    "model": "upstream-demo",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}
EMBEDDINGS = {
    "model": "upstream-demo",
    "data": [{"index": 0, "embedding": [0.25, -0.5]}, {"index": 1, "embedding": [1, 2]}],
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
RESPONSE = {
    "model": "upstream-demo",
    "status": "completed",
    "output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "Hello."}]}],
    "usage": {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11},
}
MESSAGE = {
    "model": "upstream-demo",
    "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 4, "cache_read_input_tokens": 2, "output_tokens": 3},
}
TURN = {"role": "user", "content": f"{CANARY}\r\nHi"}
PATHS = {endpoint.name: endpoint.path for endpoint in ENDPOINTS}
CASES: dict[str, tuple[Any, dict[str, Any], list[str], int]] = {
    "chat": (
        CHAT,
        {"messages": [{"role": "system", "content": "Be kind."}, TURN], "max_completion_tokens": 50},
        ["Hello."],
        12,
    ),
    "embeddings": (
        EMBEDDINGS,
        {"input": [CANARY, "Hi"]},
        ["[0.25, -0.5]", "[1, 2]", "Vectors 2", "Dimensions 2"],
        7,
    ),
    "responses": (
        RESPONSE,
        {"instructions": "Be kind.", "input": TURN["content"], "max_output_tokens": 50, "store": False},
        ["Hello."],
        11,
    ),
    "messages": (MESSAGE, {"system": "Be kind.", "messages": [TURN], "max_tokens": 50}, ["Hello."], 9),
}
"""The upstream's answer, what it was sent beside the model, what the page shows, and what is billed."""

STREAMS: dict[str, tuple[bytes, int]] = {
    "responses": (
        response_streams.body_of(
            *response_streams.BEGINNING,
            response_streams.delta("Hel", 4),
            response_streams.delta("lo.", 5),
            response_streams.COMPLETED,
        ),
        12,
    ),
    "messages": (
        b"".join(
            map(
                message_streams.event_of,
                (
                    message_streams.START,
                    message_streams.BLOCK,
                    message_streams.text("Hel"),
                    message_streams.text("lo."),
                    message_streams.BLOCK_STOP,
                    message_streams.DELTA,
                    message_streams.STOP,
                ),
            )
        ),
        12,
    ),
}


def test_every_endpoint_that_pages_show_is_tested() -> None:
    assert set(CASES) == {endpoint.name for endpoint in ENDPOINTS if endpoint.example is not None}


@pytest.fixture
async def site(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Running]:
    """A gateway whose model demo serves and streams all that it can, and whose model words serves embeddings."""
    more = EVERY + ONE_MORE + mail_settings(mailbox)
    overrides = {"server.streaming": True}
    async with running(tmp_path, upstream_url=upstream.base_url, more=more, overrides=overrides) as gateway:
        yield gateway


async def fields_of(site: Running, endpoint: str) -> dict[str, str]:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    texts = {"system": "Be kind.", "user": f"{CANARY}\r\nHi"}
    return {"endpoint": endpoint, "model": "demo", "key": key.id, "limit": "50", "send": "1", **texts}


def words_of(page: Any) -> str:
    return " ".join(text_of(page).split())


@pytest.mark.parametrize("name", CASES)
async def test_a_form_of_each_endpoint_is_bounded_billed_and_not_kept(
    site: Running, owner: Visitor, upstream: ScriptedUpstream, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer, sent, shown, charged = CASES[name]
    upstream.behaviour = ok(msgspec.json.encode(answer))
    fields = await fields_of(site, name)
    form = f"{PATH}?endpoint={name}"
    estimate = {field: value for field, value in fields.items() if field != "send"}
    part = await owner.post(f"{PATH}/bound", estimate, page=form)
    bound = re.findall(r"Reserves up to ([\d,]+) tokens", part.text)[0]
    asked = await owner.post(PATH, estimate, page=form)
    assert (f"Reserves up to {bound} tokens" in asked.text, upstream.bodies) == (True, [])
    page = await owner.post(PATH, fields, page=form)
    text = words_of(page)
    assert page.status_code == 200, text
    assert all(part in text for part in shown), text
    assert f"Reserved {bound} Billed {charged} " in text
    assert (await site.account()).balance.posted == 1_000_000 - charged
    assert msgspec.json.decode(upstream.bodies[0]) == {"model": "upstream-demo"} | sent
    (path,) = set(re.findall(r"/dashboard/requests/req_\w+", page.text))
    receipt = words_of(await owner.get(path))
    assert f"Endpoint {PATHS[name]} " in receipt, receipt
    assert await site.audit_is_clean()
    stored = b"".join(path.read_bytes() for path in site.folder.glob("tok0n.db*"))
    assert CANARY.encode() not in stored
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_of_each_endpoint_brings_texts_and_then_the_receipt(
    site: Running, owner: Visitor, upstream: ScriptedUpstream, name: str
) -> None:
    body, charged = STREAMS[name]
    upstream.behaviour = raw(http(body, headers="content-type: text/event-stream\r\n"))
    answer = await owner.post(f"{PATH}/stream", await fields_of(site, name), page=PATH)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *texts, last, _ = [event.removeprefix("data: ") for event in answer.text.split("\n\n")]
    assert "".join(msgspec.json.decode(text)["text"] for text in texts) == "Hello."
    receipt = msgspec.json.decode(last)["receipt"]
    assert (receipt["charged"], receipt["available"]) == (charged, 1_000_000 - charged)
    assert (await site.account()).balance.posted == 1_000_000 - charged
    assert msgspec.json.decode(upstream.bodies[0])["stream"] is True
    assert await site.audit_is_clean()


async def test_an_endpoint_that_has_no_streams_rejects_one(site: Running, owner: Visitor) -> None:
    answer = await owner.post(f"{PATH}/stream", await fields_of(site, "embeddings"), page=PATH)
    assert (answer.status_code, "stream" in text_of(answer)) == (422, True)
    page = (await owner.get(f"{PATH}?endpoint=embeddings")).text
    assert "data-stream" not in page
    assert "data-streams" in (await owner.get(f"{PATH}?endpoint=messages")).text


async def test_the_page_offers_the_endpoints_and_for_each_the_models_that_serve_it(
    site: Running, owner: Visitor
) -> None:
    for query, title, models, fields in (
        ("", "Chat completions", ["demo"], {"limit", "system", "user"}),
        ("?endpoint=embeddings", "Embeddings", ["demo", "words"], {"user"}),
        ("?endpoint=messages", "Messages", ["demo"], {"limit", "system", "user"}),
        ("?endpoint=gone", "Chat completions", ["demo"], {"limit", "system", "user"}),
    ):
        page = (await owner.get(PATH + query)).text
        (current,) = re.findall(r'aria-current="true"[^>]*>([^<]+)</a>', page)
        assert current == title
        assert re.findall(r"<option[^>]*>(demo|words)</option>", page) == models
        assert set(re.findall(r'id="(limit|system|user)"', page)) == fields
        links = re.findall(r'href="/dashboard/playground\?endpoint=(\w+)"', page)
        assert links == ["chat", "embeddings", "messages", "responses"]


async def test_switching_keeps_the_text_and_sends_nothing(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    fields = await fields_of(site, "chat") | {"switch": "embeddings", "model": "words"}
    page = await owner.post(PATH, fields, page=PATH)
    assert page.status_code == 200
    assert 'name="endpoint" value="embeddings"' in page.text
    assert f">{CANARY}\r\nHi</textarea>" in page.text
    assert re.search(r"<option[^>]* selected>words</option>", page.text)
    assert (upstream.bodies, (await site.account()).balance.posted) == ([], 1_000_000)


async def test_a_wrong_form_of_an_endpoint_says_what_to_change(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    for name, changed, words in (
        ("embeddings", {"user": " \n "}, "Enter a text."),
        ("embeddings", {"user": "x\n" * 2_049}, "at most 2048 inputs"),
        ("embeddings", {"endpoint": "count_tokens"}, "Choose another endpoint"),
        ("embeddings", {"endpoint": "nothing"}, "Choose another endpoint"),
        ("responses", {"limit": "999999"}, "max_output_tokens"),
        ("responses", {"model": "words"}, "is not served at POST /v1/responses. Call it at POST /v1/embeddings."),
        ("messages", {"limit": ""}, "Enter an output limit"),
        ("messages", {"user": ""}, "Enter a message."),
    ):
        fields = await fields_of(site, name) | changed
        refused = await owner.post(PATH, fields, page=f"{PATH}?endpoint={name}")
        assert (refused.status_code, words in text_of(refused)) == (422, True), (name, changed, words_of(refused))
        if name != "embeddings":
            streamed = await owner.post(f"{PATH}/stream", fields, page=f"{PATH}?endpoint={name}")
            assert (streamed.status_code, words in text_of(streamed)) == (422, True), (name, changed)
        part = await owner.post(f"{PATH}/bound", fields, page=f"{PATH}?endpoint={name}")
        assert (part.status_code, words.rstrip(".") in text_of(part)) == (200, True), (name, changed)
    assert (upstream.bodies, (await site.account()).balance.posted) == ([], 1_000_000)


@pytest.mark.parametrize("name", CASES)
async def test_an_error_of_the_upstream_is_shown_and_not_billed(
    site: Running, owner: Visitor, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.behaviour = status(500)
    failed = await owner.post(PATH, await fields_of(site, name), page=PATH)
    assert (failed.status_code, "You were not charged" in failed.text) == (502, True)
    assert (await site.account()).balance.posted == 1_000_000


async def test_the_page_shows_the_code_of_exactly_this_request(site: Running, owner: Visitor) -> None:
    fields = await fields_of(site, "embeddings") | {"ask": "1", "model": "words"}
    fields.pop("send")
    page = await owner.post(PATH, fields, page=f"{PATH}?endpoint=embeddings")
    codes = re.findall(r'<pre class="code" id="embeddings-(\w+)"[^>]*>(.*?)</pre>', page.text, re.DOTALL)
    assert [language for language, _ in codes] == ["curl", "python", "node"]
    assert all("words" in code and CANARY in code and "Hello!" not in code for _, code in codes)


async def test_the_code_for_anthropics_sdk_sends_a_temperature_that_the_sdk_does_not_know(
    site: Running, owner: Visitor
) -> None:
    fields = await fields_of(site, "messages") | {"temperature": "0.5"}
    fields.pop("send")
    page = await owner.post(f"{PATH}/bound", fields, page=f"{PATH}?endpoint=messages")
    code = text_of(page)
    assert 'extra_body={"temperature": 0.5},' in code
    assert "temperature: 0.5," in code
