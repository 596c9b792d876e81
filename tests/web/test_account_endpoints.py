"""What a program can ask with its key: itself, the balance, and the receipt of a request; never another's."""

import msgspec
import pytest

from support.api_keys import create_key
from support.gateways import EMAIL, Running
from support.http import USAGE_TOTAL, chat, chat_body, request
from support.scripted_upstream import ScriptedUpstream, status
from tok0n.domain.accounts import KeyLimits

pytestmark = pytest.mark.anyio


def bearer(api_key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"}


async def key_with(gateway: Running, **limits: object) -> str:
    key_limits = msgspec.convert(limits, KeyLimits)
    _, secret = await create_key(gateway.store.accounts, EMAIL, name="limited", limits=key_limits)
    return secret


async def test_the_balance_is_what_the_receipts_say(gateway: Running) -> None:
    await chat(gateway.base_url, gateway.api_key, chat_body())
    answer = await request(gateway.base_url, "GET", "/v1/balance", headers=bearer(gateway.api_key))
    assert answer.status == 200
    posted = 1_000_000 - USAGE_TOTAL
    figures = {"posted": posted, "pending": 0, "available": posted}
    standard = {"token_class": "standard", "title": "Standard tokens", **figures}
    assert answer.json == {"object": "balance", **figures, "classes": [standard]}
    assert answer.headers["x-ratelimit-remaining-requests"] == str(1_000_000 - 1)
    assert answer.headers["cache-control"] == "no-store"


async def test_the_receipt_of_a_request_is_found_by_the_id_in_its_answer(gateway: Running) -> None:
    called = await chat(gateway.base_url, gateway.api_key, chat_body())
    request_id = called.headers["x-request-id"]
    answer = await request(gateway.base_url, "GET", f"/v1/requests/{request_id}", headers=bearer(gateway.api_key))
    receipt = answer.json
    assert (receipt["id"], receipt["status"], receipt["billed"], receipt["code"]) == (request_id, "settled", True, None)
    assert str(receipt["reserved"]) == called.headers["x-tok0n-reserved"]
    assert (receipt["charged"], receipt["released"]) == (USAGE_TOTAL, receipt["reserved"] - USAGE_TOTAL)
    assert receipt["usage"]["total_tokens"] == USAGE_TOTAL


async def test_a_request_that_failed_says_why_it_was_not_billed(gateway: Running, upstream: ScriptedUpstream) -> None:
    upstream.behaviour = status(500)
    called = await chat(gateway.base_url, gateway.api_key, chat_body())
    path = f"/v1/requests/{called.headers['x-request-id']}"
    receipt = (await request(gateway.base_url, "GET", path, headers=bearer(gateway.api_key))).json
    assert (receipt["status"], receipt["billed"], receipt["code"]) == ("released", False, "upstream_error")
    assert (receipt["charged"], receipt["released"], receipt["usage"]) == (0, receipt["reserved"], None)


async def test_a_key_tells_its_limits_and_what_it_spent(gateway: Running) -> None:
    key = await key_with(gateway, budget=5_000, models=["demo"])
    assert (await chat(gateway.base_url, key, chat_body())).status == 200
    answer = (await request(gateway.base_url, "GET", "/v1/key", headers=bearer(key))).json
    assert (answer["budget"], answer["spent"], answer["models"]) == (5_000, USAGE_TOTAL, ["demo"])
    assert answer["name"] == "limited"
    assert answer["shown_as"].startswith("tk0n_")
    assert key not in str(answer)


async def test_a_key_beyond_its_budget_or_models_is_refused(gateway: Running, upstream: ScriptedUpstream) -> None:
    poor = await key_with(gateway, budget=100)
    answer = await chat(gateway.base_url, poor, chat_body())
    assert (answer.status, answer.error["code"]) == (402, "insufficient_tokens")
    assert answer.headers["x-should-retry"] == "false"
    narrow = await key_with(gateway, models=["another"])
    answer = await chat(gateway.base_url, narrow, chat_body())
    assert (answer.status, answer.error["param"]) == (400, "model")
    late = await key_with(gateway, expires_at_us=1)
    assert (await chat(gateway.base_url, late, chat_body())).status == 401
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["/v1/key", "/v1/balance", "/v1/requests/req_0"])
async def test_nothing_is_told_without_a_key(gateway: Running, path: str) -> None:
    answer = await request(gateway.base_url, "GET", path)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (await request(gateway.base_url, "POST", path)).status == 405


async def test_the_request_of_another_account_is_not_found(gateway: Running) -> None:
    called = await chat(gateway.base_url, gateway.api_key, chat_body())
    await gateway.store.accounts.create(email="other@example.com", tokens=10, now_us=1)
    _, secret = await create_key(gateway.store.accounts, "other@example.com")
    path = f"/v1/requests/{called.headers['x-request-id']}"
    answer = await request(gateway.base_url, "GET", path, headers=bearer(secret))
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert (await request(gateway.base_url, "GET", "/v1/balance", headers=bearer(secret))).json["posted"] == 10
