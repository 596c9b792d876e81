"""The overview, receipts, statement, requests and usage of an account show the same tokens."""

import csv
import io

import pytest

from support.gateways import EMAIL, Running
from support.http import USAGE_TOTAL, chat, chat_body
from support.mailbox import Mailbox
from support.pages import create_key, rejected
from support.scripted_upstream import ScriptedUpstream, status
from support.visitor import Visitor, text_of

pytestmark = pytest.mark.anyio


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
    words = " ".join(receipt.split())
    assert f"Released \N{MINUS SIGN}{reserved - USAGE_TOTAL:,} Billed {USAGE_TOTAL}" in words
    assert words.index("Prompt") < words.index("Reported by the model") < words.index("Reserved"), "the bill is last"
    unbilled = text_of(await owner.get(f"/dashboard/requests/{failed.headers['x-request-id']}"))
    assert "Not billed" in unbilled
    assert "the provider failed" in unbilled
    statement = await owner.get("/dashboard/statement")
    assert f'id="closing">{left:,}<' in statement.text
    exported = list(csv.DictReader(io.StringIO((await owner.get("/dashboard/statement.csv")).text)))
    assert sum(int(row["amount"]) for row in exported) == left
    assert int(exported[0]["balance"]) == left
    found = await owner.get(f"/dashboard/requests?id={charged.headers['x-request-id']}")
    assert "Receipt" in found.text


async def test_an_export_has_the_requests_that_the_page_shows(
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


async def test_pages_show_times_in_the_time_zone_of_the_user(site: Running, owner: Visitor) -> None:
    answer = await chat(site.base_url, site.api_key, chat_body())
    await owner.post("/dashboard/settings", {"change": "time_zone", "time_zone": "Asia/Kolkata"})
    page = await owner.get(f"/dashboard/requests/{answer.headers['x-request-id']}")
    assert "Asia/Kolkata" in page.text
    assert "+05:30" in page.text
    bad = await owner.post("/dashboard/settings", {"change": "time_zone", "time_zone": "../../etc/passwd"})
    assert bad.status_code == 422


async def test_the_chart_of_usage_has_a_table_with_the_same_total(site: Running, owner: Visitor) -> None:
    for _ in range(2):
        await chat(site.base_url, site.api_key, chat_body())
    for query in ("", "?last=24h", "?by=key", "?last=90d&by=key"):
        page = await owner.get(f"/dashboard/usage{query}")
        assert f'data-values="{2 * USAGE_TOTAL}"' in page.text, "the bar has its value"
        assert page.text.count('tabindex="0"') == page.text.count('class="table') + 1, "one tab stop per chart"
        assert f"{2 * USAGE_TOTAL:,}</td>" in page.text.partition("<tfoot>")[2]
        assert "so far" in page.text
        head, _, main = page.text.partition("<main")
        assert ("charts.js" in head, "<script" in main) == (True, False), "htmx would run a script in main again"
    requests = await owner.get("/dashboard/usage?show=requests")
    assert 'data-values="2"' in requests.text
    too_long = await owner.get("/dashboard/usage?since=2020-01-01&until=2026-01-01")
    assert (too_long.status_code, "at most 92 days" in too_long.text) == (422, True)


async def test_the_export_of_usage_adds_up_to_the_page(site: Running, owner: Visitor) -> None:
    for _ in range(3):
        await chat(site.base_url, site.api_key, chat_body())
    rows = list(csv.DictReader(io.StringIO((await owner.get("/dashboard/usage.csv?last=30d")).text)))
    assert sum(int(row["tokens_billed"]) for row in rows) == 3 * USAGE_TOTAL
    assert sum(int(row["requests"]) for row in rows) == 3
    assert {(row["model"], row["key_name"]) for row in rows} == {("demo", rows[0]["key_name"])}
    assert (await owner.get("/dashboard/usage.csv?since=yesterday")).status_code == 422


async def test_the_errors_of_usage_are_the_failed_and_the_rejected_requests(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    await chat(site.base_url, site.api_key, chat_body())
    for _ in range(2):
        await rejected(site, owner)
    upstream.behaviour = status(500)
    await chat(site.base_url, site.api_key, chat_body())
    for query in ("", "&last=24h", "&by=key", "&model=demo"):
        page = await owner.get(f"/dashboard/usage?show=errors{query}")
        assert 'data-values="3"' in page.text
        text = " ".join(text_of(page).split())
        assert "Errors 3 requests" in text
        assert "Failed 1 not billed" in text
        assert "Rejected 2 never sent" in text
        rows = csv.DictReader(io.StringIO((await owner.get(f"/dashboard/usage.csv?show=errors{query}")).text))
        assert [(row["errors"], row["failed"], row["rejected"]) for row in rows] == [("3", "1", "2")]
    assert "No errors in this period" in (await owner.get("/dashboard/usage?show=errors&model=other")).text


async def test_the_latency_of_usage_is_that_of_the_billed_requests(
    site: Running, owner: Visitor, upstream: ScriptedUpstream
) -> None:
    assert "No billed requests in this period" in (await owner.get("/dashboard/usage?show=latency")).text
    for _ in range(3):
        await chat(site.base_url, site.api_key, chat_body())
    upstream.behaviour = status(500)
    await chat(site.base_url, site.api_key, chat_body())
    for query in ("", "&last=90d", "&by=key", "&model=demo"):
        page = await owner.get(f"/dashboard/usage?show=latency{query}")
        text = " ".join(text_of(page).split())
        assert "Requests 3 measured" in text
        (row,) = csv.DictReader(io.StringIO((await owner.get(f"/dashboard/usage.csv?show=latency{query}")).text))
        assert row["requests"] == "3"
        assert 0 <= int(row["p50_ms"]) <= int(row["p95_ms"]) < 60_000
        assert f'data-values="{row["p50_ms"]} {row["p95_ms"]}"' in page.text
        assert page.text.count('tabindex="0"') == page.text.count('class="table') + 1, "one tab stop per chart"


async def test_the_overview_says_how_long_the_tokens_last(site: Running, owner: Visitor) -> None:
    assert "At the rate" not in (await owner.get("/dashboard")).text
    await owner.post("/dashboard/settings", {"change": "threshold", "threshold": "0"})
    for _ in range(40):
        await chat(site.base_url, site.api_key, chat_body())
    left = 1_000_000 - 40 * USAGE_TOTAL
    days = left * 7 // (40 * USAGE_TOTAL)
    text = (await owner.get("/dashboard")).text
    assert (f"your tokens last about {days:} days" in " ".join(text.split())) == (days <= 999)


async def test_a_low_balance_appears_on_the_overview_and_in_an_email(
    site: Running, owner: Visitor, mailbox: Mailbox
) -> None:
    await owner.post("/dashboard/settings", {"change": "threshold", "threshold": "999,995"})
    await chat(site.base_url, site.api_key, chat_body())
    mail = await mailbox.take(EMAIL)
    assert f"{1_000_000 - USAGE_TOTAL:,} tokens" in mail.get_content()
    assert "Your balance is below 999,995" in text_of(await owner.get("/dashboard"))
    refused = await owner.post("/dashboard/settings", {"change": "threshold", "threshold": "-1"})
    assert refused.status_code == 422


async def test_an_export_holds_no_formula_that_a_spreadsheet_would_run(site: Running, owner: Visitor) -> None:
    key = await create_key(owner, name="=cmd|'/c calc'!A0")
    await chat(site.base_url, key, chat_body())
    exported = (await owner.get("/dashboard/requests.csv")).text
    assert ",'=cmd|" in exported
    assert ",=cmd|" not in exported
