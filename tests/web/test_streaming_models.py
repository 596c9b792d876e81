"""Everything that lists models says which of them stream, and nothing changes unless streaming is switched on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from support.gateways import Running, running
from support.scripted_upstream import ScriptedUpstream
from support.visitor import Visitor, text_of
from tok0n.api.openapi import document
from tok0n.cli import main
from tok0n.domain.catalogue import EndpointCheck, StreamCheck, Verification
from tok0n.settings import load, model_of

pytestmark = pytest.mark.anyio

STREAMING = {"server.streaming": True}
MEMBERS = {"id", "object", "created", "owned_by", "token_class"}


async def listed(gateway: Running) -> list[Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        (listed,) = (await client.get(f"{gateway.base_url}/models")).json()["data"]
        assert (await client.get(f"{gateway.base_url}/models/demo")).json() == listed
        schema = (await client.get(f"{gateway.url}/openapi.json")).json()["components"]["schemas"]["Model"]
        assert set(schema["required"]) == set(listed)
    return [listed]


async def fail_stream(gateway: Running) -> None:
    """Let the model fail so often that it no longer streams."""
    settings = load(gateway.folder / "tok0n.toml", environ={}, dotenv={}, overrides=STREAMING)
    model = model_of("demo", settings)
    for _ in range(3):
        await gateway.store.models.record(
            Verification(
                model="demo",
                fingerprint=model.fingerprint,
                checked_at_us=gateway.clock.now_us(),
                endpoints={"chat": EndpointCheck(checks={"ok": True}, latency_ms=1)},
                streams={"chat": StreamCheck(passed=False, detail="no usage")},
            )
        )
    await gateway.housekeeping._catalogue.refresh()


async def list_models(folder: Path, *arguments: str, streaming: bool) -> str:
    def run() -> Result:
        return CliRunner().invoke(
            main,
            ["models", "list", *arguments, "--config", str(folder / "tok0n.toml")],
            env={"TOK0N_SERVER__STREAMING": str(streaming).lower()},
        )

    result = await asyncio.to_thread(run)
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_with_streaming_every_list_says_which_models_stream(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url, overrides=STREAMING) as gateway:
        (model,) = await listed(gateway)
        assert set(model) == MEMBERS | {"streams", "streaming_endpoints"}
        assert (model["streams"], model["streaming_endpoints"]) == (True, ["chat"])
        async with Visitor(gateway.url) as visitor:
            assert "demo streams" in " ".join(text_of(await visitor.get("/")).split())
        await fail_stream(gateway)
        (model,) = await listed(gateway)
        assert (model["streams"], model["streaming_endpoints"]) == (False, [])
        async with Visitor(gateway.url) as visitor:
            assert "demo streams" not in " ".join(text_of(await visitor.get("/")).split())


async def test_without_streaming_no_list_changes(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url) as gateway:
        (model,) = await listed(gateway)
        assert set(model) == MEMBERS
        async with Visitor(gateway.url) as visitor:
            assert "demo streams" not in " ".join(text_of(await visitor.get("/")).split())
    assert "streams" not in document()["components"]["schemas"]["Model"]["properties"]


async def test_the_command_line_says_which_models_stream_and_why_others_do_not(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url, overrides=STREAMING) as gateway:
        (model,) = json.loads(await list_models(tmp_path, "--json", streaming=True))
        assert (model["streams"], model["streaming_endpoints"], model["stream_failures"]) == (True, ["chat"], {})
        await fail_stream(gateway)
    assert "streams" not in await list_models(tmp_path, streaming=False)
    assert "no stream on chat: no usage" in await list_models(tmp_path, streaming=True)
    (model,) = json.loads(await list_models(tmp_path, "--json", streaming=True))
    assert (model["streams"], model["streaming_endpoints"]) == (False, [])
    assert model["stream_failures"] == {"chat": "no usage"}
    (model,) = json.loads(await list_models(tmp_path, "--json", streaming=False))
    assert not {"streams", "streaming_endpoints", "stream_failures"} & set(model)
