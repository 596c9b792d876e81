"""Bytes that no browser sends, to every page and endpoint on both engines: a clear 4xx, never a 500 or a traceback.

test_fuzz_every_route.py sends many more texts and only looks for errors of ours.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from starlette.routing import Route

from support import postgres
from support.gateways import EMAIL, Running, running
from support.http import Connection, request
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import join, mail_settings
from support.visitor import SAME_ORIGIN, Visitor
from tok0n.adapters.passkeys import WebAuthn
from tok0n.adapters.sql.postgres.store import _failed
from tok0n.domain.errors import Overloaded, PasskeyInvalid

pytestmark = pytest.mark.anyio

FIELDS = ("before", "id", "model", "key", "status", "since", "until", "last", "link", "next", "by", "pack")
HEADERS = (
    {"origin": "http://[::1"},
    {"origin": "null"},
    {"host": "[::1"},
    {"host": "]["},
    {"referer": "http://[::1"},
    {"cookie": 'tok0n="\\000\\377"; =; ;;=x; tok0n-passkey="\\000"'},
    {"cookie": "tok0n=\xff\xfe"},
    {"user-agent": "\xff" * 2_000},
    {"content-type": "multipart/form-data; boundary="},
    {"content-type": 'application/x-www-form-urlencoded; charset="\xff'},
    {"accept-language": "\xff;q=x"},
    {"x-forwarded-for": "[, ::ffff, unknown"},
    {"content-length": "0", "expect": "100-continue"},
)


@pytest.fixture(params=["sqlite", "postgres"])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> AsyncIterator[Running]:
    overrides: dict[str, object] = {}
    if request.param == "postgres":
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        overrides["database.url"] = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}")
    more = mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more, overrides=overrides) as gateway:
        yield gateway


@pytest.fixture
async def owner(opened: Running, mailbox: Mailbox) -> AsyncIterator[Visitor]:
    async with Visitor(opened.url) as owner:
        await join(owner, mailbox, EMAIL)
        yield owner


def page_routes(site: Running, method: str) -> list[Route]:
    return [route for route in site.routes if isinstance(route, Route) and method in (route.methods or set())]


async def test_no_path_query_or_form_makes_a_500(
    opened: Running, owner: Visitor, capfd: pytest.CaptureFixture[str]
) -> None:
    async with httpx.AsyncClient(base_url=opened.url, timeout=60, cookies=owner.cookies) as raw:
        answers = [
            answer
            for sent in (
                with_nul_in_the_address(opened, raw),
                with_nul_in_the_form(opened, owner, raw),
            )
            async for answer in sent
        ]
    assert [str(answer.url) for answer in answers if answer.status_code >= 500] == []
    assert "Traceback" not in capfd.readouterr().err


async def with_nul_in_the_address(site: Running, raw: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
    for method in ("GET", "POST"):
        for route in page_routes(site, method):
            parts = dict.fromkeys(route.param_convertors, "%00")
            path = route.path.replace(":path", "").format(**parts)
            query = "" if parts else "?" + "&".join(f"{field}=%00" for field in FIELDS)
            answer = await raw.request(method, path + query)
            assert answer.status_code == (404 if parts else 400), path
            yield answer


async def with_nul_in_the_form(site: Running, owner: Visitor, raw: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
    for route in page_routes(site, "POST"):
        if route.path != "/webhooks/stripe":
            path = route.path.format(**dict.fromkeys(route.param_convertors, "x"))
            answer = await raw.post(path, content="name=%00&credential=%00", headers=SAME_ORIGIN)
            assert answer.status_code == 400, path
            yield answer


async def test_no_header_makes_a_500(opened: Running, capfd: pytest.CaptureFixture[str]) -> None:
    async with Connection(opened.base_url) as connection:
        for headers in HEADERS:
            for method, path in (("GET", "/"), ("GET", "/dashboard"), ("GET", "/nothing"), ("GET", "/v1/nothing")):
                assert await _status(connection, method, path, headers) < 500, (path, headers)
            for path in ("/sign-in", "/dashboard/keys", "/sign-out"):
                assert await _status(connection, "POST", path, headers) < 500, (path, headers)
    assert "Traceback" not in capfd.readouterr().err


async def _status(connection: Connection, method: str, path: str, headers: dict[str, str]) -> int:
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in ({"host": "x", "content-length": "0"} | headers).items()]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    connection.writer.write(head)
    head = await connection.reader.readuntil(b"\r\n\r\n")
    if b"100 Continue" in head:
        head = await connection.reader.readuntil(b"\r\n\r\n")
    named = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    if b"content-length" in named:
        await connection.reader.readexactly(int(named[b"content-length"]))
    return int(head.split()[1])


async def test_api_paths_with_nul_answer_in_openais_shape(site: Running, capfd: pytest.CaptureFixture[str]) -> None:
    headers = {"authorization": f"Bearer {site.api_key}"}
    for path, status, code in (
        ("/v1/requests/%00", 404, "not_found"),
        ("/v1/models/%00", 404, "not_found"),
        ("/v1/balance?x=%00", 400, "invalid_request"),
    ):
        answer = await request(site.base_url, "GET", path, headers=headers)
        assert (answer.status, answer.error["code"]) == (status, code)
        assert answer.headers["x-request-id"].startswith("req_")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/sign-in", "/dashboard/keys", "/webhooks/stripe", "/v1/chat/completions"])
async def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_no_traceback(
    opened: Running, owner: Visitor, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in owner.cookies.items())
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\ncontent-length: 1000\r\n\r\nname="
    for _ in range(3):
        async with Connection(opened.base_url) as connection:
            connection.writer.write(head.encode())
            await connection.writer.drain()
            await request(opened.base_url, "GET", "/healthz")
    for _ in range(3):  # every aborted post has been told by the time that later requests are answered
        await request(opened.base_url, "GET", "/dashboard")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "credential", ["[" * 20_000, '{"a":' * 4_000, "null", "[]", '{"rawId":"\\ud800"}', '{"response":{}}', "\x00"]
)
def test_no_text_as_a_passkey_credential_raises_anything_else(credential: str) -> None:
    authenticator = WebAuthn("https://example.com", site="Example")
    with pytest.raises(PasskeyInvalid):
        authenticator.read_response(credential)
    with pytest.raises(PasskeyInvalid):
        authenticator.verify_creation(credential, challenge=b"x")


def test_a_pool_without_a_free_connection_is_an_overload() -> None:
    assert isinstance(_failed(sa.exc.TimeoutError("QueuePool limit")), Overloaded)
