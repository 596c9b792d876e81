"""Token classes over the API: the balance, the models, and the 402 that names the class."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateways import EMAIL, Running, running
from support.http import USAGE_TOTAL, Answer, chat, request
from support.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.anyio

CLASSES = """
[token_classes.premium]
title = "Premium tokens"
[models.big]
upstream = "fake"
upstream_model = "upstream-demo"
max_output_tokens = 1000
default_output_tokens = 100
token_class = "premium"
"""


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    async with running(tmp_path, upstream_url=upstream.base_url, more=CLASSES) as gateway:
        yield gateway


async def ask(site: Running, model: str) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello."}], "max_completion_tokens": 5}
    return await chat(site.base_url, site.api_key, json.dumps(body).encode())


async def balance(site: Running) -> Answer:
    return await request(site.base_url, "GET", "/v1/balance", headers={"authorization": f"Bearer {site.api_key}"})


async def grant(site: Running, tokens: int, token_class: str) -> None:
    now_us = site.clock.now_us()
    await site.store.accounts.grant(email=EMAIL, tokens=tokens, reason="x", now_us=now_us, token_class=token_class)


async def test_each_model_names_its_class_and_spends_only_that(gateway: Running) -> None:
    models = (await request(gateway.base_url, "GET", "/v1/models")).json["data"]
    assert {model["id"]: model["token_class"] for model in models} == {"demo": "standard", "big": "premium"}
    one = (await request(gateway.base_url, "GET", "/v1/models/big")).json
    assert one["token_class"] == "premium"
    await grant(gateway, 5_000, "premium")
    answer = await ask(gateway, "big")
    assert (answer.status, answer.headers["x-tok0n-available"]) == (200, str(5_000 - USAGE_TOTAL))
    assert (await ask(gateway, "demo")).status == 200
    body = (await balance(gateway)).json
    assert [(one["token_class"], one["title"], one["posted"]) for one in body["classes"]] == [
        ("standard", "Standard tokens", 1_000_000 - USAGE_TOTAL),
        ("premium", "Premium tokens", 5_000 - USAGE_TOTAL),
    ]
    assert (body["posted"], body["pending"], body["available"]) == (1_000_000 - USAGE_TOTAL, 0, 1_000_000 - USAGE_TOTAL)
    assert await gateway.audit_is_clean()


async def test_a_402_names_the_class_that_is_missing_although_another_has_plenty(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    answer = await ask(gateway, "big")
    assert (answer.status, answer.error["code"]) == (402, "insufficient_tokens")
    assert "tokens of the class premium. Your account has 0 available" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.requests == []


async def test_a_402_for_expensive_text_names_the_class_too(gateway: Running) -> None:
    body = {"model": "big", "messages": [{"role": "user", "content": "é" * 20_000}]}
    answer = await chat(gateway.base_url, gateway.api_key, json.dumps(body, ensure_ascii=False).encode())
    assert answer.status == 402
    assert "of the class premium" in answer.error["message"]


async def test_a_retired_class_stays_in_the_balance_and_makes_the_402_name_its_class(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url, tokens=1) as site:
        assert "class" not in (await ask(site, "demo")).error["message"]
        await grant(site, 7, "old")
        assert "of the class standard" in (await ask(site, "demo")).error["message"]
        assert [
            (one["token_class"], one["title"], one["available"]) for one in (await balance(site)).json["classes"]
        ] == [
            ("standard", "Standard tokens", 1),
            ("old", "old", 7),
        ]
