"""Conversations in the playground without script: turns travel in the form, and nothing that was typed is lost."""

import html
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from support.api_keys import keys_of
from support.gateways import EMAIL, Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, ok, status
from support.users import mail_settings
from support.visitor import Visitor, text_of
from tok0n.domain.conversation import CONVERSATION_BYTES_MAX
from tok0n.domain.orders import Payment
from tok0n.domain.packs import Pack

pytestmark = pytest.mark.anyio

PATH = "/dashboard/playground"
SECOND = '[models.second]\nupstream = "fake"\nmax_output_tokens = 100\n'
CANARY = "canary-Zq7-of-a-prompt"


def completion(text: str) -> bytes:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return msgspec.json.encode({"model": "upstream-demo", "choices": [choice], "usage": usage})


@pytest.fixture
async def site(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Running]:
    more = SECOND + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway:
        yield gateway


async def fields_of(site: Running, **changes: str) -> dict[str, str]:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    return {"model": "demo", "key": key.id, "limit": "50", "system": "", "user": "Hi", "temperature": ""} | changes


def conversation_in(page: httpx.Response) -> Any:
    (value,) = re.findall(r'name="conversation" value="([^"]*)"', page.text)
    return json.loads(html.unescape(value) or "[]")


def box_in(page: httpx.Response, name: str = "user") -> str:
    (text,) = re.findall(rf'<textarea id="{name}"[^>]*>([^<]*)</textarea>', page.text)
    return html.unescape(text)


def exchange(number: int, **changes: Any) -> dict[str, Any]:
    request_id = f"req_{number:032x}"
    values = {"user": f"question {number}", "assistant": f"answer {number}", "model": "demo"}
    return values | {"request_id": request_id, "reserved": 100, "charged": 10} | changes


async def send(visitor: Visitor, fields: dict[str, str], page: httpx.Response | None = None) -> httpx.Response:
    """Send the form of a page that was rendered before, with its conversation, or of a new page."""
    shown = page or await visitor.get(PATH)
    hidden = {
        name: html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', shown.text)
    }
    return await visitor.post_raw(PATH, hidden | fields)


async def test_a_conversation_continues_with_all_turns_and_is_not_stored(
    site: Running, owner: Visitor, upstream: ScriptedUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream.behaviour = ok(completion("It is **four**."))
    first = await send(owner, await fields_of(site, user=CANARY, system="Be kind.", send="1"))
    assert (first.status_code, box_in(first), box_in(first, "system")) == (200, "", "Be kind.")
    assert "<strong>four</strong>" in first.text
    upstream.behaviour = ok(completion("Yes."))
    fields = await fields_of(site, user="Sure?", system="Be kind.", temperature="0.5", send="1")
    second = await send(owner, fields, first)
    body = msgspec.json.decode(upstream.bodies[1])
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": CANARY},
        {"role": "assistant", "content": "It is **four**."},
        {"role": "user", "content": "Sure?"},
    ]
    assert (body["temperature"], body["max_completion_tokens"]) == (0.5, 50)
    kept = conversation_in(second)
    assert [(item["user"], item["assistant"], item["charged"]) for item in kept] == [
        (CANARY, "It is **four**.", 12),
        ("Sure?", "Yes.", 12),
    ]
    assert len(re.findall(r"Billed</dt> <dd><strong>12<", second.text)) == 2
    assert f'href="/dashboard/requests/{kept[1]["request_id"]}"' in second.text
    stored = b"".join(path.read_bytes() for path in site.folder.glob("tok0n.db*"))
    assert CANARY.encode() not in stored
    assert CANARY not in "".join(capfd.readouterr())
    assert (await site.account()).balance.posted == 1_000_000 - 24
    assert await site.audit_is_clean()


async def test_the_last_turn_can_be_edited_and_a_new_conversation_keeps_the_settings(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    conversation = json.dumps([exchange(1), exchange(2)])
    fields = await fields_of(site, conversation=conversation, user="", system="Be kind.", model="second")
    edited = await send(owner, fields | {"edit": "1"})
    assert (box_in(edited), conversation_in(edited)) == ("question 2", [exchange(1) | {"stopped": False}])
    new = await send(owner, fields | {"new": "1", "user": "half a sentence"})
    assert (box_in(new), box_in(new, "system"), conversation_in(new)) == ("half a sentence", "Be kind.", [])
    assert re.search(r"<option[^>]* selected>second</option>", new.text)
    assert upstream.bodies == []


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"limit": "999999"}, "limit", "max_completion_tokens"),
        ({"limit": "many"}, "limit", "whole number"),
        ({"temperature": "3"}, "temperature", "temperature"),
        ({"temperature": "warm"}, "temperature", "Enter the temperature as a number"),
        ({"temperature": "nan"}, "temperature", "Enter the temperature as a number"),
        ({"temperature": "1e999"}, "temperature", "Enter the temperature as a number"),
        ({"model": "gone"}, "model", "not available"),
        ({"key": "key_of_nobody"}, "key", "Choose an active key"),
        ({"user": " "}, "user", "Enter a message"),
    ],
)
async def test_an_error_is_at_its_field_and_loses_nothing(
    site: Running, owner: Visitor, upstream: ScriptedUpstream, changed: dict[str, str], field: str, words: str
) -> None:
    conversation = json.dumps([exchange(1)])
    fields = await fields_of(site, conversation=conversation, user="a long text", system="Be kind.", send="1")
    page = await send(owner, fields | changed)
    assert page.status_code == 422
    (error,) = re.findall(r'id="(\w+)-error" role="alert">([^<]*)<', page.text)
    assert (error[0], words in html.unescape(error[1])) == (field, True), error
    assert re.search(rf'id="{field}"[^>]*aria-describedby="{field}-error"', page.text)
    assert box_in(page) == (fields | changed)["user"]
    assert box_in(page, "system") == "Be kind."
    assert len(conversation_in(page)) == 1
    if field in {"limit", "temperature"}:
        assert f'value="{changed[field]}"' in page.text
    assert upstream.bodies == []


async def test_a_failed_request_keeps_the_text_and_the_conversation(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    upstream.behaviour = status(500)
    fields = await fields_of(site, conversation=json.dumps([exchange(1)]), user="a long text", send="1")
    page = await send(owner, fields)
    assert (page.status_code, box_in(page), len(conversation_in(page))) == (502, "a long text", 1)
    assert "You were not charged" in text_of(page)


@pytest.mark.parametrize(
    "conversation",
    ["x", "{}", '[{"user": "a"}]', "[" * 5_000, json.dumps([exchange(1) | {"request_id": "/evil"}])],
)
async def test_a_conversation_that_cannot_be_read_is_an_error_and_the_text_stays(
    site: Running, owner: Visitor, upstream: ScriptedUpstream, conversation: str
) -> None:
    page = await send(owner, await fields_of(site, conversation=conversation, user="a long text", send="1"))
    assert (page.status_code, box_in(page)) == (422, "a long text")
    assert "Start a new conversation" in text_of(page)
    assert upstream.bodies == []


async def test_a_conversation_that_is_too_long_stays_and_is_not_sent(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    long = [exchange(1, assistant="ü" * (CONVERSATION_BYTES_MAX // 2))]
    fields = await fields_of(site, conversation=json.dumps(long, ensure_ascii=False), user="a long text", send="1")
    page = await send(owner, fields)
    assert (page.status_code, box_in(page), len(conversation_in(page))) == (422, "a long text", 1)
    assert "longer than 128 KiB" in text_of(page)
    assert upstream.bodies == []


async def test_a_hundred_turns_are_sent_and_shown(site: Running, owner: Visitor, upstream: ScriptedUpstream) -> None:
    upstream.behaviour = ok(completion("Done."))
    many = [exchange(number, assistant="word " * 100) for number in range(1, 101)]
    page = await send(owner, await fields_of(site, conversation=json.dumps(many), user="And now?", send="1"))
    assert page.status_code == 200
    assert len(msgspec.json.decode(upstream.bodies[0])["messages"]) == 201
    assert page.text.count("<article") == 101
    assert page.text.count('name="edit"') == 1


async def test_the_suggested_model_and_key_are_those_used_last_that_fit(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    first = await owner.get(PATH)
    assert re.findall(r"<option[^>]* selected>(\w+)</option>", first.text) == ["demo"]
    await owner.post("/dashboard/keys", {"name": "only second", "limit_models": "1", "models": "second"})
    upstream.behaviour = ok(completion("Hi."))
    await send(owner, await fields_of(site, model="second", send="1"))
    page = await owner.get(PATH)
    assert re.findall(r"<option[^>]* selected>(\w+)</option>", page.text) == ["second"]
    assert 'name="limit" type="text" value="100"' in page.text, "the model's limit is below the suggested one"
    assert len(re.findall(r'<option value="key_\w+" selected>', page.text)) == 1


async def test_a_message_of_the_model_is_rendered_for_the_script_with_its_bill(site: Running, owner: Visitor) -> None:
    fields = {"exchange": json.dumps([exchange(1, assistant="**x** <img src=x onerror=alert(1)>")]), "number": "7"}
    page = await owner.post_raw(f"{PATH}/exchange", fields)
    assert "<strong>x</strong> &lt;img" in page.text
    assert 'data-number="7"' in page.text
    unknown = {"exchange": json.dumps([exchange(2, charged=None, stopped=True)]), "number": "x"}
    pending = await owner.post_raw(f"{PATH}/exchange", unknown)
    assert ("data-pending" in pending.text, "Waiting for the bill" in pending.text) == (True, True)
    for wrong in ("", "[]", "x", json.dumps([exchange(1), exchange(2)])):
        assert (await owner.post_raw(f"{PATH}/exchange", {"exchange": wrong})).status_code == 400, wrong


async def test_an_account_without_tokens_reads_how_to_get_some(site: Running, stranger: Visitor) -> None:
    await stranger.post("/dashboard/keys", {"name": "own"})
    page = await stranger.get(PATH)
    text = " ".join(text_of(page).split())
    assert "You have no tokens for demo." in text
    assert "granted, not sold" in text
    key = (await keys_of(site.store.accounts, "eve@example.com"))[0]
    part = await stranger.post(f"{PATH}/bound", await fields_of(site, key=key.id), page=PATH)
    assert "You have only 0 available." in text_of(part)


async def test_the_code_is_that_of_the_conversation(site: Running, owner: Visitor) -> None:
    text = 'it\'s "quoted" \\ $HOME `x` </script>\n${y} \N{LINE SEPARATOR} %s {z}'
    conversation = json.dumps([exchange(1)])
    fields = await fields_of(site, conversation=conversation, user=text, system="Be kind.", temperature="0.7")
    page = await owner.post_raw(f"{PATH}/bound", fields)
    codes = {
        kind: html.unescape(code)
        for kind, code in re.findall(r'<pre class="code" id="chat-(\w+)"[^>]*>(.*?)</pre>', page.text, re.DOTALL)
    }
    assert "</script>" not in page.text
    expected = {
        "model": "demo",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "question 1"},
            {"role": "assistant", "content": "answer 1"},
            {"role": "user", "content": text},
        ],
        "max_completion_tokens": 50,
        "temperature": 0.7,
    }
    (argument,) = re.findall(r"-d '(.*)'$", codes["curl"], re.DOTALL)
    assert json.loads(argument.replace(r"'\''", "'")) == expected
    call = codes["python"].split("client.chat.completions.create")[1].split("\nprint(")[0]
    assert eval(f"dict{call}") == expected
    (script,) = re.findall(r"create\((\{.*\})\);\nconsole", codes["node"], re.DOTALL)
    assert 'role: "user"' in script
    assert json.dumps(text, ensure_ascii=False) in script
    invalid = await owner.post_raw(f"{PATH}/bound", fields | {"limit": "x"})
    assert "Correct the settings above to see the code" in text_of(invalid)


async def test_dollars_are_shown_before_and_after_if_the_tokens_were_bought(
    site: Running, stranger: Visitor, upstream: ScriptedUpstream
) -> None:
    await stranger.post("/dashboard/keys", {"name": "own"})
    account = await site.store.accounts.get("eve@example.com")
    pack = Pack(id="p", name="Pack", tokens=1_000, price_usd_cents=1_000, token_class="standard")
    order = (await site.store.orders.open(account_id=account.id, pack=pack, currency="usd", now_us=1)).order
    assert order is not None
    await site.store.orders.record(order.id, Payment(paid_cents=1_000), payment_id="pi_1", now_us=2)
    key = (await keys_of(site.store.accounts, "eve@example.com"))[0]
    fields = await fields_of(site, key=key.id)
    part = await stranger.post(f"{PATH}/bound", fields, page=PATH)
    (bound, dollars) = re.findall(r"Reserves up to ([\d,]+) tokens, at most \$([\d.]+)\.", part.text)[0]
    assert int(bound.replace(",", "")) == round(float(dollars) * 100)
    upstream.behaviour = ok(completion("Hi."))
    page = await send(stranger, fields | {"send": "1"})
    assert "Billed 12 $0.12" in " ".join(text_of(page).split())
    (kept,) = conversation_in(page)
    again = await stranger.post_raw(f"{PATH}/exchange", {"exchange": json.dumps([kept])})
    assert "$0.12" in again.text
