"""Whatever a client sends: 400, 401 or 413 in OpenAI's shape, never a 5xx, and nothing ever reaches the upstream."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateways import Running, running
from support.http import Connection, InstantUpstream, chat, chat_body, request

pytestmark = pytest.mark.anyio

MESSAGES = '"messages":[{"role":"user","content":"Hi"}]'


def with_fields(more: str) -> bytes:
    return f'{{"model":"demo",{MESSAGES},{more}}}'.encode()


def with_message(message: str) -> bytes:
    return f'{{"model":"demo","messages":[{message}]}}'.encode()


BODIES: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "spaces": (b"   ", None),
    "not json": (b"hello", None),
    "cut": (b'{"model":', None),
    "trailing": (chat_body() + b"x", None),
    "a list": (b"[]", None),
    "a string": (b'"x"', None),
    "null": (b"null", None),
    "byte order mark": (b"\xef\xbb\xbf" + chat_body(), None),
    "utf-16": (chat_body().decode().encode("utf-16"), None),
    "invalid utf-8": (chat_body().replace(b"Hello", b"\xff\xfe"), None),
    "overlong utf-8": (chat_body().replace(b"Hello", b"\xc0\x80"), None),
    "utf-8 of a surrogate": (chat_body().replace(b"Hello", b"\xed\xa0\x80"), None),
    "invalid utf-8 in a key": (b'{"\xff":1,' + chat_body()[1:], None),
    "lone surrogate": (chat_body().replace(b"Hello", b"\\ud800"), None),
    "lone low surrogate": (chat_body().replace(b"Hello", b"x\\udc00y"), None),
    "two high surrogates": (chat_body().replace(b"Hello", b"\\ud800\\ud800"), None),
    "control character": (chat_body().replace(b"Hello", b"a\x01b"), None),
    "NaN": (with_fields('"temperature":NaN'), None),
    "Infinity": (with_fields('"temperature":Infinity'), None),
    "1e999": (with_fields('"temperature":1e999'), None),
    "5,000 digits": (with_fields('"seed":' + "9" * 5000), None),
    "100,000 deep list": (with_fields('"metadata":' + "[" * 100_000 + "]" * 100_000), None),
    "100,000 deep object": (with_fields('"metadata":' + '{"a":' * 100_000 + "1" + "}" * 100_000), None),
    "900 deep": (with_fields('"metadata":' + "[" * 900 + "]" * 900), "metadata"),
    "duplicate key": (with_fields('"n":1,"n":2'), "n"),
    "duplicate model": (b'{"model":"demo",' + chat_body()[1:], "model"),
    "duplicate key, escaped": (with_fields('"n":1,"\\u006e":2'), "n"),
    "duplicate key, nested": (with_message('{"role":"user","content":"a","content":"b"}'), "content"),
    "duplicate key beside colons": (with_message('{"role":"user","content":"a:b","content":"::"}'), "content"),
    "no model": (f"{{{MESSAGES}}}".encode(), "model"),
    "model null": (chat_body(model=None), "model"),
    "model a number": (chat_body(model=1), "model"),
    "model empty": (chat_body(model=""), "model"),
    "model unknown": (chat_body(model="gpt-x"), "model"),
    "model endless": (chat_body(model="x" * 100_000), "model"),
    "no messages": (b'{"model":"demo"}', "messages"),
    "messages empty": (chat_body(messages=[]), "messages"),
    "messages null": (chat_body(messages=None), "messages"),
    "messages a string": (chat_body(messages="hi"), "messages"),
    "message a string": (chat_body(messages=["hi"]), "messages[0]"),
    "no role": (chat_body(messages=[{"content": "x"}]), "messages[0].role"),
    "role unknown": (chat_body(messages=[{"role": "king", "content": "x"}]), "messages[0].role"),
    "role a list": (chat_body(messages=[{"role": ["user"], "content": "x"}]), "messages[0].role"),
    "no content": (chat_body(messages=[{"role": "user"}]), "messages[0].content"),
    "content a number": (chat_body(messages=[{"role": "user", "content": 1}]), "messages[0].content"),
    "content no parts": (chat_body(messages=[{"role": "user", "content": []}]), "messages[0].content"),
    "content a bad part": (chat_body(messages=[{"role": "user", "content": [1]}]), "messages[0].content[0]"),
    "message field unknown": (
        chat_body(messages=[{"role": "user", "content": "x", "zzz": 1}]),
        "messages[0].zzz",
    ),
    "image": (
        chat_body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        "messages[0].content[0].type",
    ),
    "stream": (chat_body(stream=True), "stream"),
    "stream 1": (chat_body(stream=1), "stream"),
    "store": (chat_body(store=True), "store"),
    "stream_options": (chat_body(stream_options={}), "stream_options"),
    "web_search_options": (chat_body(web_search_options={}), "web_search_options"),
    "service_tier": (chat_body(service_tier="priority"), "service_tier"),
    "audio": (chat_body(audio={"voice": "x", "format": "wav"}), "audio"),
    "modalities": (chat_body(modalities=["text", "audio"]), "modalities"),
    "unknown field": (chat_body(zzz=1), "zzz"),
    "limit zero": (chat_body(max_completion_tokens=0), "max_completion_tokens"),
    "limit negative": (chat_body(max_completion_tokens=-1), "max_completion_tokens"),
    "limit float": (with_fields('"max_completion_tokens":10.0'), "max_completion_tokens"),
    "limit bool": (chat_body(max_completion_tokens=True), "max_completion_tokens"),
    "limit string": (chat_body(max_completion_tokens="10"), "max_completion_tokens"),
    "limit too large": (chat_body(max_completion_tokens=1001), "max_completion_tokens"),
    "limit huge": (with_fields('"max_completion_tokens":99999999999999999999'), "max_completion_tokens"),
    "limits differ": (chat_body(max_completion_tokens=10, max_tokens=11), "max_tokens"),
    "n zero": (chat_body(n=0), "n"),
    "n true": (chat_body(n=True), "n"),
    "n large": (chat_body(n=129), "n"),
    "temperature a string": (chat_body(temperature="1"), "temperature"),
    "temperature too hot": (chat_body(temperature=2.1), "temperature"),
    "tool of the upstream": (chat_body(tools=[{"type": "web_search"}]), "tools[0].type"),
    "tools an object": (chat_body(tools={}), "tools"),
    "tool without function": (chat_body(tools=[{"type": "function"}]), "tools[0].function"),
    "stop too many": (chat_body(stop=["a"] * 5), "stop"),
    "logit_bias": (chat_body(logit_bias={"1": 101}), "logit_bias"),
    "metadata": (chat_body(metadata={"a": 1}), "metadata"),
    "type a list": (chat_body(response_format={"type": []}), "response_format.type"),
    "100,000 containers": (with_fields('"metadata":[' + ",".join(["[]"] * 100_000) + "]"), None),
    "1,001 members": (with_fields(",".join(f'"x{number}":null' for number in range(1_000))), None),
    "NUL in the model": (chat_body(model="demo\x00"), "model"),
    "seed": (with_fields('"seed":9223372036854775808'), "seed"),
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[tuple[Running, InstantUpstream]]:
    async with InstantUpstream() as upstream, running(tmp_path, upstream_url=upstream.base_url) as gateway:
        yield gateway, upstream


async def test_every_bad_body_is_a_400_that_names_the_field(gateway: tuple[Running, InstantUpstream]) -> None:
    serving, upstream = gateway
    async with Connection(serving.base_url) as connection:
        for name, (body, param) in BODIES.items():
            answer = await connection.chat(serving.api_key, body)
            assert answer.status == 400, (name, answer)
            assert (answer.error["code"], answer.error["type"]) == ("invalid_request", "invalid_request_error"), name
            assert answer.error["param"] == param, (name, answer.error)
            assert len(answer.error["message"]) > 10, name
            assert answer.headers["x-request-id"].startswith("req_")
            assert answer.headers["x-ratelimit-remaining-requests"] == "1000000", "a bad request uses nothing up"
    assert upstream.answered == 0
    assert (await serving.account()).balance.posted == 1_000_000
    assert await serving.audit_is_clean()


async def test_odd_authorization_headers_are_401(gateway: tuple[Running, InstantUpstream]) -> None:
    serving, upstream = gateway
    key = serving.api_key
    odd: list[bytes | None] = [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic dXNlcjpwYXNz",
        key.encode(),
        b"Token " + key.encode(),
        f"Bearer {key}, Bearer {key}".encode(),
        f"Bearer {key} x".encode(),
        f"Bearer {key[:-1]}".encode(),
        f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}".encode(),
        f"Bearer {key[:9]}{'a' if key[9] != 'a' else 'b'}{key[10:]}".encode(),
        b"Bearer sk-" + b"a" * 48,
        b"Bearer \xff\xfe\xfd",
        "Bearer tk0n_ключ".encode(),
        b"Bearer " + b"a" * 50_000,
        b"Bearer tk0n_" + b"0" * 49,
        b"Bearer tk0n_" + "\u0660".encode() * 49,
    ]
    for value in odd:
        headers = {} if value is None else {"authorization": value}
        answer = await request(serving.base_url, "POST", "/v1/chat/completions", chat_body(), headers)
        assert answer.status == 401, value
        assert (answer.error["code"], answer.error["type"]) == ("invalid_api_key", "authentication_error")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert key not in json.dumps(answer.error)
    for value in (b"bearer " + key.encode(), b"BEARER   " + key.encode(), b"Bearer " + key.encode() + b"  "):
        answer = await request(serving.base_url, "POST", "/v1/chat/completions", chat_body(), {"authorization": value})
        assert answer.status == 200, value
    assert upstream.answered == 3


async def test_a_body_that_is_too_large_is_a_413_whether_announced_or_not(
    gateway: tuple[Running, InstantUpstream],
) -> None:
    serving, upstream = gateway
    auth = f"authorization: Bearer {serving.api_key}\r\n".encode()
    async with Connection(serving.base_url) as connection:
        answer = await connection.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000000\r\n" + auth + b"\r\n"
        )
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        assert answer.headers["connection"] == "close"
    async with Connection(serving.base_url) as connection:
        connection.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" + auth + b"\r\n"
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        answer = await connection.send(chunk * 65 + b"0\r\n\r\n")
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert upstream.answered == 0


async def test_a_body_just_small_enough_is_served(gateway: tuple[Running, InstantUpstream]) -> None:
    serving, _ = gateway
    padding = 4_194_304 - len(chat_body(""))
    body = chat_body("") + b" " * padding
    assert (await chat(serving.base_url, serving.api_key, body)).status == 200
    assert (await chat(serving.base_url, serving.api_key, body + b" ")).status == 413


async def test_a_compressed_body_is_refused_in_words(gateway: tuple[Running, InstantUpstream]) -> None:
    serving, _ = gateway
    headers = {"authorization": f"Bearer {serving.api_key}", "content-encoding": "gzip"}
    answer = await request(serving.base_url, "POST", "/v1/chat/completions", b"\x1f\x8b", headers)
    assert answer.status == 400
    assert "content-encoding" in answer.error["message"]


async def test_every_wrong_path_and_method_under_v1_answers_in_openais_shape(
    gateway: tuple[Running, InstantUpstream],
) -> None:
    serving, _ = gateway
    for method, path, status, code in (
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/", 404, "not_found"),
        ("POST", "/v1/completions", 404, "not_found"),
        ("POST", "/v1/chat/completions/", 404, "not_found"),
        ("GET", "/v1/models/unknown", 404, "model_not_found"),
        ("GET", "/v1/models/a/b%20c", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("PUT", "/v1/models/demo", 405, "method_not_allowed"),
    ):
        answer = await request(serving.base_url, method, path)
        assert (answer.status, answer.error["code"]) == (status, code), (method, path)
        assert answer.headers["x-request-id"].startswith("req_")
        if status == 405:
            assert answer.headers["allow"]


async def test_a_client_that_sends_half_a_body_and_leaves_costs_nothing(
    gateway: tuple[Running, InstantUpstream],
) -> None:
    serving, upstream = gateway
    async with Connection(serving.base_url) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {serving.api_key}\r\n"
        connection.writer.write(head.encode() + b"content-length: 100\r\n\r\n{")
        await connection.writer.drain()
    assert (await chat(serving.base_url, serving.api_key, chat_body())).status == 200
    assert upstream.answered == 1


async def test_a_client_that_never_ends_its_body_is_told_so(tmp_path: Path) -> None:
    async with (
        InstantUpstream() as upstream,
        running(tmp_path, upstream_url=upstream.base_url, more="[server]\nbody_read_seconds = 0.05\n") as serving,
        Connection(serving.base_url) as connection,
    ):
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {serving.api_key}\r\n"
        answer = await connection.send(head.encode() + b"content-length: 100\r\n\r\n{")
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")


async def test_headers_without_end_are_refused_and_take_no_memory(
    gateway: tuple[Running, InstantUpstream],
) -> None:
    serving, _ = gateway
    async with Connection(serving.base_url) as connection:
        answer = await connection.send(b"GET /v1/models HTTP/1.1\r\nx-endless: " + b"a" * 300_000)
        assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
    async with Connection(serving.base_url) as connection:
        assert (await connection.request("GET", "/v1/models")).status == 200
        answer = await connection.send(b"GET /v1/models HTTP/1.1\r\n" + b"x-more: y\r\n" * 30_000)
        assert (answer.status, answer.error["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize("piece", ["\u0301\u0316", "\ufdfa", "\u0f73", "漢"])
async def test_long_text_of_an_account_that_cannot_pay_is_a_402_for_its_bytes(tmp_path: Path, piece: str) -> None:
    text = piece * (4_000_000 // len(piece.encode()))
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    async with (
        InstantUpstream() as upstream,
        running(tmp_path, upstream_url=upstream.base_url, tokens=1_000) as serving,
    ):
        answer = await chat(serving.base_url, serving.api_key, body)
        assert (answer.status, answer.error["code"]) == (402, "insufficient_tokens")
        assert f"needs up to {len(text.encode()) + len('user') + 16 + 512 + 100} tokens" in answer.error["message"]
        assert upstream.answered == 0
        assert await serving.audit_is_clean()
