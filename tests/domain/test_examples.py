"""How pages show each endpoint: any form is a valid request, and any response or stream can be shown."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import chat_streams, message_streams, response_streams
from support.models import make_model
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.example import Draft, Example
from tok0n.domain.endpoints.text_stream import with_text_stream
from tok0n.domain.errors import InvalidRequest, UpstreamFailed
from tok0n.domain.metered_request import MeteredRequest, StreamOptions

SHOWN = [endpoint for endpoint in ENDPOINTS if endpoint.example is not None]
NAMES = [endpoint.name for endpoint in SHOWN]
STREAMED = [endpoint for endpoint in SHOWN if endpoint.read_stream is not None]
MODEL = make_model(endpoints=tuple(NAMES), streaming_endpoints=tuple(NAMES), max_output_tokens=1_000)

WORDS = ["type", "text", "content", "output_text", "text_delta", "delta", "choices", "message", "refusal", "embedding"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=4)
TEXTS = st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable())

RESPONSES: dict[str, Any] = {
    "chat": lambda value, item: {"choices": [{"message": item}, {"message": {"content": value}}]},
    "embeddings": lambda value, _: {"data": [{"embedding": value}, {"embedding": value}]},
    "responses": lambda value, item: {"output": [value, item, {"content": [item, value]}]},
    "messages": lambda _, item: {"content": [item, {"type": "text", "text": "x"} | item]},
}
"""A response that `find_fault` accepts, with anything in the places that it doesn't look at."""

STREAMS: dict[str, bytes] = {
    "chat": chat_streams.body_of(
        chat_streams.chunk({"role": "assistant", "content": ""}),
        chat_streams.chunk("Hel"),
        chat_streams.chunk("lö.\n\n"),
        chat_streams.chunk(end="stop"),
        chat_streams.without_choices(usage=chat_streams.USAGE),
        chat_streams.DONE,
    ),
    "responses": response_streams.body_of(
        *response_streams.BEGINNING,
        response_streams.delta("Hel", 4),
        response_streams.delta("lö.\n\n", 5),
        response_streams.COMPLETED,
    ),
    "messages": b"".join(
        message_streams.event_of(event)
        for event in (
            message_streams.START,
            message_streams.BLOCK,
            message_streams.text("Hel"),
            message_streams.PING,
            message_streams.text("lö.\n\n"),
            message_streams.BLOCK_STOP,
            message_streams.DELTA,
            message_streams.STOP,
        )
    ),
}
RECEIPT = chat_streams.RECEIPT


def example_of(endpoint: Endpoint) -> Example:
    assert endpoint.example is not None
    return endpoint.example


def find(model_id: str) -> Model:
    return msgspec.structs.replace(MODEL, id=model_id)


def request_of(model: Model = MODEL) -> MeteredRequest:
    return MeteredRequest(
        model=model,
        route=model.routes[0],
        upstream_body=b"",
        prompt_bound=1,
        output_limit=1,
        n=1,
        prediction_bytes=0,
        inputs=2,
        stream=StreamOptions(),
    )


def texts_of(output: bytes) -> str:
    events = [json.loads(event.removeprefix("data: ")) for event in output.decode().split("\n\n")[:-1]]
    assert all(event.keys() == {"text"} for event in events)
    return "".join(event["text"] for event in events)


@pytest.mark.parametrize("endpoint", SHOWN, ids=NAMES)
@given(text=TEXTS, system=st.just("") | TEXTS, output_tokens=st.integers(1, 1_000), is_streaming=st.booleans())
def test_a_form_is_a_valid_request(
    endpoint: Endpoint, text: str, system: str, output_tokens: int, *, is_streaming: bool
) -> None:
    form = example_of(endpoint).form
    draft = Draft(
        model="m",
        text=text,
        system=system if form.system_label else "",
        output_tokens=output_tokens if form.has_limit else None,
    )
    body = example_of(endpoint).make_request(draft)
    body |= {"stream": True} if is_streaming and endpoint in STREAMED else {}
    read = endpoint.read_request(msgspec.json.encode(body), find_model=find, is_streaming=True)
    assert (read.output_limit, read.stream is not None) == (output_tokens if form.has_limit else 0, "stream" in body)


@pytest.mark.parametrize("endpoint", SHOWN, ids=NAMES)
def test_a_request_without_an_output_limit_is_rejected_only_if_the_form_needs_one(endpoint: Endpoint) -> None:
    body = msgspec.json.encode(example_of(endpoint).make_request(Draft(model="m", text="Hello!")))
    if example_of(endpoint).form.needs_limit:
        with pytest.raises(InvalidRequest):
            endpoint.read_request(body, find_model=find)
    else:
        assert endpoint.read_request(body, find_model=find).bound > 0


def test_each_line_is_an_input_of_an_embedding() -> None:
    (embeddings,) = (example_of(endpoint) for endpoint in SHOWN if endpoint.name == "embeddings")
    for text, expected in {
        "Hello!": "Hello!",
        "Hello!\r\n": "Hello!",
        "a\r\n\r\n b\n": ["a", " b"],
    }.items():
        assert embeddings.make_request(Draft(model="m", text=text)) == {"model": "m", "input": expected}


@pytest.mark.parametrize("endpoint", SHOWN, ids=NAMES)
@given(value=JSON, item=OBJECTS)
def test_any_response_that_is_billed_can_be_shown(endpoint: Endpoint, value: Any, item: dict[str, Any]) -> None:
    values = RESPONSES[endpoint.name](value, item)
    assert endpoint.find_fault(values, request_of()) is None
    output = example_of(endpoint).read_output(values)
    assert output.content is not None
    assert isinstance(json.dumps(output.content), str)
    assert all(type(count) is int and count >= 0 for _, count in output.counts)


def test_an_embedding_shows_the_first_numbers_of_the_first_vectors() -> None:
    (embeddings,) = (example_of(endpoint) for endpoint in SHOWN if endpoint.name == "embeddings")
    output = embeddings.read_output({"data": [{"embedding": [0.25, -1, 1e-9]}]})
    assert (output.content, output.counts) == ("[0.25, -1, 1e-09]", (("Vectors", 1), ("Dimensions", 3)))
    output = embeddings.read_output({"data": [{"embedding": [0.5] * 1536}] * 2_048})
    *lines, last = output.content.split("\n")
    assert lines == ["[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, …]"] * 10
    assert (last, output.counts) == ("2,038 more", (("Vectors", 2_048), ("Dimensions", 1_536)))


@pytest.mark.parametrize("endpoint", SHOWN, ids=NAMES)
@given(value=JSON | OBJECTS)
def test_any_event_can_be_read(endpoint: Endpoint, value: Any) -> None:
    for event in (value, {"type": "content_block_delta", "delta": value}, {"choices": value}, {"choices": [value]}):
        assert isinstance(example_of(endpoint).read_delta(event), str)


@pytest.mark.parametrize("endpoint", STREAMED, ids=[endpoint.name for endpoint in STREAMED])
@given(piece_bytes=st.integers(1, 400))
def test_a_text_stream_has_the_texts_and_ends_as_the_stream_of_its_endpoint(
    endpoint: Endpoint, piece_bytes: int
) -> None:
    body = STREAMS[endpoint.name]
    read_stream, read_texts = endpoint.read_stream, with_text_stream(endpoint).read_stream
    assert read_stream is not None
    assert read_texts is not None
    inner = read_stream(request_of(), event_bytes_max=20_000, scrub=str)
    stream = read_texts(request_of(), event_bytes_max=20_000, scrub=str)
    output = b""
    for at in range(0, len(body), piece_bytes):
        inner.feed(body[at : at + piece_bytes])
        output += stream.feed(body[at : at + piece_bytes])
        for name in ("events_read", "has_content", "usage", "is_complete", "has_ended", "failure"):
            assert getattr(stream, name) == getattr(inner, name), name
    assert (stream.is_complete, stream.failure) == (True, None)
    assert texts_of(output + stream.end()) == "Hellö.\n\n"
    receipt = {"reserved": 50, "charged": 12, "available": RECEIPT.balance.available}
    assert stream.render_completion(RECEIPT) == b"data: %b\n\n" % json.dumps({"receipt": receipt}).encode()


@pytest.mark.parametrize("endpoint", STREAMED, ids=[endpoint.name for endpoint in STREAMED])
def test_a_text_stream_that_breaks_off_fails_as_the_stream_of_its_endpoint(endpoint: Endpoint) -> None:
    read_texts = with_text_stream(endpoint).read_stream
    assert read_texts is not None
    stream = read_texts(request_of(), event_bytes_max=20_000, scrub=str)
    body = STREAMS[endpoint.name]
    stream.feed(body[: body.index(b"l\\u00f6")])
    stream.end()
    assert isinstance(stream.failure, UpstreamFailed)
    event = stream.render_failure(stream.failure, request_id="req_1")
    assert event == b"data: %b\n\n" % json.dumps({"error": stream.failure.message}).encode()
    assert stream.render_keep_alive() == b": keep-alive\n\n"


def test_an_endpoint_without_streams_stays_without() -> None:
    (embeddings,) = (endpoint for endpoint in SHOWN if endpoint.name == "embeddings")
    assert with_text_stream(embeddings) == embeddings
