"""Each row of the table of raw requests, sent through real proxies: every victim behind it gets its own response."""

import asyncio
import contextlib
import itertools
import json
from pathlib import Path

import pytest

from conformance.request_rows import ROWS
from support.conformance import SMUGGLED, EchoServer, Row, echo_server
from support.http import Answer, Connection
from support.proxies import PROXIES, proxy

pytestmark = pytest.mark.anyio

VICTIMS = 3
ATTACKER_SECONDS = 0.3
"""A proxy may wait for bytes that a row never sends; its victims are sent then."""

VICTIM_SECONDS_MAX = 20
_numbers = itertools.count()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("name", PROXIES)
async def test_every_victim_behind_a_raw_request_gets_its_own_response(name: str, tmp_path: Path) -> None:
    async with echo_server() as server, proxy(name, tmp_path, upstream_port=server.port) as port:
        wrong = [problem for row in ROWS for problem in await _attack(row, server, port)]
    assert wrong == []


async def _attack(row: Row, server: EchoServer, port: int) -> list[str]:
    """Send a row, and victims behind it; gives what went wrong."""
    server.executed.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            for piece in _merged(row.pieces):
                writer.write(piece)
                await writer.drain()
        early = await asyncio.gather(*[_victim(port) for _ in range(VICTIMS)])
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(reader.read(1), ATTACKER_SECONDS)
        late = [await _victim(port) for _ in range(VICTIMS)]
    finally:
        writer.close()
    wrong = [f"{row.name}: {problem}" for problem in (*early, *late) if problem is not None]
    # Behind a rejected request it is a request of its own: a proxy that accepts the first may forward it.
    if SMUGGLED in row.bodies and any(seen["path"] == "/smuggled" for seen in server.executed):
        wrong.append(f"{row.name}: the smuggled request was executed")
    return wrong


def _merged(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """A proxy puts single bytes together anyway: a few pieces are enough."""
    return pieces if len(pieces) <= 4 else (b"".join(pieces[:-1]), pieces[-1])


async def _victim(port: int) -> str | None:
    """Send an honest request with a marker; gives what is wrong with its response."""
    marker = f"victim{next(_numbers)}"
    async with asyncio.timeout(VICTIM_SECONDS_MAX), Connection(f"http://127.0.0.1:{port}") as connection:
        connection.writer.write(
            f"POST /{marker} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(marker)}\r\n\r\n{marker}".encode()
        )
        answer = await read_response(connection.reader)
    if answer.status != 200:
        return f"a victim got {answer.status}"
    seen = json.loads(answer.body)
    return None if (seen["path"], seen["body"]) == (f"/{marker}", marker) else "a victim got another's response"


async def read_response(reader: asyncio.StreamReader) -> Answer:
    """One response with a length, or with chunks."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *fields = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(status=int(status_line.split()[1]), headers=headers, body=body)
