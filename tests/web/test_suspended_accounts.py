"""A suspended account: its keys get a 401 everywhere, and its pages are read-only and say so."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from support.gateways import EMAIL, Running, running
from support.http import Answer, chat, chat_body, request
from support.mailbox import Mailbox
from support.pages import paths
from support.scripted_upstream import ScriptedUpstream
from support.shop import shop
from support.users import PASSWORD, join
from support.visitor import Visitor, text_of
from tok0n.demo.stripe_double import StripeDouble
from tok0n.services.operate_accounts import OperateAccounts

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
ENDPOINTS = """
[models.all]
upstream = "fake"
endpoints = ["chat", "embeddings", "responses", "messages"]
context_window_tokens = 10000
max_output_tokens = 1000
"""


def operate(site: Running) -> OperateAccounts:
    return OperateAccounts(site.store.accounts, site.clock, corrections=site.store.corrections)


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    async with running(tmp_path, upstream_url=upstream.base_url, more=ENDPOINTS) as gateway:
        yield gateway


CALLS: dict[str, tuple[str, str, dict[str, object]]] = {
    "chat": ("POST", "/v1/chat/completions", {"model": "all", "messages": [{"role": "user", "content": "x"}]}),
    "embeddings": ("POST", "/v1/embeddings", {"model": "all", "input": "x"}),
    "responses": ("POST", "/v1/responses", {"model": "all", "input": "x"}),
    "messages": (
        "POST",
        "/v1/messages",
        {"model": "all", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
    ),
    "count_tokens": (
        "POST",
        "/v1/messages/count_tokens",
        {"model": "all", "messages": [{"role": "user", "content": "x"}]},
    ),
    "an invalid request": ("POST", "/v1/chat/completions", {"model": 5}),
    "key": ("GET", "/v1/key", {}),
    "balance": ("GET", "/v1/balance", {}),
    "receipt": ("GET", "/v1/requests/req_0", {}),
}


async def call(site: Running, method: str, path: str, body: dict[str, object]) -> Answer:
    headers = {"authorization": f"Bearer {site.api_key}", "content-type": "application/json"}
    return await request(site.base_url, method, path, json.dumps(body).encode() if body else b"", headers)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("is_cached", [False, True])
async def test_every_endpoint_rejects_its_keys_in_its_own_shape(
    gateway: Running, upstream: ScriptedUpstream, name: str, *, is_cached: bool
) -> None:
    if is_cached:
        assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
        upstream.requests.clear()
    await operate(gateway).suspend(EMAIL, reason="fraud")
    await gateway.caller_cache.refresh()
    method, path, body = CALLS[name]
    answer = await call(gateway, method, path, body)
    assert answer.status == 401, answer.body
    assert (answer.headers["x-should-retry"], answer.headers["www-authenticate"]) == ("false", "Bearer")
    error = answer.error
    if path.startswith("/v1/messages"):
        assert (answer.json["type"], error["type"]) == ("error", "authentication_error")
    else:
        assert (error["code"], error["type"], error["param"]) == ("account_suspended", "authentication_error", None)
    assert error["message"] == "This account is suspended. Contact support."
    assert upstream.requests == []
    await operate(gateway).reopen(EMAIL, reason="cleared")
    await gateway.caller_cache.refresh()
    assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
    assert await gateway.audit_is_clean()


@pytest.fixture
async def opened(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> AsyncIterator[tuple[Running, StripeDouble]]:
    async with shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as opened:
        yield opened


@pytest.fixture
async def ada(opened: tuple[Running, StripeDouble], mailbox: Mailbox) -> AsyncIterator[Visitor]:
    async with Visitor(opened[0].url) as ada:
        await join(ada, mailbox, ADA)
        yield ada


async def test_its_owner_can_sign_in_and_read_every_page_which_says_so(
    opened: tuple[Running, StripeDouble], ada: Visitor
) -> None:
    site, _ = opened
    await ada.post("/dashboard/keys", {"name": "laptop"})
    await operate(site).suspend(ADA, reason="fraud")
    await ada.post_raw("/sign-out", {})
    assert (await ada.sign_in(ADA, PASSWORD)).status_code == 303
    private = [path for path in paths(site, method="GET") if path.startswith("/dashboard")]
    for path in private:
        answer = await ada.get(path)
        assert answer.status_code in ({404} if "/x" in path else {200}), path
        if answer.headers["content-type"].startswith("text/html"):
            assert "This account is suspended." in text_of(answer), path
    assert (await ada.get("/dashboard/statement.csv")).status_code == 200
    forms = {
        form
        for path in ("/dashboard", "/dashboard/buy", "/dashboard/keys", "/dashboard/playground", "/dashboard/orders")
        for form in re.findall(r'<form method="post" action="([^"]*)"', (await ada.get(path)).text)
    }
    assert forms == {"/sign-out"}
    assert "fraud" not in (await ada.get("/dashboard")).text


POSTS: dict[str, Callable[[Visitor], Awaitable[object]]] = {
    "buy": lambda ada: ada.post_raw("/dashboard/buy", {"pack": "starter", "form_id": "A" * 22}),
    "redeem": lambda ada: ada.post_raw("/dashboard/redeem", {"code": "AAAA", "form_id": "A" * 22}),
    "create a key": lambda ada: ada.post_raw("/dashboard/keys", {"name": "x", "form_id": "A" * 22}),
    "edit a key": lambda ada: ada.post_raw("/dashboard/keys/x", {"name": "x"}),
    "disable a key": lambda ada: ada.post_raw("/dashboard/keys/x/enabled", {"enabled": "0"}),
    "rotate a key": lambda ada: ada.post_raw("/dashboard/keys/x/rotate", {"overlap_days": "0", "form_id": "A" * 22}),
    "send": lambda ada: ada.post_raw("/dashboard/playground", {"send": "1", "user": "x", "model": "demo"}),
    "stream": lambda ada: ada.post_raw("/dashboard/playground/stream", {"user": "x", "model": "demo"}),
    "estimate": lambda ada: ada.post_raw("/dashboard/playground/bound", {"user": "x", "model": "demo"}),
    "close": lambda ada: ada.post_raw("/dashboard/settings/close", {"close_password": PASSWORD}),
}


@pytest.mark.parametrize("name", POSTS)
async def test_a_form_that_it_may_not_send_gets_a_clear_error_and_changes_nothing(
    opened: tuple[Running, StripeDouble], ada: Visitor, name: str
) -> None:
    site, _ = opened
    await operate(site).suspend(ADA, reason="fraud")
    before = await site.store.accounts.get(ADA)
    answer = await POSTS[name](ada)
    assert getattr(answer, "status_code", None) == 403
    assert "Contact support" in str(getattr(answer, "text", ""))
    assert await site.store.accounts.get(ADA) == before
    assert await site.store.accounts.list_keys(before.id) == []
    assert await site.store.orders.list_for_account(before.id, before=None, rows_max=9) == []


async def test_its_user_may_still_change_the_password_and_revoke_a_key(
    opened: tuple[Running, StripeDouble], ada: Visitor
) -> None:
    site, _ = opened
    await ada.post("/dashboard/keys", {"name": "laptop"})
    await operate(site).suspend(ADA, reason="fraud")
    fields = {"change": "password", "current": PASSWORD, "password": "another quiet river"}
    assert (await ada.post_raw("/dashboard/settings", fields)).status_code == 303
    (key,) = await site.store.accounts.list_keys((await site.store.accounts.get(ADA)).id)
    assert (await ada.post_raw(f"/dashboard/keys/{key.id}/revoke", {})).status_code == 303
    (key,) = await site.store.accounts.list_keys(key.account_id)
    assert key.is_revoked


async def test_a_payment_that_arrives_for_it_is_credited_and_its_open_order_has_no_link_to_pay(
    opened: tuple[Running, StripeDouble], ada: Visitor
) -> None:
    site, double = opened
    answer = await ada.post("/dashboard/buy", {"pack": "starter"})
    checkout = answer.headers["location"].rpartition("/")[2]
    (order_id,) = re.findall(r"/dashboard/orders/(ord_\w+)", (await ada.get("/dashboard/orders")).text)
    assert "Pay $5.00" in (await ada.get(f"/dashboard/orders/{order_id}")).text
    await operate(site).suspend(ADA, reason="fraud")
    page = await ada.get(f"/dashboard/orders/{order_id}")
    assert "Awaiting payment" in page.text
    assert "Pay $5.00" not in page.text
    double.pay(checkout)
    await double.wait_until_delivered()
    assert site.sell_packs is not None
    await site.sell_packs.handle_all()
    account = await site.store.accounts.get(ADA)
    assert (account.balance.posted, account.status) == (1_000_000, "suspended")
    assert await site.audit_is_clean()
