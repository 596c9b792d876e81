"""Each row of the table of raw requests, sent to our server directly: on asyncio and on uvloop."""

import asyncio
import json
from collections import Counter

import pytest

from conformance.request_rows import ROWS
from support.conformance import EchoServer, Row, echo_server
from support.http import Answer

pytestmark = pytest.mark.anyio

VICTIM = b"GET /victim HTTP/1.1\r\nHost: h\r\n\r\n"
SECONDS_MAX = 20


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that a gateway can run on."""
    return "asyncio", {"use_uvloop": request.param}


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len(ROWS) >= 120
    assert [name for name, count in Counter(row.name for row in ROWS).items() if count > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_raw_request_has_its_one_outcome(row: Row) -> None:
    async with echo_server() as server, asyncio.timeout(SECONDS_MAX):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**20)
        try:
            await _check(row, server, reader, writer)
        finally:
            writer.close()


async def _check(row: Row, server: EchoServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for piece in row.pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    if row.half_closes:
        writer.write_eof()
    answers = [await read_response(reader) for _ in row.bodies or (b"",)]
    assert answers[-1].status == row.status
    assert [seen["body"].encode("latin-1") for seen in server.executed] == list(row.bodies)
    _check_headers(row, server, answers[-1])
    if row.keeps:
        writer.write(VICTIM)
        assert json.loads((await read_response(reader)).body)["path"] == "/victim"
    else:
        assert await reader.read() == b""
        assert len(server.executed) == len(row.bodies)


def _check_headers(row: Row, server: EchoServer, answer: Answer) -> None:
    names = [name for seen in server.executed for name, _ in seen["headers"]]
    assert "authorization" not in names
    assert "x-forwarded-for" not in names
    assert names.count("host") <= len(server.executed)
    assert (answer.headers.get("connection") == "close") is (not row.keeps and not row.half_closes)
    if row.code is not None:
        assert answer.error["code"] == row.code
        assert answer.headers["x-request-id"]
        assert answer.headers["content-type"] == "application/json"


async def read_response(reader: asyncio.StreamReader) -> Answer:
    """One response: by its length, or to the end of the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *fields = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        assert "transfer-encoding" not in headers
        body = await reader.read()
    return Answer(status=int(status_line.split()[1]), headers=headers, body=body)
