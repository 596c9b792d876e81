"""GET /v1/requests and GET /v1/usage: what a program can list with its key, and never another account's."""

import asyncio
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from support.api_keys import create_key
from support.gateways import EMAIL, Running
from support.http import USAGE_TOTAL, Answer, chat, chat_body, request
from support.scripted_upstream import ScriptedUpstream, status

pytestmark = pytest.mark.anyio


async def get(gateway: Running, path: str, *, api_key: str = "", **query: object) -> Answer:
    headers = {"authorization": f"Bearer {api_key or gateway.api_key}"}
    return await request(gateway.base_url, "GET", f"{path}?{urlencode(query)}" if query else path, headers=headers)


async def until_listed(gateway: Running, request_id: str) -> dict[str, Any]:
    """Return the row of a rejected request once it is stored."""
    async with asyncio.timeout(10):
        while (found := await get(gateway, f"/v1/requests/{request_id}")).status == 404:
            await asyncio.sleep(0)
    row: dict[str, Any] = found.json
    return row


async def test_requests_are_listed_newest_first_with_rejected_ones_in_their_place(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    made: list[str] = []
    for number in range(6):
        upstream.behaviour = status(500) if number == 2 else ScriptedUpstream().behaviour
        body = chat_body(temperature=9) if number == 4 else chat_body()
        made.append((await chat(gateway.base_url, gateway.api_key, body)).headers["x-request-id"])
    await until_listed(gateway, made[4])
    statuses = ["settled", "settled", "released", "settled", "rejected", "settled"]
    status_of = dict(zip(made, statuses, strict=True))
    made.sort()  # Requests of one millisecond have no order but that of their ids.
    listed = (await get(gateway, "/v1/requests")).json
    assert (listed["object"], listed["has_more"], listed["last_id"]) == ("list", False, made[0])
    assert [row["id"] for row in listed["data"]] == made[::-1]
    assert [row["status"] for row in listed["data"]] == [status_of[request_id] for request_id in made[::-1]]
    for row in listed["data"]:
        assert row == (await get(gateway, f"/v1/requests/{row['id']}")).json

    pages: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await get(gateway, "/v1/requests", limit=4, **after)).json
        pages += [row["id"] for row in page["data"]]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break
    assert pages == made[::-1]
    for word in ("settled", "released", "rejected", "pending", "expired"):
        rows = (await get(gateway, "/v1/requests", status=word)).json["data"]
        assert [row["id"] for row in rows] == [id_ for id_ in made[::-1] if status_of[id_] == word]


async def test_a_rejected_request_says_what_was_wrong_and_costs_nothing(gateway: Running) -> None:
    answer = await chat(gateway.base_url, gateway.api_key, chat_body(temperature=9))
    row = await until_listed(gateway, answer.headers["x-request-id"])
    assert abs(row.pop("created_at") - time.time()) < 60
    assert row.pop("api_key_id").startswith("key_")
    assert row == {
        "object": "request",
        "id": answer.headers["x-request-id"],
        "status": "rejected",
        "billed": False,
        "http_status": 400,
        "code": "invalid_request",
        "param": "temperature",
        "message": answer.json["error"]["message"],
        "model": "demo",
        "endpoint": "chat",
    }


async def test_the_id_of_a_402_is_found(gateway: Running) -> None:
    answer = await chat(gateway.base_url, gateway.api_key, chat_body("word " * 300_000))
    assert answer.status == 402
    row = await until_listed(gateway, answer.headers["x-request-id"])
    assert (row["status"], row["http_status"], row["code"]) == ("rejected", 402, "insufficient_tokens")
    assert answer.json["error"]["message"].startswith(row["message"])


async def test_nobody_lists_anothers_requests(gateway: Running) -> None:
    rejected = (await chat(gateway.base_url, gateway.api_key, chat_body(temperature=9))).headers["x-request-id"]
    await until_listed(gateway, rejected)
    await gateway.store.accounts.create(email="other@example.com", tokens=5, now_us=1)
    _, secret = await create_key(gateway.store.accounts, "other@example.com", name="theirs")
    assert (await get(gateway, "/v1/requests", api_key=secret)).json["data"] == []
    assert (await get(gateway, "/v1/usage", api_key=secret)).json["data"] == []
    assert (await get(gateway, f"/v1/requests/{rejected}", api_key=secret)).status == 404


async def test_usage_adds_up_each_utc_day(gateway: Running) -> None:
    _, second = await create_key(gateway.store.accounts, EMAIL, name="second")
    for api_key in (gateway.api_key, gateway.api_key, second):
        assert (await chat(gateway.base_url, api_key, chat_body())).status == 200
    (total,) = (await get(gateway, "/v1/usage")).json["data"]
    assert (total["object"], total["requests"], total["charged"]) == ("usage", 3, 3 * USAGE_TOTAL)
    assert (total["model"], total["api_key_id"]) == (None, None)
    assert total["prompt_tokens"] + total["completion_tokens"] == total["charged"]
    (by_model,) = (await get(gateway, "/v1/usage", bucket="day", group_by="model")).json["data"]
    assert by_model == total | {"model": "demo"}
    by_key = (await get(gateway, "/v1/usage", group_by="key", since=total["day"])).json["data"]
    assert sorted(row["requests"] for row in by_key) == [1, 2]
    assert (await get(gateway, "/v1/usage", until="2020-01-01")).json["data"] == []


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/v1/requests", {"status": "failed"}, "status"),
        ("/v1/requests", {"limit": "0"}, "limit"),
        ("/v1/requests", {"limit": "101"}, "limit"),
        ("/v1/requests", {"limit": "many"}, "limit"),
        ("/v1/requests", {"limit": "\u0661"}, "limit"),
        ("/v1/requests", {"since": "yesterday"}, "since"),
        ("/v1/requests", {"since": "-1"}, "since"),
        ("/v1/requests", {"since": "9" * 30}, "since"),
        ("/v1/requests", {"since": "0001-01-01"}, "since"),
        ("/v1/requests", {"since": "20", "until": "10"}, "until"),
        ("/v1/requests", {"after": "ord_1"}, "after"),
        ("/v1/requests", {"after": "req_\u00e9"}, "after"),
        ("/v1/requests", {"page": "2"}, "page"),
        ("/v1/usage", {"bucket": "hour"}, "bucket"),
        ("/v1/usage", {"group_by": "account"}, "group_by"),
        ("/v1/usage", {"since": "2020-01-01"}, "since"),
        ("/v1/usage", {"until": "99999-01-01"}, "until"),
        ("/v1/usage", {"limit": "5"}, "limit"),
    ],
)
async def test_a_bad_parameter_is_named(gateway: Running, path: str, query: dict[str, str], param: str) -> None:
    answer = await get(gateway, path, **query)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
    assert answer.json["error"]["param"] == param


@pytest.mark.parametrize("since", ["2020-01-01", "2020-01-01T00:00:00Z", "2020-01-01T01:00:00+01:00", "1577836800"])
async def test_times_are_iso_8601_or_seconds(gateway: Running, since: str) -> None:
    await chat(gateway.base_url, gateway.api_key, chat_body())
    assert len((await get(gateway, "/v1/requests", since=since)).json["data"]) == 1
    assert (await get(gateway, "/v1/requests", until=since)).json["data"] == []
