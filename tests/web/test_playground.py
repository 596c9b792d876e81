"""The playground: it bounds, reserves and bills as the API does."""

import asyncio
import re

import pytest

from support.api_keys import keys_of
from support.fakes import ANSWER
from support.gateways import EMAIL, Running
from support.http import USAGE_TOTAL
from support.pages import create_key
from support.scripted_upstream import ScriptedUpstream, after, ok, status
from support.visitor import Visitor, text_of
from tok0n.services.playground import READS_MAX

pytestmark = pytest.mark.anyio

CANARY = "canary-Zq7-of-a-prompt"


async def test_the_playground_shows_the_bound_before_and_the_receipt_after(
    site: Running, owner: Visitor, upstream: ScriptedUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    fields = {"model": "demo", "key": key.id, "limit": "50", "system": "", "user": CANARY}
    asked = await owner.post("/dashboard/playground", fields | {"ask": "1"})
    bound = re.findall(r"Reserves up to ([\d,]+) tokens", asked.text)[0]
    assert upstream.bodies == []
    part = await owner.post("/dashboard/playground/bound", fields, page="/dashboard/playground")
    assert f"Reserves up to {bound} tokens" in part.text
    answer = " ".join(text_of(await owner.post("/dashboard/playground", fields | {"send": "1"})).split())
    assert f"Reserved {bound} Billed {USAGE_TOTAL} " in answer
    assert "Hello." in answer
    assert (await site.account()).balance.posted == 1_000_000 - USAGE_TOTAL
    assert await site.audit_is_clean()
    assert CANARY.encode() in upstream.bodies[0]
    stored = b"".join(path.read_bytes() for path in site.folder.glob("tok0n.db*"))
    assert CANARY.encode() not in stored
    assert CANARY not in "".join(capfd.readouterr())


async def test_the_playground_fails_as_the_api_does(
    site: Running, owner: Visitor, stranger: Visitor, upstream: ScriptedUpstream
) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    fields = {"model": "demo", "key": key.id, "limit": "50", "user": "Hi", "send": "1"}
    upstream.behaviour = status(500)
    failed = await owner.post("/dashboard/playground", fields)
    assert (failed.status_code, "You were not charged" in failed.text) == (502, True)
    for changed, words in (
        ({"user": " "}, "Enter a message"),
        ({"limit": "x"}, "whole number"),
        ({"limit": "999999"}, "max_completion_tokens"),
        ({"model": "gone"}, "not available"),
        ({"key": "key_of_nobody"}, "Choose an active key"),
    ):
        refused = await owner.post("/dashboard/playground", fields | changed)
        assert (refused.status_code, words in text_of(refused)) == (422, True), changed
    await stranger.post("/dashboard/keys", {"name": "own"})
    other = await stranger.post("/dashboard/playground", fields)
    assert (other.status_code, "Choose an active key" in other.text) == (422, True), "nobody spends another's"
    assert (await site.account()).balance.posted == 1_000_000


async def test_a_playground_request_is_settled_after_its_visitor_left(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    answered = asyncio.Event()
    upstream.behaviour = after(answered, upstream.behaviour)
    fields = {"model": "demo", "key": key.id, "limit": "50", "user": "Hi", "send": "1"}
    leaving = asyncio.create_task(owner.post("/dashboard/playground", fields))
    await upstream.until(lambda: len(upstream.requests) == 1)
    assert (await site.account()).balance.pending > 0
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    answered.set()
    async with asyncio.timeout(10):
        while (await site.account()).balance.pending:
            await asyncio.sleep(0.01)
    assert (await site.account()).balance.posted == 1_000_000 - USAGE_TOTAL


async def test_the_playground_says_when_the_balance_is_empty(stranger: Visitor, site: Running) -> None:
    await create_key(stranger)
    key = (await keys_of(site.store.accounts, "eve@example.com"))[0]
    fields = {"model": "demo", "key": key.id, "limit": "50", "user": "Hi", "send": "1"}
    answer = await stranger.post("/dashboard/playground", fields)
    assert (answer.status_code, "insufficient_tokens" in answer.text) == (402, True)


async def test_the_playground_limits_how_often_an_account_asks_for_a_bound(owner: Visitor, stranger: Visitor) -> None:
    fields = {"model": "demo", "user": "Hello", "limit": "50", "key": "x"}
    for _ in range(READS_MAX):
        part = await owner.post("/dashboard/playground/bound", fields, page="/dashboard/playground")
    assert "Reserves up to" in text_of(part)
    part = await owner.post("/dashboard/playground/bound", fields, page="/dashboard/playground")
    assert "Too many requests. Try again in" in text_of(part)
    asked = await owner.post("/dashboard/playground", fields | {"ask": "1"})
    assert "Too many requests. Try again in" in text_of(asked)
    part = await stranger.post("/dashboard/playground/bound", fields, page="/dashboard/playground")
    assert "Reserves up to" in text_of(part)


async def test_the_playground_shows_an_answer_with_unusual_json(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    odd = {"text": (b'"Half \\ud83d"', "Half ?"), "no text": (b'null,"x":[NaN,"\\ud83d"]', "NaN")}
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    fields = {"model": "demo", "user": "Hello", "limit": "50", "key": key.id, "send": "1"}
    for name, (content, shown) in odd.items():
        upstream.behaviour = ok(ANSWER.replace(b'"Hello."', content))
        answer = await owner.post("/dashboard/playground", fields)
        assert answer.status_code == 200, name
        assert shown in text_of(answer), name
        assert "Billed" in text_of(answer), name
