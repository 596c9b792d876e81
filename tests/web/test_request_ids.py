"""Every response has an id of ours. The client's own id comes back beside it, and is in the log."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.gateways import Running
from support.http import Answer, Connection, chat_body, request
from tok0n.adapters.clock import SystemClock
from tok0n.api.cors import Cors
from tok0n.api.endpoint import EndpointHandler
from tok0n.domain.endpoints.chat import CHAT
from tok0n.http.head import RequestHead
from tok0n.http.request import Request, RequestAborted
from tok0n.http.request_ids import client_request_id
from tok0n.services.call import Call

pytestmark = pytest.mark.anyio

OWN = "x-request-id"
CLIENTS = "x-client-request-id"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, None),
        ({b"x-request-id": b"a"}, "a"),
        ({b"x-client-request-id": b"b"}, "b"),
        ({b"x-request-id": b"a", b"x-client-request-id": b"b"}, "b"),
        ({b"x-request-id": b"a", b"x-client-request-id": b"b c"}, "a"),
        ({b"x-client-request-id": b""}, None),
        ({b"x-client-request-id": b"!~" * 64}, "!~" * 64),
        ({b"x-client-request-id": b"x" * 129}, None),
        ({b"x-client-request-id": b"\xe9"}, None),
        ({b"x-client-request-id": b"a\tb"}, None),
        ({b"x-client-request-id": b"one, two"}, None),
    ],
)
def test_a_clients_id_is_visible_ascii_and_short(named: dict[bytes, bytes], expected: str | None) -> None:
    assert client_request_id(named) == expected


@given(st.binary(max_size=200))
def test_no_other_bytes_are_taken_for_an_id(value: bytes) -> None:
    found = client_request_id({b"x-request-id": value})
    assert (found is not None) == (1 <= len(value) <= 128 and all(33 <= byte <= 126 for byte in value))


async def answers(site: Running, headers: dict[str, str]) -> list[Answer]:
    """A response of each kind: whole and late bodies, errors, pages, and one that no handler sees."""
    key = {"authorization": f"Bearer {site.api_key}"}
    late = [f"{name}: {value}" for name, value in (headers | key).items()]
    body = chat_body()
    head = ["POST /v1/chat/completions HTTP/1.1", "host: x", f"content-length: {len(body)}", *late, "", ""]
    async with Connection(site.base_url) as connection:
        connection.writer.write("\r\n".join(head).encode() + body[:5])
        await connection.writer.drain()
        await request(site.base_url, "GET", "/healthz")
        late_answer = await connection.send(body[5:])
    post = "/v1/chat/completions"
    return [
        late_answer,
        await request(site.base_url, "POST", post, chat_body(), headers | key),
        await request(site.base_url, "POST", post, b"{", headers | key),
        await request(site.base_url, "POST", post, b"{", headers),
        await request(site.base_url, "GET", "/v1/models", headers=headers),
        await request(site.base_url, "GET", "/v1/nothing", headers=headers),
        await request(site.base_url, "CONNECT", "x:1", headers=headers),
        *[
            await request(site.base_url, "GET", path, headers=headers)
            for path in ("/", "/dashboard", "/nothing", "/healthz", "/readyz", "/llms.txt", "/openapi.json", "/?x=%00")
        ],
    ]


async def test_every_response_has_our_id_and_the_clients(site: Running, capfd: pytest.CaptureFixture[str]) -> None:
    plain = await answers(site, {})
    named = await answers(site, {CLIENTS: "abc-123", OWN: "req_theirs"})
    ids = [answer.headers[OWN] for answer in plain + named]
    assert all(id_.startswith("req_") and id_ != "req_theirs" for id_ in ids)
    assert len(set(ids)) == len(ids)
    assert {answer.headers.get(CLIENTS) for answer in plain} == {None}
    assert {answer.headers.get(CLIENTS) for answer in named} == {"abc-123"}
    assert {answer.headers.get(CLIENTS) for answer in await answers(site, {CLIENTS: "no spaces"})} == {None}
    for answer in named[:7]:
        line = await line_of(site, capfd, answer.headers[OWN])
        assert line["client_request_id"] == "abc-123"


_seen: list[str] = []


async def line_of(site: Running, capfd: pytest.CaptureFixture[str], request_id: str) -> dict[str, Any]:
    """The log line of one request. The log is written in bundles, so it may still be on its way."""
    while True:
        _seen.extend(capfd.readouterr().err.splitlines())
        found = [line for line in _seen if f'"request":"{request_id}"' in line.replace('": "', '":"')]
        if found:
            line: dict[str, Any] = json.loads(found[0])
            return line
        await request(site.base_url, "GET", "/healthz")


@pytest.mark.parametrize("is_overloaded", [False, True], ids=["full ledger queue", "load shedding"])
async def test_an_overload_rejection_has_both_ids(is_overloaded: bool) -> None:  # noqa: FBT001  a parameter
    pipeline = SimpleNamespace(
        has_room=lambda: is_overloaded,
        new_call=lambda endpoint, **fields: Call(request_id="req_1", started_seconds=0.0, endpoint=endpoint, **fields),
    )
    request_log = SimpleNamespace(count_rejected=lambda: None)
    anything = cast(Any, None)
    endpoint = EndpointHandler(
        CHAT, cast(Any, pipeline), anything, cast(Any, request_log), body_bytes_max=1, cors=Cors(), client_ip=anything
    )
    incoming = SimpleNamespace(headers_by_name={b"x-request-id": b"abc"}, is_overloaded=is_overloaded)
    rejection = await endpoint.handle(cast(Any, incoming))
    headers = dict(rejection.headers)
    assert rejection.status == 503
    assert (headers[b"x-request-id"], headers[b"x-client-request-id"]) == (b"req_1", b"abc")


async def test_a_request_that_the_server_rejected_to_free_memory_is_not_charged() -> None:
    reached_upstream = False

    async def serve(*_: object, on_admitted: Callable[[], None], **_more: object) -> None:
        nonlocal reached_upstream
        on_admitted()
        reached_upstream = True

    async def authenticate(*_: object) -> SimpleNamespace:
        return SimpleNamespace(account_id="acct_1")

    pipeline = SimpleNamespace(
        has_room=lambda: True,
        new_call=lambda endpoint, **fields: Call(request_id="req_1", started_seconds=0.0, endpoint=endpoint, **fields),
        cached_caller=lambda *_: None,
        authenticate=authenticate,
        serve=serve,
    )
    statuses: list[int] = []
    request_log = SimpleNamespace(write=lambda _, status, **__: statuses.append(status))
    endpoint = EndpointHandler(
        CHAT,
        cast(Any, pipeline),
        SystemClock(),
        cast(Any, request_log),
        body_bytes_max=10_000,
        cors=Cors(),
        client_ip=lambda *_: "",
    )
    channel = SimpleNamespace(client_address=None)
    evicted = Request(cast(Any, channel), RequestHead((b"POST", b"/v1/chat/completions", False), [(b"host", b"x")]))
    evicted.body = bytes(5_000)
    evicted.complete_body()
    evicted.rejected_as = 503
    with pytest.raises(RequestAborted):
        await endpoint.handle(evicted)
    assert (reached_upstream, statuses) == (False, [503])
