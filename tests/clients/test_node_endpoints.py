"""The official Node SDKs on embeddings, responses and messages: answers, streams, error classes, and what is billed."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.anthropic_api import as_anthropic
from support.api_keys import create_key
from support.client_streams import TOKENS, charged_tokens, results_of
from support.gateways import EMAIL, Running, running
from support.openai_api import EVENTS, TEXT, VECTOR, as_openai
from support.scripted_upstream import Behaviour, ScriptedUpstream, status
from tok0n.domain.accounts import KeyLimits

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent / "node"
NODE = Path(sys.executable).parent / "node"
MORE = 'endpoints = ["embeddings", "responses", "messages"]\n[server]\nstreaming = true\n'
ERRORS: dict[str, tuple[str, int, str, str | None]] = {
    "wrong key": ("AuthenticationError", 401, "invalid_api_key", None),
    "invalid": ("BadRequestError", 400, "invalid_request", "user"),
    "unknown field": ("BadRequestError", 400, "invalid_request", "nonsense"),
    "unknown model": ("BadRequestError", 400, "invalid_request", "model"),
    "balance": ("APIError", 402, "insufficient_tokens", None),
    "rate": ("RateLimitError", 429, "rate_limit_error", None),
    "upstream": ("InternalServerError", 502, "upstream_error", None),
}
"""What OpenAI's SDK throws on embeddings and responses: the class, the status, `code` and `param`."""
ANTHROPIC_ERRORS = {
    "wrong key": ("AuthenticationError", 401, "authentication_error"),
    "invalid": ("BadRequestError", 400, "invalid_request_error"),
    "not allowed": ("PermissionDeniedError", 403, "permission_error"),
    "over the limit": ("BadRequestError", 400, "invalid_request_error"),
    "unknown model": ("BadRequestError", 400, "invalid_request_error"),
    "unknown path": ("NotFoundError", 404, "invalid_request_error"),
    "balance": ("PaymentRequiredError", 402, "billing_error"),
    "rate": ("RateLimitError", 429, "rate_limit_error"),
    "upstream": ("InternalServerError", 502, "api_error"),
}
"""What Anthropic's SDK throws: the class, the status, and the type of the error."""


class Gateways(msgspec.Struct, kw_only=True):
    """Gateways of three kinds, and what the upstream of all but the failing one reported."""

    good: Running
    limited: Running
    failing: Running
    reported: list[int]

    async def results_of(self, script: str) -> Any:
        """Run a script, and return what it prints after the accounts were charged what the upstream reported."""
        named = {"good": self.good, "limited": self.limited, "failing": self.failing}
        access = {name: {"base_url": of.base_url, "api_key": of.api_key} for name, of in named.items()}
        limits = KeyLimits(endpoints=("chat",))
        _, narrow_key = await create_key(self.good.store.accounts, EMAIL, limits=limits)
        access["narrow"] = {"base_url": self.good.base_url, "api_key": narrow_key}
        results = await results_of(self.good, NODE, HERE / script, env={"TOK0N_GATEWAYS": json.dumps(access)})
        charged = await charged_tokens(self.good) + await charged_tokens(self.limited)
        assert charged == sum(self.reported) > 0
        assert await charged_tokens(self.failing) == 0
        return results


@contextlib.asynccontextmanager
async def gateways(
    folder: Path, answering: Callable[[ScriptedUpstream, list[int]], Behaviour], *, per_minute: int
) -> AsyncIterator[Gateways]:
    """Open the three. `per_minute` is how many requests the limited one lets through."""
    reported: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedUpstream())
        broken = await stack.enter_async_context(ScriptedUpstream(status(500)))
        upstream.behaviour = answering(upstream, reported)

        async def opened(name: str, of: ScriptedUpstream, limits: int = 1_000) -> Running:
            (folder / name).mkdir()
            return await stack.enter_async_context(
                running(folder / name, upstream_url=of.base_url, more=MORE, tokens=TOKENS, limits=limits)
            )

        yield Gateways(
            good=await opened("good", upstream),
            limited=await opened("limited", upstream, per_minute),
            failing=await opened("failing", broken),
            reported=reported,
        )


async def test_openais_node_sdk_reads_embeddings_and_responses_as_they_are_meant(tmp_path: Path) -> None:
    async with gateways(tmp_path, as_openai, per_minute=1) as found:
        results = await found.results_of("endpoints.mjs")
    one, two = ([[0.5, -1.0]] * count for count in (1, 2))
    assert results["embeddings"] == {
        "string": {"vectors": one, "model": "demo", "total": 3},
        "array": {"vectors": two, "model": "demo", "total": 6},
        "tokens": {"vectors": one, "model": "demo", "total": 3},
        "arrays of tokens": {"vectors": two, "model": "demo", "total": 6},
        "float": {"vectors": one, "model": "demo", "total": 3},
        "base64": {"vectors": [VECTOR], "model": "demo", "total": 3},
    }
    person = {"name": "Ada"}
    assert results["create"] == {"text": TEXT, "model": "demo", "total": 11}
    assert results["parse"] == {"parsed": person, "total": 11}
    assert results["stream"] == {"types": [event["type"] for event in EVENTS], "parsed": person, "total": 11}
    errors = results["errors"]
    assert named(errors.pop("models")["unknown"]) == ("NotFoundError", 404, "model_not_found", "model")
    for endpoint, thrown in errors.items():
        assert {name: named(error) for name, error in thrown.items()} == ERRORS, endpoint


async def test_anthropics_node_sdk_reads_messages_as_they_are_meant(tmp_path: Path) -> None:
    async with gateways(tmp_path, as_anthropic, per_minute=1) as found:
        results = await found.results_of("anthropic.mjs")
    errors = results.pop("errors")
    message = ["demo", "Hello there.", 5, "end_turn"]
    stream = {"words": ["Hello ", "there."], "final": message}
    whole = dict.fromkeys(("created", "bearer", "beta"), message)
    assert results == whole | {"stream": stream, "beta stream": stream, "count": 8, "beta count": 8}
    assert {name: named(error)[:3] for name, error in errors.items()} == ANTHROPIC_ERRORS


def named(error: dict[str, Any]) -> tuple[str, int, str, str | None]:
    """The class, the status, the code and the parameter of an error, which must have the ID of its request."""
    assert error["id"] is True, error
    return error["exception"], error["status"], error["code"], error.get("param")
