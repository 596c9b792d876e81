"""An operator sells two token classes in the demo, and a customer spends both with one key."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.demos import Demo, running_demo
from support.gateways import tok0n_json
from support.http import request
from support.visitor import Visitor, text_of

pytestmark = pytest.mark.anyio

SETTINGS = """
[token_classes.premium]
title = "Premium tokens"
[models.large]
upstream = "simulated"
upstream_model = "demo"
max_output_tokens = 16384
token_class = "premium"
[packs.large]
name = "Large"
tokens = 2_000_000
price_usd = "40.00"
token_class = "premium"
"""
OPENING = 1_000_000


async def test_packs_of_two_classes_are_bought_and_spent_with_one_key_that_is_rotated(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(SETTINGS)
    async with running_demo(tmp_path, "--settings", str(tmp_path / "more.toml")) as demo:
        ready = demo.server.ready
        async with Visitor(demo.server.base_url.removesuffix("/v1")) as customer:
            await customer.sign_in(ready["email"], ready["password"])
            await buy(customer, "starter")
            await buy(customer, "large")
            assert await posted(customer, {"standard": OPENING + 1_000_000, "premium": 2_000_000})
            created = await customer.post(
                "/dashboard/keys", {"name": "both", "budget_tokens": "5000", "budget_period": "day"}
            )
            secret = secret_of(created)
            spent = {token_class: await call(demo, secret, model) for token_class, model in MODELS.items()}
            assert await balances(demo, secret) == {
                "standard": OPENING + 1_000_000 - spent["standard"],
                "premium": 2_000_000 - spent["premium"],
            }
            (budget,) = (await get(demo, secret, "/v1/key"))["budgets"]
            assert (budget["tokens"], budget["period"], budget["spent"]) == (5_000, "day", sum(spent.values()))
            with pytest.raises(openai.APIStatusError) as refused:
                await call(demo, secret, "large", max_completion_tokens=5_000)
            assert (refused.value.status_code, refused.value.param) == (402, "budget")
            key_id = re.findall(r"/dashboard/keys/(key_\w+)", (await customer.get("/dashboard/keys")).text)[0]
            rotated = secret_of(
                await customer.post(f"/dashboard/keys/{key_id}/rotate", page=f"/dashboard/keys/{key_id}")
            )
            assert rotated != secret
            with pytest.raises(openai.AuthenticationError):
                await call(demo, secret, "demo")
            assert await call(demo, rotated, "large") > 0
        config = tmp_path / "data" / "tok0n.toml"
        assert tok0n_json("ledger", "audit", "--config", str(config), cwd=tmp_path)["ok"]


MODELS = {"standard": "demo", "premium": "large"}


async def buy(customer: Visitor, pack: str) -> None:
    """Order a pack, and pay for it on the page of the simulated provider."""
    ordered = await customer.post("/dashboard/buy", {"pack": pack})
    async with httpx.AsyncClient() as browser:
        paid = await browser.post(ordered.headers["location"], data={"do": "pay"})
    assert paid.status_code == 303


async def posted(customer: Visitor, expected: dict[str, int]) -> bool:
    """Wait until the overview shows the balances."""
    async with asyncio.timeout(20):
        while True:
            shown = text_of(await customer.get("/dashboard"))
            if all(f"{tokens:,}" in shown for tokens in expected.values()):
                return True
            await asyncio.sleep(0.1)


def secret_of(page: httpx.Response) -> str:
    return str(re.findall(r"tk0n_\w{20,}", page.text)[0])


async def call(demo: Demo, secret: str, model: str, *, max_completion_tokens: int = 50) -> int:
    """Call a model with the official SDK. Returns the tokens that it reports."""
    async with openai.AsyncOpenAI(base_url=demo.server.base_url, api_key=secret, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Hello"}],
            max_completion_tokens=max_completion_tokens,
        )
    assert answer.usage is not None
    return answer.usage.total_tokens


async def balances(demo: Demo, secret: str) -> dict[str, int]:
    body = await get(demo, secret, "/v1/balance")
    return {row["token_class"]: row["posted"] for row in body["classes"]}


async def get(demo: Demo, secret: str, path: str) -> dict[str, Any]:
    answer = await request(demo.server.base_url, "GET", path, headers={"authorization": f"Bearer {secret}"})
    assert answer.status == 200, answer
    return dict(answer.json)
