"""A script on a page of another origin calls the API in a real browser, if the operator allows that origin."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from support.echo import respond
from support.gateways import running
from support.scripted_upstream import ScriptedUpstream
from tok0n.http.asgi import AsgiBridge, Receive, Scope, Send
from tok0n.http.server import HttpServer, bind

pytestmark = pytest.mark.anyio

FETCH = """async ({base, key, path}) => {
    const body = JSON.stringify({model: "demo", messages: [{role: "user", content: "Hi"}]});
    const headers = {"content-type": "application/json", "authorization": `Bearer ${key}`, "x-stainless-os": "x"};
    try {
        const answer = await fetch(base + path, path === "/v1/chat/completions" ? {method: "POST", headers, body} : {});
        const text = await answer.text();
        return {status: answer.status, text, id: answer.headers.get("x-request-id"),
                charged: answer.headers.get("x-tok0n-charged")};
    } catch (error) {
        return {failed: error.name};
    }
}"""


async def blank_page(_: Scope, __: Receive, send: Send) -> None:
    await respond(send, 200, [(b"content-type", b"text/html")], b"<!doctype html><title>App</title>")


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_browser_lets_only_an_allowed_origin_call_the_api(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser, *, is_allowed: bool
) -> None:
    async with HttpServer(AsgiBridge(blank_page), bind("127.0.0.1", 0), shutdown_seconds=5) as app:
        origins = f'["{app.url}"]' if is_allowed else "[]"
        more = f"[server]\ncors_origins = {origins}\n"
        async with (
            running(tmp_path, upstream_url=upstream.base_url, more=more) as site,
            await browser.new_page() as page,
        ):
            await page.goto(app.url)

            async def fetched(path: str, *, key: str) -> dict[str, Any]:
                found: dict[str, Any] = await page.evaluate(FETCH, {"base": site.url, "key": key, "path": path})
                return found

            called = await fetched("/v1/chat/completions", key=site.api_key)
            wrong = await fetched("/v1/chat/completions", key="tk0n_wrong")
            models = await fetched("/v1/models", key="")
            assert "failed" in await fetched("/sign-in", key="")
        if is_allowed:
            assert called["status"] == 200
            assert called["id"].startswith("req_")
            assert int(called["charged"]) > 0
            assert (wrong["status"], "invalid_api_key" in wrong["text"]) == (401, True)
            assert (models["status"], "demo" in models["text"]) == (200, True)
        else:
            assert [answer.get("failed") for answer in (called, wrong, models)] == ["TypeError"] * 3
