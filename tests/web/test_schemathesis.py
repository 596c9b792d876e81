"""Schemathesis, from our own OpenAPI document, against a running gateway."""

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from support.gateways import Running, running
from support.http import InstantUpstream

if TYPE_CHECKING:
    import schemathesis


class _Serving:
    """A gateway in a thread of its own: schemathesis calls it from this one."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.gateway: Running
        self.upstream: InstantUpstream

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        with tempfile.TemporaryDirectory() as folder:
            async with (
                InstantUpstream() as self.upstream,
                running(Path(folder), upstream_url=self.upstream.base_url, tokens=10**12) as self.gateway,
            ):
                self.ready.set()
                await self._stop.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)


@pytest.fixture(scope="module")
def api() -> Iterator[tuple["schemathesis.BaseSchema", Running]]:
    import schemathesis  # noqa: PLC0415  every process collects this file, and one runs it

    serving = _Serving()
    thread = threading.Thread(target=serving.run)
    thread.start()
    assert serving.ready.wait(30)
    origin = serving.gateway.base_url.removesuffix("/v1")
    yield schemathesis.openapi.from_url(f"{origin}/openapi.json"), serving.gateway
    serving.stop()
    thread.join()


def say_what_json_schema_cannot(body: dict[str, Any]) -> None:
    """Which models there are and what they allow; and that 1.0 is no integer here."""
    body["model"] = "demo"
    body.pop("max_tokens", None)
    body.pop("max_completion_tokens", None)
    for name in ("n", "seed", "top_logprobs"):
        if isinstance(body.get(name), float):
            body[name] = int(body[name])


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        ("/v1/chat/completions", "POST", "positive"),
        ("/v1/chat/completions", "POST", "negative"),
        ("/v1/models", "GET", "positive"),
        ("/v1/models/{model}", "GET", "positive"),
    ],
)
def test_the_api_keeps_its_document(
    path: str, method: str, mode: str, api: tuple["schemathesis.BaseSchema", Running]
) -> None:
    from schemathesis.generation import GenerationMode  # noqa: PLC0415

    schema, gateway = api
    strategy = schema[path][method].as_strategy(generation_mode=GenerationMode(mode))
    statuses = set()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def check(case: "schemathesis.Case[Any]") -> None:
        if isinstance(case.body, dict) and mode == "positive":
            say_what_json_schema_cannot(case.body)
        response = case.call(headers={"Authorization": f"Bearer {gateway.api_key}"})
        if response.status_code != 413:  # Schemathesis doesn't count it as a rejection of an invalid body.
            case.validate_response(response)
        statuses.add(response.status_code)

    check()
    if method == "POST":
        assert (200 if mode == "positive" else 400) in statuses
