"""The playground streams to the page's script, and reserves and bills as the API does."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from support.api_keys import keys_of
from support.gateways import EMAIL, Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, after, http, raw, status
from support.users import join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.domain.forms import is_form_id

pytestmark = pytest.mark.anyio

PATH = "/dashboard/playground"
STREAM = f"{PATH}/stream"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def event(text: str | None, *, finish_reason: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    choices = [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish_reason}]
    chunk = {"model": "upstream-demo", "choices": [] if usage else choices, "usage": usage}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


BEGINNING = event("Hel") + event("lo.")
WHOLE = BEGINNING + event(None, finish_reason="stop") + event(None, usage=USAGE) + b"data: [DONE]\n\n"
HEADERS = "content-type: text/event-stream\r\n"


@pytest.fixture
async def streaming(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Running]:
    upstream.behaviour = raw(http(WHOLE, headers=HEADERS))
    overrides = {"server.streaming": True}
    more = mail_settings(mailbox)
    folder = tmp_path / "streaming"
    folder.mkdir()
    async with running(folder, upstream_url=upstream.base_url, more=more, overrides=overrides) as gateway:
        yield gateway


@pytest.fixture
async def visitor(streaming: Running, mailbox: Mailbox) -> AsyncIterator[Visitor]:
    async with Visitor(streaming.url) as visitor:
        await join(visitor, mailbox, EMAIL)
        yield visitor


async def fields_of(gateway: Running) -> dict[str, str]:
    key = (await keys_of(gateway.store.accounts, EMAIL))[0]
    return {"model": "demo", "key": key.id, "limit": "50", "system": "", "user": "Hi", "send": "1"}


async def test_a_stream_brings_the_text_and_then_the_receipt(
    streaming: Running, visitor: Visitor, upstream: ScriptedUpstream
) -> None:
    answer = await visitor.post(STREAM, await fields_of(streaming), page=PATH)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert is_form_id(answer.headers["x-tok0n-form-id"])
    assert answer.headers["cache-control"] == "no-store"
    *texts, last, _ = [event.removeprefix("data: ") for event in answer.text.split("\n\n")]
    assert "".join(msgspec.json.decode(text)["text"] for text in texts) == "Hello."
    receipt = msgspec.json.decode(last)["receipt"]
    assert (receipt["charged"], receipt["available"]) == (12, 1_000_000 - 12)
    assert (await streaming.account()).balance.posted == 1_000_000 - 12
    page = await visitor.get(f"/dashboard/requests/{answer.headers['x-tok0n-request-id']}")
    text = " ".join(text_of(page).split())
    assert "Billed 12 " in text
    assert re.search(r"Stream First content after [\d,]+ ms\.", text)
    assert msgspec.json.decode(upstream.bodies[0])["stream"] is True
    assert await streaming.audit_is_clean()


async def test_a_form_streams_once_even_if_it_is_sent_twice_at_once(
    streaming: Running, visitor: Visitor, upstream: ScriptedUpstream
) -> None:
    form_id = re.findall(r'name="form_id" value="([^"]+)"', (await visitor.get(PATH)).text)[0]
    fields = await fields_of(streaming) | {"form_id": form_id}
    answers = await asyncio.gather(*(visitor.post(STREAM, fields, page=PATH) for _ in range(3)))
    kinds = sorted(answer.headers["content-type"].partition(";")[0] for answer in answers)
    assert kinds == ["text/event-stream", "text/html", "text/html"]
    assert any("You already sent this form" in answer.text for answer in answers)
    assert len(upstream.bodies) == 1


async def test_an_error_before_the_stream_is_the_page_and_one_in_it_is_an_event(
    streaming: Running, visitor: Visitor, upstream: ScriptedUpstream
) -> None:
    fields = await fields_of(streaming)
    upstream.behaviour = status(500)
    failed = await visitor.post(STREAM, fields, page=PATH)
    assert (failed.status_code, "You were not charged" in failed.text) == (502, True)
    (path,) = set(re.findall(r"/dashboard/requests/req_\w+", failed.text))
    assert "Stream No content." in " ".join(text_of(await visitor.get(path)).split())
    refused = await visitor.post(STREAM, fields | {"limit": "x"}, page=PATH)
    assert (refused.status_code, "whole number" in refused.text) == (422, True)
    upstream.behaviour = raw(http(BEGINNING, headers=HEADERS))
    cut = await visitor.post(STREAM, fields, page=PATH)
    assert "was not charged" in cut.text or "were not charged" in cut.text
    assert "receipt" not in cut.text
    assert (await streaming.account()).balance.posted == 1_000_000


async def test_a_stream_is_settled_after_its_visitor_left(
    streaming: Running, visitor: Visitor, upstream: ScriptedUpstream
) -> None:
    answered = asyncio.Event()
    upstream.behaviour = after(answered, upstream.behaviour)
    leaving = asyncio.create_task(visitor.post(STREAM, await fields_of(streaming), page=PATH))
    await upstream.until(lambda: len(upstream.requests) == 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    answered.set()
    async with asyncio.timeout(10):
        while (await streaming.account()).balance.pending or (await streaming.account()).balance.posted == 1_000_000:
            await asyncio.sleep(0.01)
    assert (await streaming.account()).balance.posted == 1_000_000 - 12
    assert await streaming.audit_is_clean()


async def test_the_page_streams_only_with_models_that_stream(
    streaming: Running, visitor: Visitor, site: Running, mailbox: Mailbox
) -> None:
    assert "data-streams" in (await visitor.get(PATH)).text
    async with Visitor(site.url) as other:
        await join(other, mailbox, EMAIL)
        page = (await other.get(PATH)).text
        assert "data-stream" not in page
        answer = await other.post(STREAM, await fields_of(site), page=PATH)
        assert (answer.status_code, "stream" in text_of(answer)) == (422, True)
