"""The playground in a real browser: with script it shows a stream as it arrives, without script the whole response."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Browser, expect

from support.browser import LOOKS, PHONE, WIDE, Look, Tab, tab
from support.fakes import ANSWER
from support.gateways import EMAIL, Running, running
from support.http import USAGE_TOTAL
from support.mailbox import Mailbox
from support.markdown_attacks import ATTACKS
from support.scripted_upstream import ScriptedUpstream, ok, status
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunked(*, usage: bool = False, finish_reason: str | None = None, **delta: str) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    counts = {"prompt_tokens": 9, "completion_tokens": USAGE_TOTAL - 9, "total_tokens": USAGE_TOTAL}
    chunk = {"model": "upstream-demo", "choices": choices, "usage": counts if usage else None}
    return frame(b"data: " + msgspec.json.encode(chunk) + b"\n\n")


def frame(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def ending() -> bytes:
    return chunked(finish_reason="stop") + chunked(usage=True) + frame(b"data: [DONE]\n\n") + END


@pytest.fixture
async def site(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    async with (
        Mailbox() as mailbox,
        running(
            tmp_path,
            upstream_url=upstream.base_url,
            more=mail_settings(mailbox),
            overrides={"server.streaming": True},
        ) as site,
    ):
        async with Visitor(site.url) as visitor:
            await join(visitor, mailbox, EMAIL)
        yield site


async def open_playground(visit: Tab) -> None:
    await visit.sign_in(EMAIL, PASSWORD)
    await visit.go("/dashboard/playground")


async def send(visit: Tab, text: str) -> None:
    await visit.fill(user=text)
    await visit.page.get_by_role("button", name="Send", exact=True).click()


async def bill_of(visit: Tab, number: int) -> str:
    bill = visit.page.locator("article").nth(number).locator("dl.bill")
    await bill.wait_for()
    return " ".join((await bill.inner_text()).split())


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_conversation_is_seen_as_it_arrives_with_a_receipt_for_each_turn(
    site: Running, browser: Browser, upstream: ScriptedUpstream, look: Look
) -> None:
    may_end = asyncio.Event()

    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(content="Hello **you**."))
        await may_end.wait()
        writer.write(chunked(content="\n\n[x](https://a.example)\n\n- one\n- two\n\n```\n<b>") + ending())

    async with tab(browser, site.url, look) as visit:
        await open_playground(visit)
        text = "Hello **you**.\n\n[x](https://a.example)\n\n- one\n- two\n\n```\n<b>"
        whole = ok(ANSWER.replace(b'"Hello."', msgspec.json.encode(text)))
        for number in (1, 2):
            upstream.behaviour = stream if look.script else whole
            may_end.clear()
            await send(visit, f"Question {number}")
            answer = visit.page.locator("article").nth(number - 1).locator(".answer")
            if look.script:
                await expect(answer).to_have_text("Hello you.")
                await expect(answer.locator("strong")).to_have_text("you")
                await expect(visit.page.locator("#user")).to_have_value("")
                may_end.set()
            await expect(answer.locator("li")).to_have_text(["one", "two"])
            await expect(answer.locator("pre code")).to_have_text("<b>")
            await expect(answer.locator("a")).to_have_attribute("href", "https://a.example")
            assert f"Billed {USAGE_TOTAL} " in await bill_of(visit, number - 1)
            await expect(visit.page.locator("#user")).to_have_value("")
            await visit.check()
            assert (await site.account()).balance.posted == 1_000_000 - number * USAGE_TOTAL
        texts = [message["content"] for message in msgspec.json.decode(upstream.bodies[1])["messages"]]
        assert texts == ["Question 1", text, "Question 2"]
        await visit.page.get_by_role("button", name="Edit").click()
        await expect(visit.page.locator("#user")).to_have_value("Question 2")
        await expect(visit.page.locator("article")).to_have_count(1)
        await visit.page.get_by_role("button", name="New conversation").click()
        await expect(visit.page.locator("article")).to_have_count(0)
        await visit.check()
    assert await site.audit_is_clean()


async def test_a_failed_stream_keeps_the_text_and_is_not_billed(
    site: Running, browser: Browser, upstream: ScriptedUpstream
) -> None:
    async def broken(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(content="Hel"))
        writer.close()

    async with tab(browser, site.url, WIDE) as visit:
        await open_playground(visit)
        for behaviour, words in ((status(401), "Not billed"), (broken, "not charged")):
            upstream.behaviour = behaviour
            await send(visit, "A long text")
            await expect(visit.page.locator("[data-problem]")).to_contain_text(words)
            await expect(visit.page.locator("#user")).to_have_value("A long text")
            await expect(visit.page.locator("article")).to_have_count(0)
        visit.complaints.clear()  # the browser reports the 502
        await visit.fill(limit="99999999")
        await visit.page.get_by_role("button", name="Send", exact=True).click()
        await expect(visit.page.locator("#limit-error")).to_contain_text("max_completion_tokens")
        await expect(visit.page.locator("#limit")).to_be_focused()
        await expect(visit.page.locator("#user")).to_have_value("A long text")
    assert (await site.account()).balance.posted == 1_000_000


async def test_a_stopped_response_shows_what_the_provider_billed(
    site: Running, browser: Browser, upstream: ScriptedUpstream
) -> None:
    may_end = asyncio.Event()

    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(content="Hel"))
        await may_end.wait()
        writer.write(chunked(content="lo.") + ending())

    upstream.behaviour = stream
    async with tab(browser, site.url, WIDE) as visit:
        await open_playground(visit)
        await send(visit, "Hello!")
        article = visit.page.locator("article")
        await expect(article.locator(".answer")).to_have_text("Hel")
        await visit.page.get_by_role("button", name="Stop", exact=True).click()
        await expect(article).to_contain_text("Waiting for the bill")
        await expect(visit.page.get_by_role("button", name="Send", exact=True)).to_be_visible()
        may_end.set()
        await expect(article).to_contain_text("you pay for the tokens that the provider reports", timeout=20_000)
        assert f"Billed {USAGE_TOTAL} " in await bill_of(visit, 0)
        (kept,) = json.loads(await visit.page.locator("[name=conversation]").input_value())
        assert (kept["assistant"], kept["charged"], kept["stopped"]) == ("Hel", USAGE_TOTAL, True)
        await visit.check()
    assert (await site.account()).balance.posted == 1_000_000 - USAGE_TOTAL
    assert await site.audit_is_clean()


async def test_the_keyboard_sends_and_the_bound_and_the_code_follow_what_is_typed(
    site: Running, browser: Browser, upstream: ScriptedUpstream
) -> None:
    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(content="Yes.") + ending())

    upstream.behaviour = stream
    async with tab(browser, site.url, WIDE) as visit:
        await open_playground(visit)
        await visit.page.get_by_text("View code", exact=True).click()
        await visit.page.get_by_text("Python", exact=True).click()
        await visit.page.locator("#user").press_sequentially("One")
        await visit.page.locator("#user").press("Enter")
        await visit.page.locator("#user").press_sequentially("two")
        await expect(visit.page.locator("#chat-python")).to_contain_text(r'"One\ntwo"')
        assert re.search(r"Reserves up to [\d,]+ tokens", await visit.text("#bound"))
        assert upstream.bodies == []
        await visit.page.locator("#user").press("Control+Enter")
        await bill_of(visit, 0)
        await expect(visit.page.locator("#user")).to_be_focused()
        assert msgspec.json.decode(upstream.bodies[0])["messages"] == [{"role": "user", "content": "One\ntwo"}]
        await visit.check()


async def test_no_response_can_run_or_load_anything_or_leave_its_box(
    site: Running, browser: Browser, upstream: ScriptedUpstream
) -> None:
    text = "\n\n".join([*ATTACKS, "x" * 3_000, "```\n" + "y" * 3_000 + "\n```", "`" + "z" * 1_000 + "`"])

    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(content=text) + ending())

    upstream.behaviour = stream
    async with tab(browser, site.url, PHONE) as visit:
        requests: list[str] = []
        visit.page.on("request", lambda request: requests.append(request.url))
        visit.page.on("dialog", lambda _: visit.complaints.append("a script ran"))
        await open_playground(visit)
        await send(visit, "<script>alert(1)</script>" + "w" * 2_000)
        await bill_of(visit, 0)
        await visit.check()
        await visit.page.get_by_role("button", name="Edit").click()
        await expect(visit.page.locator("article")).to_have_count(0)
        assert all(url.startswith(site.url) for url in requests), requests


async def test_a_hundred_turns_stay_usable(site: Running, browser: Browser, upstream: ScriptedUpstream) -> None:
    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(content="Done.") + ending())

    upstream.behaviour = stream
    exchange = {"user": "question", "assistant": "word " * 100, "model": "demo", "reserved": 100, "charged": 10}
    many = [exchange | {"request_id": f"req_{number:032x}"} for number in range(100)]
    async with tab(browser, site.url, PHONE) as visit:
        await open_playground(visit)
        await visit.page.locator("[name=conversation]").evaluate(
            "(input, text) => (input.value = text)", json.dumps(many)
        )
        await visit.page.locator("[name=ask]").first.evaluate("(button) => button.form.requestSubmit(button)")
        await expect(visit.page.locator("#user-error")).to_be_visible()
        await expect(visit.page.locator("article")).to_have_count(100)
        await send(visit, "And now?")
        await expect(visit.page.locator("article")).to_have_count(101)
        assert f"Billed {USAGE_TOTAL} " in await bill_of(visit, 100)
        await expect(visit.page.locator("#user")).to_be_in_viewport()
        await visit.check()
        assert len(msgspec.json.decode(upstream.bodies[0])["messages"]) == 201
