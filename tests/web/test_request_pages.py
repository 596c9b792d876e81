"""The pages of requests: rejected ones are rows too, totals are exact, and any ID is found."""

import csv
import html
import io
import re
import time

import pytest

from support.gateways import Running
from support.http import USAGE_TOTAL, chat, chat_body
from support.pages import rejected
from support.visitor import Visitor, text_of, words_of
from tok0n.adapters.sql.repositories import request_scan

pytestmark = pytest.mark.anyio


async def test_a_rejected_request_is_a_row_with_a_page_that_says_what_to_do(site: Running, owner: Visitor) -> None:
    await chat(site.base_url, site.api_key, chat_body())
    request_id = await rejected(site, owner)
    listed = await owner.get("/dashboard/requests")
    assert request_id in listed.text
    assert "Rejected" in text_of(listed)
    for path in (f"/dashboard/requests/{request_id}", f"/dashboard/requests?id={request_id}"):
        page = text_of(await owner.get(path))
        assert "temperature must be a number from 0 to 2." in page
        assert "Correct the request and send it again." in page
        assert "so it cost nothing." in page
        assert "400" in page


async def test_filters_are_chips_that_remove_themselves(site: Running, owner: Visitor) -> None:
    request_id = await rejected(site, owner)
    billed = (await chat(site.base_url, site.api_key, chat_body())).headers["x-request-id"]
    page = (await owner.get("/dashboard/requests?status=rejected&code=invalid_request&model=demo")).text
    assert request_id in page
    assert billed not in page
    chips = re.findall(r'aria-label="Remove the filter ([^"]+)"', page)
    assert chips == ["Model: demo", "Status: Rejected", "Error: invalid_request"]
    assert 'href="/dashboard/requests?model=demo&amp;status=rejected" aria-label="Remove the filter Error' in page
    only_billed = (await owner.get("/dashboard/requests?status=settled")).text
    assert billed in only_billed
    assert request_id not in only_billed


async def test_the_total_is_the_sum_of_the_rows_of_a_short_period(site: Running, owner: Visitor) -> None:
    for _ in range(3):
        await chat(site.base_url, site.api_key, chat_body())
    now = time.time()
    since, until = (time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now + minutes * 60)) for minutes in (-1, 2))
    page = text_of(await owner.get(f"/dashboard/requests?since={since}&until={until}"))
    assert "Total of 3 billed requests" in page
    assert f"{3 * USAGE_TOTAL:,}" in page
    before = text_of(await owner.get(f"/dashboard/requests?until={since}"))
    assert "No matching requests" in before


async def test_the_export_has_rejected_requests_with_their_error(site: Running, owner: Visitor) -> None:
    request_id = await rejected(site, owner)
    billed = (await chat(site.base_url, site.api_key, chat_body())).headers["x-request-id"]
    text = (await owner.get("/dashboard/requests.csv")).text
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert list(rows) == [billed, request_id]
    row = rows[request_id]
    assert (row["status"], row["billed"], row["http_status"]) == ("rejected", "no", "400")
    assert (row["code"], row["param"], row["charged"]) == ("invalid_request", "temperature", "0")
    assert (rows[billed]["status"], rows[billed]["http_status"]) == ("settled", "")


async def test_requests_are_filtered_by_tokens_and_latency(site: Running, owner: Visitor) -> None:
    request_id = await rejected(site, owner)
    billed = (await chat(site.base_url, site.api_key, chat_body())).headers["x-request-id"]
    for query, is_found in (
        (f"tokens_min={USAGE_TOTAL}&tokens_max={USAGE_TOTAL}", True),
        (f"tokens_min={USAGE_TOTAL + 1}", False),
        ("tokens_max=0", False),
        ("latency_min=0&status=settled", True),
        ("latency_max=3,000,000,000,000", True),
        (f"latency_min={10**30}", False),
        ("tokens_min=1&status=rejected", False),
    ):
        page = (await owner.get(f"/dashboard/requests?{query}")).text
        rows = (await owner.get(f"/dashboard/requests.csv?{query}")).text
        assert (billed in page, billed in rows) == (is_found, is_found), query
        assert request_id not in page + rows, query
    page = (await owner.get("/dashboard/requests?tokens_min=1&latency_max=90000&model=demo")).text
    chips = re.findall(r'aria-label="Remove the filter ([^"]+)"', page)
    assert chips == ["Model: demo", "Tokens: at least 1", "Latency: at most 90,000 ms"]
    assert "Total of 1 billed request" in text_of(await owner.get("/dashboard/requests?tokens_min=1"))


async def test_a_bound_below_the_other_one_is_an_error_that_names_the_value(owner: Visitor) -> None:
    page = text_of(await owner.get("/dashboard/requests?tokens_min=5000&tokens_max=10"))
    assert "Enter 5,000 or more." in page


async def test_the_receipt_of_a_reversed_charge_says_that_it_was_given_back(site: Running, owner: Visitor) -> None:
    request_id = (await chat(site.base_url, site.api_key, chat_body())).headers["x-request-id"]
    path = f"/dashboard/requests/{request_id}"
    before = words_of(await owner.get(path))
    assert f"Billed {USAGE_TOTAL} " in before
    assert "Given back" not in before
    await site.store.ledger.reverse(request_id=request_id, now_us=site.clock.now_us())
    after = words_of(await owner.get(path))
    assert "We gave this charge back" in after
    assert f"Given back \N{MINUS SIGN}{USAGE_TOTAL} Total 0 " in after
    assert "Billed" not in after.partition("Tokens Prompt")[2]


@pytest.mark.parametrize("query", ["tokens_min=many", "latency_max=-1", "latency_min=2&latency_max=1"])
async def test_a_filter_that_is_no_number_is_an_error_beside_its_field(owner: Visitor, query: str) -> None:
    page = (await owner.get(f"/dashboard/requests?{query}")).text
    assert len(re.findall(r'aria-invalid="true"', page)) == 1
    assert (await owner.get(f"/dashboard/requests.csv?{query}")).status_code == 422


async def test_a_search_says_how_far_it_went_and_continues(
    site: Running, owner: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_scan, "SCANNED_MAX", 2)
    made = [(await chat(site.base_url, site.api_key, chat_body())).headers["x-request-id"] for _ in range(5)]
    found: list[str] = []
    path: str | None = "/dashboard/requests?tokens_min=1"
    pages = []
    while path:
        page = await owner.get(path)
        pages.append(text_of(page))
        found += [request_id for request_id in reversed(made) if request_id in page.text]
        older = re.search(r'href="([^"]+)">Search older requests', page.text)
        path = html.unescape(older[1]) if older else None
    assert found == made[::-1]
    assert len(pages) == 3
    assert "Total of 2 billed requests of those searched" in pages[0]
    assert "We searched all requests before" in pages[2]
    csv_rows = (await owner.get("/dashboard/requests.csv?tokens_min=1")).text
    assert [line.split(",")[0] for line in csv_rows.splitlines()[1:]] == made[::-1]
    nothing = text_of(await owner.get("/dashboard/requests?tokens_max=1"))
    assert "No matching requests so far" in nothing
    assert len((await owner.get("/dashboard/requests.csv?tokens_max=1")).text.splitlines()) == 1
