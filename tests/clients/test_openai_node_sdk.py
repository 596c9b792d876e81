"""The official Node SDK: its answers, its exception classes, and how often it tries."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from support.api_keys import create_key
from support.gateways import EMAIL, running
from support.scripted_upstream import FAULTS, ScriptedUpstream, ok
from tok0n.domain.accounts import KeyLimits

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent / "node"
NODE = Path(sys.executable).parent / "node"


async def test_the_node_sdk_reads_every_answer_as_it_is_meant(tmp_path: Path) -> None:
    upstream = ScriptedUpstream()

    async def by_user(writer: asyncio.StreamWriter) -> None:
        user = json.loads(upstream.bodies[-1]).get("user")
        await {"failed": FAULTS["500"], "unknown": FAULTS["usage missing"]}.get(user, ok())(writer)

    upstream.behaviour = by_user
    async with upstream, running(tmp_path, upstream_url=upstream.base_url, tokens=100_000) as gateway:
        limits = KeyLimits(endpoints=("embeddings",))
        _, narrow_key = await create_key(gateway.store.accounts, EMAIL, limits=limits)
        keys = {"TOK0N_API_KEY": gateway.api_key, "TOK0N_NARROW_KEY": narrow_key}
        node = await asyncio.create_subprocess_exec(
            str(NODE),
            str(HERE / "sdk.mjs"),
            env={"TOK0N_BASE_URL": gateway.base_url, "PATH": os.environ["PATH"], **keys},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await node.communicate()
        assert node.returncode == 0, err.decode()
        results = json.loads(out)
        users = [json.loads(body).get("user") for body in upstream.bodies]
    assert results["success"] == {"content": "Hello.", "model": "demo", "total": 12, "charged": "12"}
    assert results["models"] == ["demo"]
    expected = {
        "bad": ("BadRequestError", 400, "invalid_request", "temperature"),
        "stream": ("BadRequestError", 400, "invalid_request", "stream"),
        "model": ("NotFoundError", 404, "model_not_found", "model"),
        "key": ("AuthenticationError", 401, "invalid_api_key", None),
        "not allowed": ("PermissionDeniedError", 403, "key_not_allowed", "endpoint"),
        "large": ("APIError", 402, "insufficient_tokens", None),
        "failed": ("InternalServerError", 502, "upstream_error", None),
        "unknown": ("InternalServerError", 502, "upstream_error", None),
    }
    for name, (exception, status, code, param) in expected.items():
        got = results[name]
        assert (got["exception"], got["status"], got["code"], got["param"]) == (exception, status, code, param), name
    assert users.count("failed") == 3
    assert users.count("unknown") == 1
    assert len(users) == 5
