"""Clients that offer HTTP/2 over http:// get their answer, and their account is charged once for each."""

import asyncio
import json
from pathlib import Path

import pytest

from support.gateways import Running
from support.http import Connection, chat_body

pytestmark = pytest.mark.anyio

JAVA = Path(__file__).with_name("Client.java")
SECONDS_MAX = 120
OFFER = {
    "connection": "Upgrade, HTTP2-Settings",
    "upgrade": "h2c",
    "http2-settings": "AAEAAEAAAAIAAAAAAAMAAABkAAQBAAAA",
}


async def _run(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, error.decode()
    return out.decode()


async def _assert_charged(gateway: Running, posted_before: int, answers: list[dict[str, object]]) -> None:
    """The balance fell by exactly what the answers report."""
    total = 0
    for answer in answers:
        usage = answer["usage"]
        assert isinstance(usage, dict)
        total += usage["total_tokens"]
    balance = (await gateway.account()).balance
    assert total > 0
    assert (balance.posted, balance.pending) == (posted_before - total, 0)


async def test_curl_http2_over_http_gets_a_charged_200(gateway: Running) -> None:
    posted = (await gateway.account()).balance.posted
    out = await _run(
        *("curl", "--http2", "-sS", "-w", "\n%{http_code}", "--data-binary", chat_body().decode()),
        *("-H", f"authorization: Bearer {gateway.api_key}", "-H", "content-type: application/json"),
        f"{gateway.base_url}/chat/completions",
    )
    body, _, status = out.rpartition("\n")
    assert status == "200", out
    await _assert_charged(gateway, posted, [json.loads(body)])


async def test_the_http_client_of_java_gets_charged_200s(gateway: Running) -> None:
    posted = (await gateway.account()).balance.posted
    out = await _run("java", JAVA, gateway.base_url, gateway.api_key, chat_body().decode())
    lines = [line.partition(" ") for line in out.splitlines()]
    assert [status for status, _, _ in lines] == ["200", "200"], out
    await _assert_charged(gateway, posted, [json.loads(body) for _, _, body in lines])


@pytest.mark.parametrize("is_later", [False, True], ids=["body in the same packet", "body in a later packet"])
async def test_a_raw_offer_of_h2c_gets_charged_200s(gateway: Running, *, is_later: bool) -> None:
    posted = (await gateway.account()).balance.posted
    body = chat_body()
    headers = OFFER | {"authorization": f"Bearer {gateway.api_key}", "content-type": "application/json"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode()
    answers = []
    async with Connection(gateway.base_url) as connection:
        for _ in range(2):
            if is_later:
                connection.writer.write(head)
                await connection.writer.drain()
                await asyncio.sleep(0)
                answers.append(await connection.send(body))
            else:
                answers.append(await connection.send(head + body))
    assert [answer.status for answer in answers] == [200, 200]
    await _assert_charged(gateway, posted, [answer.json for answer in answers])
