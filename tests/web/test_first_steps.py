"""What a new user sees first: a checklist, how to get tokens, a key's first request, and the statement's months."""

import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.api_keys import keys_of
from support.gateways import Running, running
from support.http import USAGE_TOTAL, chat, chat_body
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.shop import shop
from support.users import join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.domain.users import Hint
from tok0n.services.redeem_codes import create_code
from tok0n.web.dashboard.first_steps import POLLS_MAX

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
HTMX = {"hx-request": "true"}
DAY_US = 86_400_000_000


async def grant(site: Running, tokens: int = 10_000, *, days_ago: int = 0, token_class: str = "standard") -> None:
    now_us = site.clock.now_us() - days_ago * DAY_US
    await site.store.accounts.grant(email=ADA, tokens=tokens, reason="gift", now_us=now_us, token_class=token_class)


async def create_key(visitor: Visitor) -> tuple[str, str]:
    """Return the id and the secret of a new key."""
    page = (await visitor.post("/dashboard/keys", {"name": "laptop"})).text
    found, secret = re.search(r"/dashboard/keys/(key_\w+)/first-request", page), re.search(r"tk0n_\w+", page)
    assert found is not None
    assert secret is not None
    return found[1], secret[0]


def steps(page: str) -> list[str]:
    return re.findall(r'<li class="(done|current|next)"', page)


async def test_the_checklist_ticks_itself_off_and_goes(site: Running, customer: Visitor) -> None:
    assert steps((await customer.get("/dashboard")).text) == ["current", "next", "next"]
    _, secret = await create_key(customer)
    assert steps((await customer.get("/dashboard")).text) == ["current", "done", "next"]
    await grant(site)
    page = (await customer.get("/dashboard")).text
    assert steps(page) == ["done", "done", "current"]
    assert re.search(r'id="checklist"[^>]* hx-get="/dashboard" hx-trigger="every 3s"', page)
    await chat(site.base_url, secret, chat_body())
    page = (await customer.get("/dashboard")).text
    assert steps(page) == []
    assert '<div id="checklist" hidden></div>' in page, "nothing is loaded again"


async def test_a_dismissed_checklist_stays_away_for_its_user_alone(
    site: Running, customer: Visitor, stranger: Visitor
) -> None:
    answer = await customer.post("/dashboard/hints", {"hint": "checklist"}, page="/dashboard")
    assert answer.headers["location"] == "/dashboard"
    assert "Get started" not in (await customer.get("/dashboard")).text
    assert "Get started" in (await stranger.get("/dashboard")).text
    for hint in ("nonsense", ""):
        assert (await customer.post("/dashboard/hints", {"hint": hint}, page="/dashboard")).status_code == 303
    user = await site.store.users.find(ADA)
    assert user is not None
    assert await site.store.users.dismissed_hints(user.id) == {Hint.CHECKLIST}


async def test_a_user_in_utc_is_offered_the_time_zone_of_the_browser_once(site: Running, customer: Visitor) -> None:
    assert "data-time-zone-offer hidden" in (await customer.get("/dashboard")).text
    await customer.post("/dashboard/time-zone", {"time_zone": "Mars/Base"}, page="/dashboard")
    assert "data-time-zone-offer" not in (await customer.get("/dashboard")).text, "it does not ask twice"
    await customer.post("/dashboard/time-zone", {"time_zone": "Asia/Kolkata"}, page="/dashboard")
    assert "last 48 hours, Asia/Kolkata" in (await customer.get("/dashboard")).text


async def test_wherever_tokens_are_missing_a_shop_links_to_its_packs(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    async with shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as (site, _), Visitor(site.url) as ada:
        await join(ada, mailbox, ADA)
        await grant(site, USAGE_TOTAL)
        await grant(site, -USAGE_TOTAL)
        made = await ada.post("/dashboard/keys", {"name": "laptop"})
        secret = re.findall(r"tk0n_\w+", made.text)[0]
        for page in (await ada.get("/dashboard"), made, await ada.get("/dashboard/playground")):
            assert '<a class="button main" href="/dashboard/buy">Buy tokens</a>' in page.text
        assert ">Buy</a>" in (await ada.get("/dashboard/statement")).text, "Billing has tabs"
        message = (await chat(site.base_url, secret, chat_body())).json["error"]["message"]
        assert message.endswith(f"so no max_completion_tokens fits. Buy tokens: {site.url}/dashboard/buy")


async def test_an_installation_that_sells_nothing_names_codes_or_whom_to_ask(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = '[site]\nsupport_email = "help@example.com"\n' + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as ada:
        await join(ada, mailbox, ADA)
        overview = await ada.get("/dashboard")
        assert "Tokens on this service are granted, not sold." in overview.text
        assert "mailto:help@example.com" in overview.text
        assert ">Buy" not in overview.text
        _, secret = await create_key(ada)
        message = (await chat(site.base_url, secret, chat_body())).json["error"]["message"]
        assert message.endswith("not sold. Contact help@example.com to get tokens.")
    folder = tmp_path / "with a code"
    folder.mkdir()
    async with running(folder, upstream_url=upstream.base_url, more=more) as site, Visitor(site.url) as ada:
        await create_code(site.store.orders, site.clock, tokens=9, uses_max=1, days=None, reason="trial")
        await join(ada, mailbox, "bob@example.com")
        assert 'href="/dashboard/buy#redeem">Redeem a code<' in (await ada.get("/dashboard")).text


async def test_the_page_of_a_new_key_waits_for_its_first_request_and_stops(
    site: Running, customer: Visitor, stranger: Visitor
) -> None:
    key_id, secret = await create_key(customer)
    path = f"/dashboard/keys/{key_id}/first-request"
    waiting = await customer.get(f"{path}?polls=3", HTMX)
    assert "Waiting for your first request" in waiting.text
    assert f'hx-get="{path}?polls=4" hx-trigger="load delay:2s"' in waiting.text
    for polls in (str(POLLS_MAX), "9" * 99, "x", "-1"):
        stopped = await customer.get(f"{path}?polls={polls}", HTMX)
        assert ("hx-get" in stopped.text, "No request yet" in stopped.text) == (False, True)
    await grant(site)
    await chat(site.base_url, secret, chat_body())
    receipt = await customer.get(f"{path}?polls=3", HTMX)
    assert f"Billed {USAGE_TOTAL} Balance {10_000 - USAGE_TOTAL:,}" in " ".join(text_of(receipt).split())
    assert "hx-get" not in receipt.text
    assert (await customer.get(path)).headers["location"] == f"/dashboard/requests?key={key_id}"
    assert (await stranger.get(path, HTMX)).status_code == 404
    await site.store.accounts.get(ADA)
    assert len(await keys_of(site.store.accounts, ADA)) == 1


async def test_the_code_on_the_page_of_a_new_key_has_the_key_and_a_listed_model(
    site: Running, customer: Visitor
) -> None:
    page = (await customer.post("/dashboard/keys", {"name": "laptop"})).text
    secret = re.findall(r"tk0n_\w+", page)[0]
    for number in (1, 2, 3):
        code = re.search(rf'id="chat-{number}"[^>]*>(.*?)</pre>', page, re.DOTALL)
        assert code is not None
        for part in (secret, site.base_url, "demo"):
            assert part in code[1]
        assert "TOK0N_API_KEY" not in code[1]


async def test_the_statement_has_months_that_follow_each_other(site: Running, customer: Visitor) -> None:
    await grant(site, 70, days_ago=40)
    await grant(site, 5)
    page = await customer.get("/dashboard/statement")
    words = " ".join(text_of(page).split())
    assert "Opening balance 70 Change +5 Balance now 75" in words
    previous = re.search(r'rel="prev" href="([^"]+)"', page.text)
    assert previous is not None
    past = datetime.fromtimestamp(site.clock.now_us() / 10**6 - 40 * 86_400, UTC)
    target = f"/dashboard/statement?month={past:%Y-%m}"
    older = await customer.get(target)
    assert "Opening balance 0 Change +70 Closing balance 70" in " ".join(text_of(older).split())
    assert 'rel="prev"' not in older.text
    assert 'rel="next"' in older.text
    assert 'rel="next"' not in page.text
    for query, amounts in ((f"?month={past:%Y-%m}", [70]), ("", [5, 70]), ("?month=x", [5, 70])):
        rows = list(csv.DictReader(io.StringIO((await customer.get(f"/dashboard/statement.csv{query}")).text)))
        assert [int(row["amount"]) for row in rows] == amounts


async def test_no_number_of_the_statement_counts_the_entries_of_others(
    site: Running, customer: Visitor, stranger: Visitor
) -> None:
    del stranger
    seen = []
    for others in (0, 25):
        for _ in range(others):
            await site.store.accounts.grant(email="eve@example.com", tokens=1, reason="x", now_us=site.clock.now_us())
        for _ in range(60):
            await grant(site, 1)
        page = (await customer.get("/dashboard/statement")).text
        (before,) = set(re.findall(r"before=([\w-]+)", page))
        exported = list(csv.DictReader(io.StringIO((await customer.get("/dashboard/statement.csv")).text)))
        assert [int(row["number"]) for row in exported] == list(range(len(exported), 0, -1))
        seen.append((len(exported), before.split("-")[1]))
        older = (await customer.get(f"/dashboard/statement?before={before}")).text
        assert len(re.findall(r'data-label="Balance"', older)) == min(50, len(exported) - 50)
    assert seen == [(60, "11"), (120, "71")]
