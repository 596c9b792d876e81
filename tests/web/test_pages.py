"""Every page shows and changes one account only, escapes what users write, and sends strict headers."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from support.api_keys import keys_of
from support.fakes import ANSWER
from support.gateways import EMAIL, Running, running
from support.http import chat, chat_body
from support.mailbox import Mailbox
from support.pages import XSS, create_key, paths
from support.scripted_upstream import ScriptedUpstream, ok
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.adapters.sql import schema
from tok0n.domain.errors import AccountingFailed
from tok0n.domain.history import RequestFilter

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"


async def test_no_page_shows_or_changes_anything_of_another_account(
    site: Running, owner: Visitor, stranger: Visitor
) -> None:
    await owner.post("/dashboard/settings", {"change": "threshold", "threshold": "5"})
    answer = await chat(site.base_url, site.api_key, chat_body())
    request_id = answer.headers["x-request-id"]
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    account = await site.account()
    owned = [EMAIL, account.id, key.id, request_id, f"{account.balance.posted:,}", f"{key.prefix}…{key.last_four}"]
    before = await everything(site, account.id)
    for path in paths(site, method="GET", key=key.id, request=request_id):
        answered = await stranger.get(path)
        shown = answered.text.replace(path, "")
        assert [word for word in owned if word in shown] == [], path
    for query in (f"?key={key.id}", f"?before={request_id}", f"?id={request_id}"):
        answered = await stranger.get(f"/dashboard/requests{query}")
        shown = answered.text.replace(key.id, "").replace(request_id, "")
        assert [word for word in owned if word in shown] == [], query
    for path in paths(site, method="POST", key=key.id, request=request_id):
        if path.startswith("/dashboard/keys/"):
            page = "/dashboard/settings"
            assert (await stranger.post(path, {"name": "mine"}, page=page)).status_code == 404, path
    assert await everything(site, account.id) == before
    assert (await owner.get(f"/dashboard/requests/{request_id}")).status_code == 200


async def everything(site: Running, account_id: str) -> list[object]:
    """All rows of an account, but for what its sessions were last used."""
    of_account = (
        schema.activity,
        schema.api_key,
        schema.request,
        schema.ledger_entry,
        schema.users,
        schema.balance_alert,
    )
    owners = [schema.account.c.id, *(table.c.account_id for table in of_account)]

    def fn(tx: sa.Connection) -> list[object]:
        queries = [sa.select(owner.table).where(owner == account_id) for owner in owners]
        return [tuple(row) for query in queries for row in tx.execute(query)]

    return await site.store.database.read(fn)


async def test_every_private_page_requires_a_sign_in(site: Running, visitor: Visitor) -> None:
    for method in ("GET", "POST"):
        for path in paths(site, method=method):
            if path.startswith("/dashboard"):
                answer = await (visitor.get(path) if method == "GET" else visitor.post_raw(path, {}))
                assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
                assert answer.headers["cache-control"] == "no-store"


async def test_the_header_leads_to_the_models_and_groups_the_pages_of_billing(owner: Visitor, visitor: Visitor) -> None:
    overview = await owner.get("/dashboard")
    for page in (overview, await visitor.get("/")):
        assert '<a href="/models">Models</a>' in page.text.partition("</header>")[0]
    assert "page-tabs" not in overview.text
    statement = (await owner.get("/dashboard/statement")).text
    assert '<a href="/dashboard/buy" aria-current="page">Billing</a>' in statement
    assert '<a href="/dashboard/statement" aria-current="page">Statement</a>' in statement
    assert '<a href="/dashboard/orders">Orders</a>' in statement


async def test_a_form_from_another_site_changes_nothing(site: Running, owner: Visitor) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    account = await site.account()
    before = await everything(site, account.id)
    fields = {"name": "forged", "change": "threshold", "threshold": "7", "everywhere": "1"}
    async with httpx.AsyncClient(base_url=site.url, cookies=owner.cookies) as browser:
        for path in paths(site, method="POST", key=key.id):
            for headers in (
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site"},
                {"sec-fetch-site": "none"},
                {"sec-fetch-site": "cross-site", "origin": site.url},
                {"origin": "https://evil.example"},
                {"origin": "null"},
                {},
            ):
                answer = await browser.post(path, data=fields, headers=headers)
                assert answer.status_code == 403, (path, headers)
    assert await everything(site, account.id) == before
    assert (await owner.get("/dashboard")).status_code == 200, "not signed out either"


async def test_every_page_has_strict_security_headers(site: Running, owner: Visitor) -> None:
    for path in [*paths(site, method="GET"), "/nothing-here"]:
        answer = await owner.get(path, headers={"accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';"), path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=|<style", answer.text), path
        if path.startswith("/dashboard"):
            assert answer.headers["cache-control"] == "no-store", path


async def test_behind_tls_cookies_are_bound_to_the_host_and_hsts_is_on(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = mail_settings(mailbox)
    overrides = {"server.public_url": "https://tok0n.example"}
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=more, overrides=overrides) as site,
        Visitor(site.url) as visitor,
    ):
        shown = await visitor.get("/sign-up")
        assert shown.headers["strict-transport-security"].startswith("max-age=")
        assert "set-cookie" not in shown.headers
        fields = {"email": ADA, "password": PASSWORD}
        headers = {"origin": "https://tok0n.example"}
        async with httpx.AsyncClient(base_url=site.url) as browser:
            assert (await browser.post("/sign-up", data=fields, headers=headers)).status_code == 200
        link = (await mailbox.take(ADA)).get_content().partition("https://tok0n.example/verify?link=")[2].split()[0]
        verified = await visitor.post("/verify", {"password": PASSWORD}, page=f"/verify?link={link}")
        cookie = verified.headers["set-cookie"]
        assert cookie.startswith("__Host-tok0n=")
        for word in ("; Secure", "; HttpOnly", "; Path=/", "; SameSite=lax"):
            assert word in cookie
        assert "Domain" not in cookie


async def test_pages_escape_what_users_write(site: Running, owner: Visitor, upstream: ScriptedUpstream) -> None:
    key = await create_key(owner, name=XSS)
    await chat(site.base_url, key, chat_body())
    upstream.behaviour = ok(ANSWER.replace(b'"Hello."', json.dumps(XSS).encode()))
    key_id = (await keys_of(site.store.accounts, EMAIL))[-1].id
    account_id = (await site.account()).id
    request_id = (await site.store.history.requests(account_id, RequestFilter(), before=None, rows_max=1))[0].id
    pages = [*paths(site, method="GET", key=key_id, request=request_id), f"/dashboard/requests?key={key_id}"]
    pages += ["/dashboard/usage?by=key", "/dashboard?by=key", f"/dashboard/requests?model={XSS}&status={XSS}"]
    pages += [f"/sign-in?next={XSS}", f"/verify?link={XSS}", f"/dashboard/requests?id={XSS}"]
    for path in pages:
        answer = await owner.get(path)
        if answer.status_code == 303:
            continue
        if answer.headers["content-type"].startswith("text/html"):
            assert "<script>alert" not in answer.text, path
            assert "<img src=x" not in answer.text, path
        else:
            assert answer.headers["content-type"].startswith(("text/csv", "text/plain", "text/markdown")), path
    fields = {"model": "demo", "key": key_id, "limit": "50", "user": XSS, "system": XSS, "send": "1"}
    for changed in ({}, {"model": XSS}, {"key": XSS}, {"limit": XSS}):
        shown = (await owner.post("/dashboard/playground", fields | changed)).text
        assert "<script>alert" not in shown
    async with Visitor(site.url) as other:
        for path in ("/sign-up", "/sign-in", "/reset-password"):
            shown = (await other.post(path, {"email": f"{XSS}@x.example", "password": XSS})).text
            assert "<script>alert" not in shown
            assert "<img src=x" not in shown


async def test_pages_escape_the_names_of_models_and_users(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    model = "<script>alert(1)</script>"
    more = f'[models."{model}"]\nupstream = "fake"\nmax_output_tokens = 100\n' + mail_settings(mailbox)
    email = "o'hara&b@example.com"
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as visitor:
        await join(visitor, mailbox, email)
        await site.store.accounts.grant(email=email, tokens=10_000, reason=XSS, now_us=site.clock.now_us())
        key = await create_key(visitor, models=model)
        assert (await chat(site.base_url, key, chat_body(model=model))).status == 200
        assert email in text_of(await visitor.get("/dashboard"))
        for path in paths(site, method="GET"):
            answer = await visitor.get(path)
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert "<script>alert" not in answer.text, path
                assert "<img src=x" not in answer.text, path
                assert "o'hara&b@" not in answer.text, path


async def test_a_burst_of_sign_ins_delays_no_request(site: Running, visitor: Visitor) -> None:
    async def attempt(number: int) -> int:
        fields = {"email": f"{number}@example.com", "password": "wrong password"}
        return (await visitor.post_raw("/sign-in", fields)).status_code

    attempts = [asyncio.create_task(attempt(number)) for number in range(200)]
    await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
    assert (await chat(site.base_url, site.api_key, chat_body())).status == 200
    assert not all(task.done() for task in attempts), "the call did not wait for the sign-ins"
    statuses = await asyncio.gather(*attempts)
    assert set(statuses) <= {422, 503}, "answered, or told at once to come back"


async def test_a_form_with_too_many_bytes_or_fields_is_rejected(owner: Visitor) -> None:
    assert (await owner.post("/dashboard/keys", {"name": "x" * 600_000})).status_code == 413
    answer = await owner.post("/dashboard/keys", {f"f{number}": "x" for number in range(300)})
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/nothing", "/dashboard/nothing", "/docs/nothing", "/docs/..%2f..%2fetc%2fpasswd"])
async def test_an_unknown_path_gets_a_page_that_says_so(owner: Visitor, path: str) -> None:
    answer = await owner.get(path, headers={"accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, "Page not found" in answer.text) == (404, True)


async def test_a_page_says_when_the_database_is_unavailable(
    site: Running, owner: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise AccountingFailed(upstream_called=False, detail="disk I/O error in SELECT")

    monkeypatch.setattr(type(site.store.history), "wallets", away)
    answer = await owner.get("/dashboard")
    assert (answer.status_code, "nothing was changed" in answer.text) == (500, True)
    assert "disk" not in answer.text
    again = await owner.get("/dashboard?by=key&x=<b>")
    assert '<a class="button main" href="/dashboard?by=key&amp;x=%3Cb%3E">Try again</a>' in again.text
    form = await owner.post("/dashboard/settings/close", {"close_password": "x"}, page="/dashboard/settings")
    assert (form.status_code, "Try again</a>" in form.text) == (500, False), "a link can't submit a form again"
