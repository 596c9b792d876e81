"""OpenAI's official SDK for Python against a running server: embeddings and responses."""

from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from support.gateways import ServerProcess, prepared
from support.openai_api import TEXT, as_openai
from support.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.anyio

MORE = 'endpoints = ["embeddings", "responses"]\n[server]\nstreaming = true\n'


class Person(BaseModel):
    """What a structured answer holds."""

    name: str


async def test_embeddings_and_responses_are_what_the_sdk_expects(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        reported: list[int] = []
        upstream.behaviour = as_openai(upstream, reported)
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=MORE)
        async with (
            ServerProcess(tmp_path) as server,
            openai.AsyncOpenAI(base_url=server.base_url, api_key=api_key, max_retries=0) as client,
        ):
            await embeddings(client)
            await responses(client)
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(model="demo", input="Hello", store=True)
            assert refused.value.param == "store"
            with pytest.raises(openai.BadRequestError, match="POST /v1/embeddings and POST /v1/responses"):
                await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
            balance = await client.get("/balance", cast_to=dict[str, Any])
    assert (len(reported), sum(reported)) == (8, 7 * 3 + 3 * 11)
    assert (balance["posted"], balance["pending"]) == (1_000_000 - sum(reported), 0)


async def embeddings(client: openai.AsyncOpenAI) -> None:
    """Texts and tokens, one and several, in both formats."""
    inputs: list[Any] = ["Hello", ["Hello", "World"], [1, 2, 3], [[1, 2], [3]]]
    for given, count in zip(inputs, (1, 2, 1, 2), strict=True):
        found = await client.embeddings.create(model="demo", input=given)
        assert [item.embedding for item in found.data] == [[0.5, -1.0]] * count
        assert (found.model, found.usage.total_tokens) == ("demo", 3 * count)
    found = await client.embeddings.create(model="demo", input="Hello", encoding_format="float", dimensions=2)
    assert found.data[0].embedding == [0.5, -1.0]


async def responses(client: openai.AsyncOpenAI) -> None:
    """Whole, streamed, and parsed."""
    whole = await client.responses.create(model="demo", input="Hello", instructions="Be brief.")
    assert (whole.model, whole.output_text) == ("demo", TEXT)
    async with client.responses.stream(model="demo", input="Hello", text_format=Person) as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    assert final.output_parsed == Person(name="Ada")
    parsed = await client.responses.parse(model="demo", input="Hello", text_format=Person)
    assert parsed.output_parsed == Person(name="Ada")
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 11
