"""What a program can ask with its key: itself, the balance, and the receipt of a request; never another's."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.api_keys import budget, create_key, edit_key
from support.gateways import EMAIL, Running, running
from support.http import USAGE_TOTAL, Connection, chat, chat_body, request
from support.scripted_upstream import ScriptedUpstream, status
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.budgets import ResetPeriod

pytestmark = pytest.mark.anyio


def bearer(api_key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"}


async def key_with(gateway: Running, **limits: Any) -> str:
    _, secret = await create_key(gateway.store.accounts, EMAIL, name="limited", limits=KeyLimits(**limits))
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
    budgets = (budget(5_000), budget(2_000, ResetPeriod.DAY), budget(3_000, ResetPeriod.MONTH, token_class="premium"))
    key = await key_with(gateway, budgets=budgets, models=("demo",))
    assert (await chat(gateway.base_url, key, chat_body())).status == 200
    answer = (await request(gateway.base_url, "GET", "/v1/key", headers=bearer(key))).json
    assert (answer["budget"], answer["spent"], answer["models"]) == (5_000, USAGE_TOTAL, ["demo"])
    assert answer["name"] == "limited"
    assert answer["shown_as"].startswith("tk0n_")
    assert key not in str(answer)
    uses = {use["period"]: use for use in answer["budgets"]}
    assert uses["total"] == {
        "tokens": 5_000,
        "period": "total",
        "token_class": None,
        "spent": USAGE_TOTAL,
        "pending": 0,
        "resets_at": None,
    }
    assert (uses["day"]["spent"], uses["day"]["resets_at"] % 86_400) == (USAGE_TOTAL, 0)
    assert uses["day"]["resets_at"] > time.time()
    assert (uses["month"]["spent"], uses["month"]["token_class"]) == (0, "premium")


async def test_a_key_without_budgets_has_none(gateway: Running) -> None:
    answer = (await request(gateway.base_url, "GET", "/v1/key", headers=bearer(gateway.api_key))).json
    assert (answer["budget"], answer["budgets"]) == (None, [])


async def test_a_key_beyond_its_budget_or_its_expiry_is_refused(gateway: Running, upstream: ScriptedUpstream) -> None:
    poor = await key_with(gateway, budgets=(budget(100, ResetPeriod.WEEK), budget(5_000)))
    answer = await chat(gateway.base_url, poor, chat_body())
    assert (answer.status, answer.error["code"], answer.error["param"]) == (402, "insufficient_tokens", "budget")
    assert "budget of 100 tokens per week" in answer.error["message"]
    assert "It resets at" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    late = await key_with(gateway, expires_at_us=1)
    assert (await chat(gateway.base_url, late, chat_body())).status == 401
    assert upstream.requests == []


NOT_ALLOWED: list[tuple[dict[str, Any], str]] = [
    ({"models": ("another",)}, "model"),
    ({"endpoints": ("embeddings", "messages")}, "endpoint"),
    ({"networks": ("10.0.0.0/8", "2001:db8::/32")}, "network"),
]


@pytest.mark.parametrize(("limits", "param"), NOT_ALLOWED)
async def test_what_a_key_may_not_do_is_a_403_that_says_what(
    gateway: Running, upstream: ScriptedUpstream, limits: dict[str, Any], param: str
) -> None:
    key = await key_with(gateway, **limits)
    for _ in range(2):  # The second request finds the caller in the cache.
        answer = await chat(gateway.base_url, key, chat_body())
        assert (answer.status, answer.error["code"], answer.error["param"]) == (403, "key_not_allowed", param)
        assert answer.error["type"] == "permission_error"
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(1_000_000)
    assert upstream.requests == []


async def test_a_key_may_be_used_from_its_networks_alone_on_every_path(gateway: Running) -> None:
    allowed = await key_with(gateway, networks=("127.0.0.0/8",))
    foreign = await key_with(gateway, networks=("203.0.113.0/24",))
    request_id = (await chat(gateway.base_url, allowed, chat_body())).headers["x-request-id"]
    for path in ("/v1/key", "/v1/balance", f"/v1/requests/{request_id}"):
        assert (await request(gateway.base_url, "GET", path, headers=bearer(allowed))).status == 200, path
        answer = await request(gateway.base_url, "GET", path, headers=bearer(foreign))
        assert (answer.status, answer.error["param"]) == (403, "network"), path


async def test_behind_a_proxy_a_network_is_compared_with_the_client_not_the_proxy(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    overrides = {"server.trusted_proxies": ["127.0.0.1"]}
    async with running(tmp_path, upstream_url=upstream.base_url, overrides=overrides) as gateway:
        key = await key_with(gateway, networks=("203.0.113.0/24",))
        for forwarded, status in (("203.0.113.7", 200), ("203.0.113.7, 198.51.100.1", 403), (None, 403)):
            headers = bearer(key) | ({} if forwarded is None else {"x-forwarded-for": forwarded})
            path = "/v1/chat/completions"
            assert (await request(gateway.base_url, "POST", path, chat_body(), headers)).status == status, forwarded
            assert (await request(gateway.base_url, "GET", "/v1/key", headers=headers)).status == status, forwarded


async def test_a_request_that_is_not_allowed_is_rejected_before_its_body_arrives(gateway: Running) -> None:
    key = await key_with(gateway, endpoints=("messages",))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    head += "content-length: 9000\r\n\r\n"
    async with Connection(gateway.base_url) as connection:
        answer = await connection.send(head.encode() + b"{")
        assert (answer.status, answer.error["param"]) == (403, "endpoint")


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Hi"}]},
}


async def test_every_endpoint_rejects_in_its_own_shape_what_a_key_may_not_do(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    more = 'endpoints = ["chat", "embeddings", "responses", "messages"]\ncontext_window_tokens = 8192'
    names = dict(zip(BODIES, ("chat", "embeddings", "responses", "messages", "messages"), strict=True))
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway:
        for path, body in BODIES.items():
            others = tuple(name for name in names.values() if name != names[path])
            for limits, param in (
                ({"models": ("another",)}, "model"),
                ({"endpoints": others}, "endpoint"),
                ({"networks": ("203.0.113.0/24",)}, "network"),
            ):
                key = await key_with(gateway, **limits)
                sent = msgspec.json.encode({"model": "demo"} | body)
                answer = await request(gateway.base_url, "POST", path, sent, bearer(key))
                error = answer.error
                assert (answer.status, error["type"]) == (403, "permission_error"), (path, param)
                assert answer.headers["x-should-retry"] == "false"
                if path.startswith("/v1/messages"):
                    assert answer.json["type"] == "error"
                    assert answer.json["request_id"] == answer.headers["request-id"]
                else:
                    assert (error["code"], error["param"]) == ("key_not_allowed", param)
            poor = await key_with(gateway, budgets=(budget(1, ResetPeriod.DAY),))
            sent = msgspec.json.encode({"model": "demo"} | body)
            answer = await request(gateway.base_url, "POST", path, sent, bearer(poor))
            expected = 402 if path != "/v1/messages/count_tokens" else 200
            assert answer.status == expected, path
    assert len(upstream.requests) == 1, "only the count of one token fits a budget of one"


async def test_a_disabled_key_says_so_until_it_is_enabled(gateway: Running) -> None:
    account = await gateway.account()
    (key,) = await gateway.store.accounts.list_keys(account.id)
    assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
    await edit_key(gateway.store.accounts, key, is_enabled=False)
    for _ in range(2):
        answer = await chat(gateway.base_url, gateway.api_key, chat_body())
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert "disabled" in answer.error["message"]
    answer = await request(gateway.base_url, "GET", "/v1/balance", headers=bearer(gateway.api_key))
    assert (answer.status, "disabled" in answer.error["message"]) == (401, True)
    await edit_key(gateway.store.accounts, key, is_enabled=True)
    assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200


async def test_a_key_has_its_own_rate_and_its_headers_tell_it(gateway: Running) -> None:
    key = await key_with(gateway, requests_per_minute=2)
    for remaining in (1, 0):
        answer = await chat(gateway.base_url, key, chat_body())
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(remaining)
    answer = await chat(gateway.base_url, key, chat_body())
    assert (answer.status, "limit of 2 requests per minute" in answer.error["message"]) == (429, True)
    assert answer.headers["x-ratelimit-limit-requests"] == "2"


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
