"""Scripts of other origins may call /v1 if the operator names their origin, and nothing else; off by default."""

from pathlib import Path
from typing import Any

import pytest

from support.gateways import Running, running
from support.http import Answer, Connection, chat_body, request
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import mail_settings
from tok0n.api.cors import EXPOSED, Cors

pytestmark = pytest.mark.anyio

APP = "https://app.example.com"
OTHER = "https://evil.example"
CHAT = "/v1/chat/completions"
METHOD = "access-control-request-method"


def cors_of(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def expected_for(origin: str) -> dict[str, str]:
    return {"access-control-allow-origin": origin, "access-control-expose-headers": ", ".join(EXPOSED)}


async def answers(site: Running, headers: dict[str, str]) -> dict[str, Answer]:
    """Responses under /v1 of each kind: whole and late bodies, errors of handlers, and one that no handler sees."""
    key = headers | {"authorization": f"Bearer {site.api_key}"}
    body = chat_body()
    lines = [f"{name}: {value}" for name, value in key.items()]
    head = [f"POST {CHAT} HTTP/1.1", "host: x", f"content-length: {len(body)}", *lines, "", ""]
    async with Connection(site.base_url) as connection:
        connection.writer.write("\r\n".join(head).encode() + body[:5])
        await connection.writer.drain()
        await request(site.base_url, "GET", "/healthz")
        late = await connection.send(body[5:])
    return {
        "late 200": late,
        "whole 200": await request(site.base_url, "POST", CHAT, body, key),
        "400": await request(site.base_url, "POST", CHAT, b"{", key),
        "401": await request(site.base_url, "POST", CHAT, body, headers),
        "404": await request(site.base_url, "GET", "/v1/nothing", headers=headers),
        "405": await request(site.base_url, "GET", CHAT, headers=headers),
        "models": await request(site.base_url, "GET", "/v1/models", headers=headers),
        "balance": await request(site.base_url, "GET", "/v1/balance", headers=key),
        "bad chunk": await bad_chunk(site, headers),
    }


async def bad_chunk(site: Running, headers: dict[str, str]) -> Answer:
    """The response to a body that the server rejects before any handler reads it."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = [f"POST {CHAT} HTTP/1.1", "host: x", "transfer-encoding: chunked", *lines, "", "no size\r\n"]
    async with Connection(site.base_url) as connection:
        return await connection.send("\r\n".join(head).encode())


@pytest.mark.parametrize(
    ("allowed", "origin", "answered"),
    [
        ([APP], APP, APP),
        ([APP, "http://localhost:3000"], "http://localhost:3000", "http://localhost:3000"),
        (["*"], APP, "*"),
        ([APP], OTHER, None),
        ([APP], APP + ".evil.example", None),
        ([APP], "https://APP.example.com", None),
        ([APP], "null", None),
        ([APP], "", None),
        ([], APP, None),
    ],
)
def test_an_origin_is_compared_exactly(allowed: list[str], origin: str, answered: str | None) -> None:
    cors = Cors(allowed)
    headers = dict(cors.headers(origin.encode()))
    assert headers.get(b"access-control-allow-origin") == (None if answered is None else answered.encode())
    assert (headers.get(b"vary") == b"origin") == bool(allowed)
    assert b"access-control-allow-credentials" not in headers


async def test_by_default_no_response_has_cors_headers(site: Running) -> None:
    for kind, answer in (await answers(site, {"origin": APP})).items():
        assert (cors_of(answer), answer.headers.get("vary")) == ({}, None), kind
    preflight = await request(site.base_url, "OPTIONS", CHAT, headers={"origin": APP, METHOD: "POST"})
    assert (preflight.status, preflight.headers["allow"], cors_of(preflight)) == (405, "POST", {})


async def test_responses_to_an_allowed_origin_can_be_read(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = f'[server]\ncors_origins = ["{APP}"]\n' + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site:
        for kind, answer in (await answers(site, {"origin": APP})).items():
            assert cors_of(answer) == expected_for(APP), kind
            assert answer.headers["vary"] == "origin", kind
        for headers in ({"origin": OTHER}, {}):
            for kind, answer in (await answers(site, headers)).items():
                assert cors_of(answer) == {}, kind
        for path in ("/", "/sign-in", "/dashboard", "/healthz", "/nothing", "/openapi.json", "/v1x"):
            for method in ("GET", "OPTIONS"):
                answer = await request(site.base_url, method, path, headers={"origin": APP, METHOD: "GET"})
                assert cors_of(answer) == {}, path


@pytest.mark.parametrize(
    ("path", "headers", "status", "more"),
    [
        (CHAT, {METHOD: "POST"}, 204, {"methods": "POST"}),
        ("/v1/models", {METHOD: "GET"}, 204, {"methods": "GET, HEAD"}),
        ("/v1/models/a/b", {METHOD: "GET"}, 204, {"methods": "GET, HEAD"}),
        ("/v1/key", {METHOD: "DELETE"}, 204, {"methods": "GET, HEAD"}),
        (
            CHAT,
            {METHOD: "POST", "access-control-request-headers": "authorization, content-type,x-stainless-os"},
            204,
            {"methods": "POST", "headers": "authorization, content-type, x-stainless-os"},
        ),
        (
            CHAT,
            {METHOD: "POST", "access-control-request-headers": "authorization, a b, <script>, \xff, ,x"},
            204,
            {"methods": "POST", "headers": "authorization, x"},
        ),
        ("/v1/nothing", {METHOD: "POST"}, 404, None),
        (CHAT, {}, 405, None),
        (CHAT, {METHOD: "POST", "origin": OTHER}, 405, None),
    ],
)
async def test_a_preflight_is_answered_without_a_key_and_costs_no_limit(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    mailbox: Mailbox,
    path: str,
    headers: dict[str, str],
    status: int,
    more: dict[str, str] | None,
) -> None:
    settings = f'[server]\ncors_origins = ["{APP}"]\n' + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=settings, limits=1) as site:
        sent: dict[str, Any] = {"origin": APP} | headers
        for _ in range(3):
            raw = {name: value.encode("latin-1") for name, value in sent.items()}
            answer = await request(site.base_url, "OPTIONS", path, headers=raw)
            assert answer.status == status
            assert answer.headers["x-request-id"].startswith("req_")
            if more is not None:
                expected = expected_for(APP) | {f"access-control-allow-{name}": value for name, value in more.items()}
                assert cors_of(answer) == expected | {"access-control-max-age": "600"}
        key = {"authorization": f"Bearer {site.api_key}", "origin": APP}
        assert (await request(site.base_url, "POST", CHAT, chat_body(), key)).status == 200
