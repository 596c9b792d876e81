"""Whatever an upstream does: the documented error, nothing charged, nothing reserved, no traceback in the log.

Each failure meets each endpoint.
"""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.endpoint_cases import CASES, CHAT_CASE, SERVED, EndpointCase
from support.fakes import ANSWER
from support.gateways import Running, running
from support.http import Answer, chat, chat_body
from support.http import call as call_endpoint
from support.scripted_upstream import FAULTS, ScriptedUpstream, faults_of, http, ok, raw, status, usage, well

pytestmark = pytest.mark.anyio

UNKNOWN_OUTCOMES = {"timeout", "reset", "slow drip", "html", "empty", "usage missing", "cut body", "no choices"}
SHORT = "[upstreams.scripted]\nbase_url='{url}'\ntimeout_seconds=0.3\napi_key='file:upstream.key'\n"
MODEL = "[models.scripted]\nupstream='scripted'\nupstream_model='upstream-demo'\nmax_output_tokens=1000\n" + SERVED
FAULTS_OF = [(case, FAULTS if case is CHAT_CASE else faults_of(case)) for case in CASES]
ANY_FAULTS = dict.fromkeys(name for _, faults in FAULTS_OF for name in faults)


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    more = SHORT.format(url=upstream.base_url) + MODEL
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway:
        yield gateway


async def call(gateway: Running, case: EndpointCase = CHAT_CASE) -> Answer:
    return await call_endpoint(case, gateway.base_url, gateway.api_key, case.body(model="scripted"))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.fixture(scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[tuple[Running, ScriptedUpstream]]:
    """A gateway and its upstream, which meet one failure after another."""
    folder = tmp_path_factory.mktemp("failures")
    async with ScriptedUpstream() as upstream:
        more = SHORT.format(url=upstream.base_url) + MODEL
        async with running(folder, upstream_url=upstream.base_url, more=more) as gateway:
            yield gateway, upstream


@pytest.mark.parametrize("name", ANY_FAULTS)
async def test_every_failure_is_a_502_that_costs_nothing(
    name: str, shared: tuple[Running, ScriptedUpstream], capfd: pytest.CaptureFixture[str]
) -> None:
    gateway, upstream = shared
    posted = (await gateway.account()).balance.posted
    for case, faults in FAULTS_OF:
        if name not in faults:
            continue
        upstream.requests.clear()
        upstream.behaviour = faults[name]
        before = resident_bytes()
        answer = await call(gateway, case)
        assert resident_bytes() - before < 32 * 1024 * 1024
        assert (answer.status, case.read_error(answer.body)) == (502, case.error_name("upstream_error")), case.name
        assert answer.error["type"] == case.error_name("upstream_error")
        assert "You were not charged." in answer.error["message"]
        assert "127.0.0.1" not in answer.error["message"]
        assert "sk-" not in answer.error["message"]
        assert len(upstream.requests) == 1, "never sent twice, never followed"
        if name in UNKNOWN_OUTCOMES:
            assert answer.headers["x-should-retry"] == "false"
        balance = (await gateway.account()).balance
        assert (balance.posted, balance.pending) == (posted, 0)
    upstream.behaviour = well
    for case in CASES:
        after = await call(gateway, case)
        assert (after.status, after.headers["x-tok0n-charged"]) == (200, str(case.charged)), "the next is not harmed"
    assert await gateway.audit_is_clean()
    assert "Traceback" not in capfd.readouterr().err


async def test_a_refused_connection_is_a_502_that_may_be_retried(gateway: Running, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        folder = tmp_path / "refused"
        folder.mkdir()
        async with running(folder, upstream_url=url, limits=1) as serving:
            for _ in range(1):
                answer = await chat(serving.base_url, serving.api_key, chat_body())
                assert (answer.status, answer.error["code"]) == (502, "upstream_error")
                assert "x-should-retry" not in answer.headers
            assert (await serving.account()).balance.pending == 0


async def test_the_upstreams_words_about_the_customers_input_come_back_scrubbed(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    upstream.behaviour = status(
        400,
        b'{"error":{"message":"Bad value at https://api.internal.example/v1 with sk-operator-secret-123456 in'
        b' org-abcdef123456 for upstream-demo","type":"invalid_request_error","param":"temperature"}}',
    )
    answer = await call(gateway)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert answer.error["param"] == "temperature"
    assert answer.error["message"] == "Bad value at [redacted] with [redacted] in [redacted] for scripted"
    assert (await gateway.account()).balance.posted == 1_000_000


async def test_the_answer_is_the_upstreams_own_bytes_but_for_the_model(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    odd = ANSWER.replace(b'"created":1', b'"created":1.50e0,"extra":{"a" : "\\u00e9\\/"}')
    upstream.behaviour = ok(odd)
    answer = await call(gateway)
    assert answer.body == odd.replace(b'"upstream-demo"', b'"scripted"')


async def test_what_the_customer_sent_reaches_the_upstream_byte_for_byte(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    body = (
        b'{"temperature":1.50e0 , "messages":[ {"role":"user","content":"\\u00e9\\n\\/ \xc3\xa9"} ],"seed":0012345'
        b',"model":"scripted","max_tokens":7,"top_p":0.10,"metadata":{"a" :"b"},"stop":null}'
    ).replace(b"0012345", b"9007199254740993")
    answer = await chat(gateway.base_url, gateway.api_key, body)
    assert answer.status == 200
    expected = (
        b'{"temperature":1.50e0,"messages":[ {"role":"user","content":"\\u00e9\\n\\/ \xc3\xa9"} ],'
        b'"seed":9007199254740993,"model":"upstream-demo","top_p":0.10,"metadata":{"a" :"b"},"stop":null,'
        b'"max_completion_tokens":7}'
    )
    assert upstream.bodies == [expected]


async def test_use_above_the_reservation_is_charged_as_far_as_the_balance_goes(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.behaviour = usage(b'{"prompt_tokens":5000,"completion_tokens":3,"total_tokens":5003}')
    async with running(tmp_path, upstream_url=upstream.base_url, tokens=1000) as serving:
        answer = await chat(serving.base_url, serving.api_key, chat_body())
        assert (answer.status, answer.headers["x-tok0n-charged"], answer.headers["x-tok0n-available"]) == (
            200,
            "1000",
            "0",
        )
        report = await serving.store.ledger.audit()
        assert (report.ok, report.shortfall) == (True, 4003)


async def test_connections_are_reused_and_a_dead_one_is_not(gateway: Running, upstream: ScriptedUpstream) -> None:
    for _ in range(5):
        assert (await call(gateway)).status == 200
    assert upstream.connections == 1
    upstream.behaviour = FAULTS["500"]
    await call(gateway)
    upstream.behaviour = ok()
    assert (await call(gateway)).status == 200
    assert upstream.connections == 1, "an error status with a whole body leaves the connection good"


async def test_two_slow_calls_do_not_wait_for_each_other(gateway: Running, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()

    async def gated(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await ok()(writer)

    upstream.behaviour = gated
    calls = [asyncio.create_task(chat(gateway.base_url, gateway.api_key, chat_body())) for _ in range(5)]
    await upstream.until(lambda: len(upstream.requests) == 5)
    gate.set()
    assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 5


@pytest.mark.parametrize(
    ("code", "field", "seconds"),
    [
        (429, "retry-after: 7", "7"),
        (429, "Retry-After: 3600", "60"),
        (429, "retry-after-ms: 1500", "2"),
        (429, "retry-after: Wed, 21 Oct 2015 07:28:00 GMT", "1"),
        (429, "retry-after: soon", None),
        (503, "retry-after: 7", None),
    ],
)
async def test_a_429_of_the_upstream_keeps_its_retry_after(
    gateway: Running, upstream: ScriptedUpstream, code: int, field: str, seconds: str | None
) -> None:
    upstream.behaviour = raw(http(b'{"error":{"message":"Slow down."}}', status=code, headers=f"{field}\r\n"))
    answer = await call(gateway)
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert answer.headers.get("retry-after") == seconds
    assert "retry-after-ms" not in answer.headers
    assert "x-should-retry" not in answer.headers


async def test_a_compressed_answer_is_charged_and_its_bytes_come_back(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    upstream.behaviour = raw(http(gzip.compress(ANSWER), headers="Content-Encoding: GZIP\r\n"))
    answer = await call(gateway)
    assert answer.status == 200
    assert answer.headers["x-tok0n-charged"] == "12"
    assert "content-encoding" not in answer.headers
    assert (await gateway.account()).balance.posted == 1_000_000 - 12
