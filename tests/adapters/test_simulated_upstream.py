"""The demo's upstream: it says that it is simulated, keeps to limits, and fails in changing ways."""

from typing import Any

import httpx
import pytest

from tok0n.adapters.upstream.simulated import MODELS, SLOW_SECONDS, simulated_upstream
from tok0n.domain.catalogue import VERIFICATION_PROMPT, Model
from tok0n.domain.chat_request import read_chat_request
from tok0n.domain.completion import read_answer
from tok0n.domain.errors import UpstreamFailed

pytestmark = pytest.mark.anyio

paused: list[float] = []


async def pause(seconds: float) -> None:
    paused.append(seconds)


async def ask(model: str, content: str = "What is a ledger?", **more: Any) -> httpx.Response:
    return (await ask_all(model, [content], **more))[0]


async def ask_all(model: str, contents: list[str], **more: Any) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app=simulated_upstream(api_key="sk-x", pause=pause))
    headers = {"authorization": "Bearer sk-x"}
    async with httpx.AsyncClient(transport=transport, base_url="http://upstream", headers=headers) as client:
        bodies = [{"model": model, "messages": [{"role": "user", "content": content}]} | more for content in contents]
        return [await client.post("/v1/chat/completions", json=body) for body in bodies]


async def test_it_says_what_it_is_and_repeats_the_request_in_its_own_words() -> None:
    text = (await ask("demo")).json()["choices"][0]["message"]["content"]
    assert "simulated" in text
    assert "no language model" in text
    assert "What is a ledger?" in text
    assert "4 words" in text


async def test_its_usage_is_within_the_bound_and_the_limit() -> None:
    model = Model(id="demo", upstream="s", upstream_model="demo", max_output_tokens=100, default_output_tokens=100)
    for content in ("Hi", "ﷺ" * 100, "long " * 5000):
        response = await ask("demo", content, max_completion_tokens=20, n=2)
        completion = read_answer(200, response.content, public_model="demo", upstream_model="demo", scrub=str)
        request = read_chat_request(response.request.content, find_model=lambda _: model)
        assert completion.usage.total_tokens <= request.bound
        assert completion.usage.completion_tokens <= 40
        assert [choice["finish_reason"] for choice in response.json()["choices"]] == ["length", "length"]


async def test_the_slow_one_waits_two_seconds() -> None:
    paused.clear()
    assert (await ask("demo-slow")).status_code == 200
    assert paused == [SLOW_SECONDS] == [2.0]


async def test_the_broken_one_fails_in_changing_ways_and_passes_its_verification() -> None:
    responses = await ask_all("demo-broken", ["Hi"] * 6)
    assert (
        len({(response.status_code, response.headers["content-type"], len(response.content)) for response in responses})
        == 6
    )
    for response in responses:
        with pytest.raises(UpstreamFailed):
            read_answer(response.status_code, response.content, public_model="m", upstream_model="m", scrub=str)
    verified = await ask("demo-broken", VERIFICATION_PROMPT, max_completion_tokens=16)
    assert verified.json()["choices"][0]["message"]["content"] == "OK"


async def test_a_wrong_key_model_or_body_is_refused_as_openai_does() -> None:
    transport = httpx.ASGITransport(app=simulated_upstream(api_key="sk-x"))
    async with httpx.AsyncClient(transport=transport, base_url="http://upstream") as client:
        assert (await client.get("/v1/models")).status_code == 401
        client.headers["authorization"] = "Bearer sk-x"
        models = (await client.get("/v1/models")).json()["data"]
        assert [(model["id"], model["owned_by"]) for model in models] == [(id_, "tok0n-demo") for id_ in MODELS]
        for content in (
            b"",
            b"[]",
            b'{"model":"demo"}',
            b'{"model":"demo","messages":[]}',
            b'{"model":"demo","messages":[1]}',
        ):
            assert (await client.post("/v1/chat/completions", content=content)).status_code == 400
        assert (await ask("gpt-x")).status_code == 404
