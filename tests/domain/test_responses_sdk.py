"""The official Python SDK reads what the reader of response events renders, with and without its stream helper."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response, ResponseCompletedEvent, ResponseFailedEvent, ResponseIncompleteEvent

from support.chat_streams import RECEIPT
from support.response_streams import (
    BEGINNING,
    COMPLETED,
    CREATED,
    HELLO,
    INCOMPLETE,
    ITEM_DONE,
    RESPONSE,
    WORLD,
    body_of,
    event,
    failed,
    read,
    reader,
)
from tok0n.domain.errors import ServerStopped
from tok0n.domain.ids import request_id

REQUEST_ID = request_id(1_700_000_000_000_000, bytes(10))


def client_of(body: bytes) -> openai.OpenAI:
    """Return a client that gets `body` for every request."""
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body, headers=headers))
    return openai.OpenAI(
        base_url="http://127.0.0.1/v1", api_key="tk0n_x", http_client=httpx2.Client(transport=transport), max_retries=0
    )


def whole(*events: Any) -> bytes:
    """Return what a client gets of a stream that is charged."""
    stream, output = read(body_of(*events))
    assert stream.failure is None
    return output + stream.render_completion(RECEIPT)


def with_keep_alives(*events: Any) -> bytes:
    stream = reader()
    output = stream.render_keep_alive()
    for values in events:
        output += stream.feed(body_of(values)) + stream.render_keep_alive()
    return output + stream.render_completion(RECEIPT)


@pytest.mark.parametrize("render", [whole, with_keep_alives])
@pytest.mark.parametrize(("end", "status"), [(COMPLETED, "completed"), (INCOMPLETE, "incomplete")])
def test_the_sdk_reads_a_stream(render: Callable[..., bytes], end: Any, status: str) -> None:
    body = render(*BEGINNING, HELLO, WORLD, ITEM_DONE, end)
    events = list(client_of(body).responses.create(model="m", input="Hi", stream=True))
    last = [it for it in events if str(it.type) != "keepalive"][-1]
    assert isinstance(last, ResponseCompletedEvent | ResponseIncompleteEvent)
    assert (last.response.model, last.response.status) == ("m", status)
    assert last.response.usage is not None
    assert last.response.usage.total_tokens == 12
    numbers = [it.sequence_number for it in events]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("render", [whole, with_keep_alives])
def test_the_helper_of_the_sdk_builds_the_response(render: Callable[..., bytes]) -> None:
    body = render(*BEGINNING, HELLO, WORLD, event("response.new.thing", 6), ITEM_DONE, COMPLETED)
    with client_of(body).responses.stream(model="m", input="Hi") as stream:
        response = stream.get_final_response()
    assert response.output_text == "Hello wörld"
    assert response.model == "m"


def test_the_sdk_reads_the_failure_of_the_upstream_and_ours() -> None:
    for events, error in (
        ((*BEGINNING, HELLO, failed(8, code="invalid_prompt")), None),
        ((*BEGINNING, HELLO), ServerStopped()),
    ):
        stream, output = read(body_of(*events), is_cut=True)
        failure = error or stream.failure
        assert failure is not None
        body = output + stream.render_failure(failure, request_id=REQUEST_ID)
        last = list(client_of(body).responses.create(model="m", input="Hi", stream=True))[-1]
        assert isinstance(last, ResponseFailedEvent)
        assert last.response.id == "resp_1"
        assert last.response.error is not None
        assert last.response.error.message in {"m says [redacted]", failure.message}
        with client_of(body).responses.stream(model="m", input="Hi") as helper:
            assert [it.type for it in helper][-1] == "response.failed"


def test_the_response_of_a_failure_has_the_members_that_the_sdk_requires() -> None:
    required = {"id", "object", "created_at", "model", "output", "status", "error", "usage"}
    for stream in (reader(), read(body_of(CREATED), is_cut=True)[0]):
        text = stream.render_failure(ServerStopped(), request_id=REQUEST_ID).split(b"data: ")[1]
        response = json.loads(text)["response"]
        assert required <= set(response) <= set(Response.model_fields)
        assert required <= set(RESPONSE)
