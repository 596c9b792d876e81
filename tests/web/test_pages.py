"""What the pages of an account show and do, to whom, and to nobody else."""

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from starlette.routing import Route

from support.api_keys import create_key, keys_of
from support.fakes import ANSWER
from support.gateways import EMAIL, Running, running
from support.http import USAGE_TOTAL, chat, chat_body
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, ok, status
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.adapters.sql import schema
from tok0n.domain.errors import AccountingFailed
from tok0n.domain.history import RequestFilter
from tok0n.services.playground import READS_MAX

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
CANARY = "canary-Zq7-of-a-prompt"
XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
async def owner(site: Running, visitor: Visitor, mailbox: Mailbox) -> Visitor:
    """Whoever owns the gateway's first account, with its million tokens and its key."""
    await join(visitor, mailbox, EMAIL)
    return visitor


@pytest.fixture
async def stranger(site: Running, mailbox: Mailbox) -> AsyncIterator[Visitor]:
    """Somebody else, signed in."""
    async with Visitor(site.url) as stranger:
        await join(stranger, mailbox, "eve@example.com")
        yield stranger


FILES = {"/assets/{name}", "/favicon.ico", "/robots.txt"}


def paths(site: Running, *, method: str, key: str = "x", request: str = "x", order: str = "x") -> list[str]:
    """The paths of all pages that take this method."""
    return [
        route.path.format(key=key, request=request, order=order, slug="billing")
        for route in site.routes
        if isinstance(route, Route) and method in (route.methods or set()) and route.path not in FILES
    ]


async def made_key(customer: Visitor, **fields: str) -> str:
    """Make a key as the page does; gives the key."""
    answer = await customer.post("/dashboard/keys", {"name": "laptop", **fields})
    assert answer.status_code == 200, text_of(answer)
    found = re.search(r'<p class="secret" id="secret"[^>]*>(tk0n_\w+)</p>', answer.text)
    assert found is not None
    return found[1]


async def test_a_key_is_shown_once_works_and_is_revoked_for_its_next_call(
    site: Running, owner: Visitor, capfd: pytest.CaptureFixture[str]
) -> None:
    key = await made_key(owner)
    assert (await chat(site.base_url, key, chat_body())).status == 200
    for path in paths(site, method="GET"):
        assert key not in (await owner.get(path)).text, path
    page = await owner.get("/dashboard/keys")
    assert f"{key[:9]}…{key[-4:]}" in page.text
    newest = re.findall(r"/dashboard/keys/(key_\w+)/revoke", page.text)[0]
    question = await owner.get(f"/dashboard/keys/{newest}/revoke")
    assert "Revoke “laptop”?" in question.text
    assert (await chat(site.base_url, key, chat_body())).status == 200, "asking revokes nothing"
    await owner.post(f"/dashboard/keys/{newest}/revoke")
    assert (await chat(site.base_url, key, chat_body())).status == 401
    stored = b"".join(path.read_bytes() for path in site.folder.glob("tok0n.db*"))
    assert key.encode() not in stored
    assert key not in "".join(capfd.readouterr())


async def test_a_key_has_the_limits_that_the_form_says(site: Running, owner: Visitor) -> None:
    key = await made_key(owner, days="30", budget="5,000", models="demo")
    shown = text_of(await owner.get("/dashboard/keys"))
    assert "5,000" in shown
    assert (await chat(site.base_url, key, chat_body())).status == 200
    listed = (await keys_of(site.store.accounts, EMAIL))[-1]
    assert (listed.limits.budget, listed.limits.models) == (5_000, ("demo",))
    for fields, words in (
        ({"days": "0"}, "whole number from 1"),
        ({"budget": "many"}, "whole number from 1"),
        ({"models": "gone"}, "no longer available"),
        ({"name": " "}, "1 to 100 printable"),
        ({"name": "a\tb"}, "1 to 100 printable"),
    ):
        answer = await owner.post("/dashboard/keys", {"name": "n", **fields})
        assert (answer.status_code, words in text_of(answer)) == (422, True), fields


async def test_there_is_an_end_to_keys(owner: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tok0n.services.api_keys.KEYS_MAX", 2)
    await made_key(owner)
    refused = await owner.post("/dashboard/keys", {"name": "one more"})
    assert (refused.status_code, "Revoke one first" in refused.text) == (422, True)


async def test_a_key_is_renamed(site: Running, owner: Visitor) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    await owner.post(f"/dashboard/keys/{key.id}/rename", {"name": "production"})
    assert "production" in (await owner.get("/dashboard/keys")).text
    assert (await chat(site.base_url, site.api_key, chat_body())).status == 200


async def test_the_receipt_the_overview_and_the_statement_agree(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    charged = await chat(site.base_url, site.api_key, chat_body())
    upstream.behaviour = status(500)
    failed = await chat(site.base_url, site.api_key, chat_body())
    left = 1_000_000 - USAGE_TOTAL
    assert charged.headers["x-tok0n-available"] == str(left)
    overview = text_of(await owner.get("/dashboard"))
    assert f"{left:,}" in overview
    receipt = text_of(await owner.get(f"/dashboard/requests/{charged.headers['x-request-id']}"))
    reserved = int(charged.headers["x-tok0n-reserved"])
    assert f"Reserved {reserved:,}" in " ".join(receipt.split())
    assert f"Released {reserved - USAGE_TOTAL:,}" in " ".join(receipt.split())
    unbilled = text_of(await owner.get(f"/dashboard/requests/{failed.headers['x-request-id']}"))
    assert "Not billed" in unbilled
    assert "the provider failed" in unbilled
    statement = await owner.get("/dashboard/statement")
    assert f'id="sum">{left:,}<' in statement.text
    exported = list(csv.DictReader(io.StringIO((await owner.get("/dashboard/statement.csv")).text)))
    assert sum(int(row["amount"]) for row in exported) == left
    assert int(exported[0]["balance"]) == left
    found = await owner.get(f"/dashboard/requests?id={charged.headers['x-request-id']}")
    assert "Receipt" in found.text


async def test_requests_are_filtered_and_exported_as_shown(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    for _ in range(3):
        await chat(site.base_url, site.api_key, chat_body())
    upstream.behaviour = status(500)
    await chat(site.base_url, site.api_key, chat_body())
    for query, rows in (
        ("", 4),
        ("?status=released", 1),
        ("?status=settled", 3),
        ("?model=other", 0),
        ("?last=24h", 4),
        ("?since=2020-01-01&until=2020-02-01", 0),
        ("?since=2020-01-01T00:00", 4),
    ):
        page = await owner.get(f"/dashboard/requests{query}")
        assert page.text.count('href="/dashboard/requests/req_') == rows, query
        lines = list(csv.DictReader(io.StringIO((await owner.get(f"/dashboard/requests.csv{query}")).text)))
        assert len(lines) == rows
    assert f"{3 * USAGE_TOTAL}" in (await owner.get("/dashboard/requests")).text.partition("<tfoot>")[2]
    for query in ("?since=yesterday", "?since=2026-02-01&until=2026-01-01", "?until=9999-99-99"):
        assert (await owner.get(f"/dashboard/requests{query}")).status_code == 422
        assert (await owner.get(f"/dashboard/requests.csv{query}")).status_code == 422


async def test_times_are_shown_in_the_zone_that_was_chosen(site: Running, owner: Visitor) -> None:
    answer = await chat(site.base_url, site.api_key, chat_body())
    await owner.post("/dashboard/settings", {"change": "time_zone", "time_zone": "Asia/Kolkata"})
    page = await owner.get(f"/dashboard/requests/{answer.headers['x-request-id']}")
    assert "Asia/Kolkata" in page.text
    assert "+05:30" in page.text
    bad = await owner.post("/dashboard/settings", {"change": "time_zone", "time_zone": "../../etc/passwd"})
    assert bad.status_code == 422


async def test_usage_is_plotted_with_a_table_that_adds_up(site: Running, owner: Visitor) -> None:
    for _ in range(2):
        await chat(site.base_url, site.api_key, chat_body())
    for query in ("", "?last=24h", "?by=key", "?last=90d&by=key"):
        page = await owner.get(f"/dashboard/usage{query}")
        assert f"{2 * USAGE_TOTAL} tokens" in page.text, "the bar says its value"
        assert page.text.count(f'<td class="number">{2 * USAGE_TOTAL}</td>') >= 2
    assert "At the most" not in page.text
    too_long = await owner.get("/dashboard/usage?since=2020-01-01&until=2026-01-01")
    assert (too_long.status_code, "at most 92 days" in too_long.text) == (422, True)


async def test_a_low_balance_is_shown_and_mailed(site: Running, owner: Visitor, mailbox: Mailbox) -> None:
    await owner.post("/dashboard/settings", {"change": "threshold", "threshold": "999,995"})
    await chat(site.base_url, site.api_key, chat_body())
    mail = await mailbox.take(EMAIL)
    assert f"{1_000_000 - USAGE_TOTAL:,} tokens" in mail.get_content()
    assert "Your balance is below 999,995" in text_of(await owner.get("/dashboard"))
    refused = await owner.post("/dashboard/settings", {"change": "threshold", "threshold": "-1"})
    assert refused.status_code == 422


async def test_the_playground_tells_the_bound_before_and_the_receipt_after(
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


async def test_a_playground_call_whose_visitor_left_is_settled(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    answered = asyncio.Event()
    behaviour = upstream.behaviour

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await behaviour(writer)

    upstream.behaviour = slowly
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


async def test_the_balance_that_is_empty_says_so_in_the_playground(stranger: Visitor, site: Running) -> None:
    await made_key(stranger)
    key = (await keys_of(site.store.accounts, "eve@example.com"))[0]
    fields = {"model": "demo", "key": key.id, "limit": "50", "user": "Hi", "send": "1"}
    answer = await stranger.post("/dashboard/playground", fields)
    assert (answer.status_code, "insufficient_tokens" in answer.text) == (402, True)


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
    of_account = (schema.api_key, schema.request, schema.ledger_entry, schema.users, schema.low_balance_notice)
    owners = [schema.account.c.id, *(table.c.account_id for table in of_account)]

    def fn(tx: sa.Connection) -> list[object]:
        queries = [sa.select(owner.table).where(owner == account_id) for owner in owners]
        return [tuple(row) for query in queries for row in tx.execute(query)]

    return await site.store.database.read(fn)


async def test_every_private_page_wants_a_sign_in(site: Running, visitor: Visitor) -> None:
    for method in ("GET", "POST"):
        for path in paths(site, method=method):
            if path.startswith("/dashboard"):
                answer = await (visitor.get(path) if method == "GET" else visitor.post_raw(path, {}))
                assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
                assert answer.headers["cache-control"] == "no-store"


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


async def test_every_page_forbids_what_it_does_not_need(site: Running, owner: Visitor) -> None:
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


async def test_behind_tls_cookies_are_bound_to_this_host_and_hsts_is_on(
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


async def test_what_people_write_is_shown_as_text(site: Running, owner: Visitor, upstream: ScriptedUpstream) -> None:
    key = await made_key(owner, name=XSS)
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


async def test_the_names_of_models_and_people_are_shown_as_text(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    model = "<script>alert(1)</script>"
    more = f'[models."{model}"]\nupstream = "fake"\nmax_output_tokens = 100\n' + mail_settings(mailbox)
    email = "o'hara&b@example.com"
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as visitor:
        await join(visitor, mailbox, email)
        await site.store.accounts.grant(email=email, tokens=10_000, reason=XSS, now_us=site.clock.now_us())
        key = await made_key(visitor, models=model)
        assert (await chat(site.base_url, key, chat_body(model=model))).status == 200
        assert email in text_of(await visitor.get("/dashboard"))
        for path in paths(site, method="GET"):
            answer = await visitor.get(path)
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert "<script>alert" not in answer.text, path
                assert "<img src=x" not in answer.text, path
                assert "o'hara&b@" not in answer.text, path


async def test_a_spreadsheet_runs_nothing_of_an_export(site: Running, owner: Visitor) -> None:
    key = await made_key(owner, name="=cmd|'/c calc'!A0")
    await chat(site.base_url, key, chat_body())
    exported = (await owner.get("/dashboard/requests.csv")).text
    assert ",'=cmd|" in exported
    assert ",=cmd|" not in exported


async def test_sign_ins_wait_for_each_other_and_calls_wait_for_none(site: Running, visitor: Visitor) -> None:
    async def attempt(number: int) -> int:
        fields = {"email": f"{number}@example.com", "password": "wrong password"}
        return (await visitor.post_raw("/sign-in", fields)).status_code

    attempts = [asyncio.create_task(attempt(number)) for number in range(200)]
    await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
    assert (await chat(site.base_url, site.api_key, chat_body())).status == 200
    assert not all(task.done() for task in attempts), "the call did not wait for the sign-ins"
    statuses = await asyncio.gather(*attempts)
    assert set(statuses) <= {422, 503}, "answered, or told at once to come back"


async def test_a_form_that_is_too_large_or_no_form_is_refused(owner: Visitor) -> None:
    assert (await owner.post("/dashboard/keys", {"name": "x" * 600_000})).status_code == 413
    answer = await owner.post("/dashboard/keys", {f"f{number}": "x" for number in range(300)})
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/nothing", "/dashboard/nothing", "/docs/nothing", "/docs/..%2f..%2fetc%2fpasswd"])
async def test_what_is_not_there_is_a_page_that_says_so(owner: Visitor, path: str) -> None:
    answer = await owner.get(path, headers={"accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, "Page not found" in answer.text) == (404, True)


async def test_when_the_database_is_away_a_page_says_so(
    site: Running, owner: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise AccountingFailed(upstream_called=False, detail="disk I/O error in SELECT")

    monkeypatch.setattr(type(site.store.history), "balance", away)
    answer = await owner.get("/dashboard")
    assert (answer.status_code, "nothing was changed" in answer.text) == (500, True)
    assert "disk" not in answer.text


async def test_when_a_key_was_last_used_is_remembered(site: Running, owner: Visitor) -> None:
    assert "never" in text_of(await owner.get("/dashboard/keys"))
    await chat(site.base_url, site.api_key, chat_body())
    await site.caller_cache.flush_last_used()
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    assert key.last_used_at_us is not None
    assert abs(key.last_used_at_us - site.clock.now_us()) < 60_000_000
    unused, _ = await create_key(site.store.accounts, EMAIL)
    assert unused.last_used_at_us is None


async def test_the_playground_bounds_only_so_many_requests_of_an_account(owner: Visitor, stranger: Visitor) -> None:
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


async def test_the_playground_shows_an_answer_that_holds_odd_json(
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
