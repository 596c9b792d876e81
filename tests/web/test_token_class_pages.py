"""The pages with two token classes, and with one: then they say nothing about classes."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.api_keys import keys_of
from support.gateways import Running, running
from support.http import USAGE_TOTAL, chat
from support.mailbox import Mailbox
from support.pages import create_key
from support.scripted_upstream import ScriptedUpstream
from support.shop import PACKS, shop
from support.users import join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.demo.stripe_double import StripeDouble
from tok0n.services.operate_accounts import OperateAccounts
from tok0n.services.redeem_codes import create_code

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
CLASSES = """
[token_classes.premium]
title = "Premium & more"
[models.big]
upstream = "fake"
upstream_model = "upstream-demo"
max_output_tokens = 1000
default_output_tokens = 100
token_class = "premium"
[packs.pro]
name = "Pro"
tokens = 2000
price_usd = "9.00"
token_class = "premium"
"""
TITLE = "Premium & more"
CLASS_WORDS = ("Standard tokens", "class", "Class")

Shop = tuple[Running, StripeDouble]


@pytest.fixture
async def opened(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Shop]:
    async with shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox, more=CLASSES) as opened:
        yield opened


@pytest.fixture
async def ada(opened: Shop, mailbox: Mailbox) -> AsyncIterator[Visitor]:
    async with Visitor(opened[0].url) as ada:
        await join(ada, mailbox, ADA)
        yield ada


async def words(visitor: Visitor, path: str) -> str:
    answer = await visitor.get(path)
    if path.endswith("/receipt"):
        answer = await visitor.get(answer.headers["location"])
    assert answer.status_code == 200, path
    return " ".join(text_of(answer).split())


async def buy(site: Running, double: StripeDouble, ada: Visitor, pack: str) -> str:
    """Buy a pack, and return the path of its order."""
    answer = await ada.post("/dashboard/buy", {"pack": pack})
    double.pay(answer.headers["location"].rpartition("/")[2])
    await double.wait_until_delivered()
    assert site.sell_packs is not None
    await site.sell_packs.handle_all()
    orders = (await ada.get("/dashboard/orders")).text
    newest: str = re.findall(r"/dashboard/orders/ord_[0-9a-f]+", orders)[0]
    return newest


async def spend(site: Running, ada: Visitor, model: str) -> str:
    """Send a request, and return its id."""
    secret = await create_key(ada)
    body = {"model": model, "messages": [{"role": "user", "content": "Hello."}], "max_completion_tokens": 5}
    answer = await chat(site.base_url, secret, json.dumps(body).encode())
    assert answer.status == 200, answer.body
    return answer.headers["x-request-id"]


async def test_a_pack_of_a_class_is_bought_and_every_page_names_the_class(opened: Shop, ada: Visitor) -> None:
    site, double = opened
    shelf = await words(ada, "/dashboard/buy")
    assert re.search(rf"Standard tokens Starter .* Scale .* {TITLE} Pro \$9\.00 2,000 tokens", shelf)
    order = await buy(site, double, ada, "pro")
    request_id = await spend(site, ada, "big")
    left = 2_000 - USAGE_TOTAL
    overview = await words(ada, "/dashboard")
    assert "Standard tokens 0 available, 0 reserved" in overview
    assert f"{TITLE} {left:,} available, 0 reserved" in overview
    assert f"Token class {TITLE}" in await words(ada, f"/dashboard/requests/{request_id}")
    assert f"Pro {TITLE} 2,000" in await words(ada, "/dashboard/orders")
    assert f"Class {TITLE}" in await words(ada, order)
    assert f"Pro 2,000 tokens, {TITLE}" in await words(ada, f"{order}/receipt")
    assert f"big: {TITLE}" in await words(ada, "/dashboard/playground")
    assert "Standard tokens" in await words(ada, "/dashboard/settings")
    assert f"remaining {left:,} tokens ({TITLE})" in await words(ada, "/dashboard/settings/close")
    landing = await words(ada, "/")
    assert re.search(rf"{TITLE} Pro \$9\.00", landing)
    assert f"big {TITLE}" in landing
    assert "any model" not in landing
    assert "`premium` for `big`" in (await ada.get("/llms.txt")).text
    assert await site.audit_is_clean()


async def test_the_statement_filters_by_class_and_numbers_each_wallet(opened: Shop, ada: Visitor) -> None:
    site, double = opened
    for pack in ("starter", "pro"):
        await buy(site, double, ada, pack)
    await spend(site, ada, "big")
    rows = re.findall(
        r'data-label="Class">\s*<span class="name"[^>]*>([^<]*)</span>\s*</td><td class="number minor"[^>]*>(\d+)</td>',
        (await ada.get("/dashboard/statement")).text,
    )
    assert rows == [("Premium &amp; more", "2"), ("Premium &amp; more", "1"), ("Standard tokens", "1")]
    only = await ada.get("/dashboard/statement?class=premium")
    assert "Standard tokens</td>" not in only.text
    assert f"{2_000 - USAGE_TOTAL:,}" in text_of(only)
    assert re.search(r"/dashboard/statement\.csv\?month=[0-9-]+&amp;class=premium", only.text)
    for query, classes in (
        ("", ["premium", "premium", "standard"]),
        ("?class=premium", ["premium"] * 2),
        ("?class=x", None),
    ):
        table = list(csv.DictReader(io.StringIO((await ada.get(f"/dashboard/statement.csv{query}")).text)))
        assert [row["token_class"] for row in table] == (classes or ["premium", "premium", "standard"])
        assert all(row["number"] for row in table)
    requests = list(csv.DictReader(io.StringIO((await ada.get("/dashboard/requests.csv")).text)))
    assert [(row["endpoint"], row["token_class"], row["stream"]) for row in requests] == [("chat", "premium", "no")]


async def test_a_code_of_a_class_says_which_tokens_it_added(opened: Shop, ada: Visitor) -> None:
    site, _ = opened
    code = await create_code(
        site.store.orders, site.clock, tokens=500, uses_max=5, days=1, reason="trial", token_class="standard"
    )
    answer = await ada.post("/dashboard/redeem", {"code": code}, page="/dashboard/buy")
    assert "We added 500 tokens (Standard tokens) to your account." in text_of(answer)


async def test_a_debt_names_its_class(opened: Shop, ada: Visitor) -> None:
    site, double = opened
    order = await buy(site, double, ada, "pro")
    await spend(site, ada, "big")
    assert site.sell_packs is not None
    await site.sell_packs.refund(order.rpartition("/")[2])
    await double.wait_until_delivered()
    await site.sell_packs.handle_all()
    assert f"{USAGE_TOTAL} tokens ({TITLE}) were refunded" in await words(ada, "/dashboard/buy")


async def test_a_correction_and_a_reversal_are_explained_in_the_statement_and_its_csv(
    opened: Shop, ada: Visitor
) -> None:
    site, double = opened
    await buy(site, double, ada, "pro")
    request_id = await spend(site, ada, "big")
    await site.store.ledger.reverse(request_id=request_id, now_us=site.clock.now_us())
    operate = OperateAccounts(site.store.accounts, site.clock, corrections=site.store.corrections)
    await operate.adjust(email=ADA, tokens=77, reason="for the outage")
    statement = await words(ada, "/dashboard/statement")
    assert "gives back the charge of req_" in statement
    assert "for the outage by support" in statement
    table = list(csv.DictReader(io.StringIO((await ada.get("/dashboard/statement.csv")).text)))
    assert [row["reason"] for row in table[:2]] == ["for the outage", f"gives back the charge of {request_id}"]


async def test_with_one_class_no_page_mentions_classes(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    async with (
        shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as (site, double),
        Visitor(site.url) as ada,
    ):
        await join(ada, mailbox, ADA)
        order = await buy(site, double, ada, "starter")
        request_id = await spend(site, ada, "demo")
        (key,) = await keys_of(site.store.accounts, ADA)
        assert key.name == "laptop"
        paths = ("", "/statement", "/buy", "/orders", "/playground", "/settings", "/settings/close", "/requests")
        for path in (
            *(f"/dashboard{path}" for path in paths),
            order,
            f"{order}/receipt",
            f"/dashboard/requests/{request_id}",
            "/",
        ):
            text = await words(ada, path)
            assert not [word for word in CLASS_WORDS if word in text], path
        header = (await ada.get("/dashboard/statement.csv")).text.splitlines()[0]
        assert header == "number,created_at,kind,amount,balance,request_id,reason"
        assert "token_class" not in (await ada.get("/dashboard/requests.csv")).text


async def test_a_retired_class_stays_visible_and_its_pack_is_no_longer_sold(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=PACKS + mail_settings(mailbox)) as site,
        Visitor(site.url) as ada,
    ):
        await join(ada, mailbox, ADA)
        now_us = site.clock.now_us()
        await site.store.accounts.grant(email=ADA, tokens=5, reason="x", now_us=now_us, token_class="old")
        assert "old 5 no model uses these tokens now" in await words(ada, "/dashboard")
        assert "Standard tokens 0 available" in await words(ada, "/dashboard")
        statement = await words(ada, "/dashboard/statement?class=old")
        assert "old Opening balance 0 Change +5 Balance now 5" in statement
