"""One line for each request, complete and without content; a log that cannot be written stops nothing."""

from collections.abc import Sequence
from typing import Any

import pytest

from support.gateways import running
from support.http import InstantUpstream, chat, chat_body, request
from support.log_lines import WrittenLines
from tok0n.domain.errors import NOT_CHARGED, InvalidRequest
from tok0n.ports.log_lines import CountLine, RequestLine
from tok0n.services.call import Call
from tok0n.services.pipeline import Pipeline
from tok0n.services.request_log import RequestLog

pytestmark = pytest.mark.anyio


def call(number: int) -> Call:
    return Call(request_id=f"req_{number}", started_seconds=0.0, endpoint="chat")


async def test_lines_are_written_in_order_with_what_is_known() -> None:
    written = WrittenLines()
    log = RequestLog(written.add)
    log.write(call(1), status=200, error=None, seconds=0.0123)
    log.write(call(2), status=400, error=InvalidRequest("secret text"), seconds=0.001)
    log.write(call(3), status=502, error=None, seconds=0.001)
    await log.aclose()
    assert [(line["request"], line["level"]) for line in written] == [
        ("req_1", "info"),
        ("req_2", "info"),
        ("req_3", "error"),
    ]
    assert written[0]["milliseconds"] == 12.3
    assert written[1]["code"] == "invalid_request"
    assert "secret text" not in str(written)


async def test_requests_refused_unseen_are_counted_in_one_line() -> None:
    written = WrittenLines()
    log = RequestLog(written.add)
    for _ in range(3):
        log.count_rejected()
    await log.aclose()
    assert [(line["event"], line["rejected"]) for line in written] == [("overloaded", 3)]


async def test_a_log_that_cannot_be_written_is_said_so_later() -> None:
    written = WrittenLines()
    broken = True

    def write(lines: Sequence[RequestLine | CountLine]) -> None:
        if broken:
            raise BrokenPipeError
        written.add(lines)

    log = RequestLog(write)
    log.write(call(1), status=200, error=None, seconds=0)
    log.count_rejected()
    await log.aclose()
    broken = False
    log.write(call(2), status=200, error=None, seconds=0)
    await log.aclose()
    assert [(line["event"], line.get("lines", line.get("rejected"))) for line in written] == [
        ("request", None),
        ("overloaded", 1),
        ("request_lines_dropped", 1),
    ]


async def test_every_request_under_v1_has_its_line(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    async with InstantUpstream() as upstream, running(tmp_path, upstream_url=upstream.base_url) as gateway:
        answers = [
            await chat(gateway.base_url, gateway.api_key, chat_body()),
            await request(gateway.base_url, "GET", "/v1/models"),
            await request(gateway.base_url, "GET", "/v1/secret-path"),
            await request(gateway.base_url, "GET", "/v1/chat/completions"),
        ]
    lines = capfd.readouterr().err
    for answer in answers:
        assert answer.headers["x-request-id"] in lines
    assert "secret-path" not in lines


async def test_a_bug_is_a_500_that_is_logged_as_a_bug(
    tmp_path: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Pipeline, "serve", broken)
    async with InstantUpstream() as upstream, running(tmp_path, upstream_url=upstream.base_url) as gateway:
        answer = await chat(gateway.base_url, gateway.api_key, chat_body())
    assert answer.status == 500
    assert answer.error["code"] == "api_error"
    assert NOT_CHARGED in answer.error["message"]
    lines = capfd.readouterr().err
    assert "unexpected_error" in lines
    assert "unexpected ZeroDivisionError" in lines
