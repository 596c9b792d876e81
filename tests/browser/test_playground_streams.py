"""The playground in a real browser: with script it shows a stream as it arrives, without script the whole response."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Browser

from support.browser import Look, tab
from support.gateways import EMAIL, Running, running
from support.http import USAGE_TOTAL
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, status
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

LOOKS = [Look(scheme="light", width=1440, script=True), Look(scheme="dark", width=390, script=False)]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(*, usage: bool = False, finish_reason: str | None = None, **delta: str) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    counts = {"prompt_tokens": 9, "completion_tokens": USAGE_TOTAL - 9, "total_tokens": USAGE_TOTAL}
    chunk = {"model": "upstream-demo", "choices": choices, "usage": counts if usage else None}
    return frame(b"data: " + msgspec.json.encode(chunk) + b"\n\n")


def frame(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


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


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_the_response_is_seen_as_it_arrives_and_then_the_receipt(
    site: Running, browser: Browser, upstream: ScriptedUpstream, look: Look
) -> None:
    may_end = asyncio.Event()

    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(content="Hel"))
        await may_end.wait()
        writer.write(chunked(content="lo.") + chunked(finish_reason="stop") + chunked(usage=True))
        writer.write(frame(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    whole = upstream.behaviour
    async with tab(browser, site.url, look) as visit:
        await visit.go("/sign-in")
        await visit.fill(email=EMAIL, password=PASSWORD)
        await visit.press("Sign in")
        await visit.go("/dashboard/playground")
        for number in (1, 2):
            upstream.behaviour = stream if look.script else whole
            may_end.clear()
            await visit.fill(user="Hello!", limit="50")
            await visit.page.get_by_role("button", name="Send", exact=True).click()
            answer = visit.page.locator(".answer").locator("visible=true")
            if look.script:
                await answer.get_by_text("Hel", exact=True).wait_for()
                may_end.set()
            await answer.get_by_text("Hello.", exact=True).wait_for()
            await visit.page.locator("dl.receipt").locator("visible=true").wait_for()
            await visit.check()
            assert f"Billed {USAGE_TOTAL} " in " ".join((await visit.text("#playground")).split())
            assert (await site.account()).balance.posted == 1_000_000 - number * USAGE_TOTAL
        if look.script:
            upstream.behaviour = status(401)
            await visit.page.get_by_role("button", name="Send", exact=True).click()
            await visit.page.get_by_role("heading", name="Not billed").wait_for()
        assert len(upstream.requests) == 2 + look.script
    assert await site.audit_is_clean()
