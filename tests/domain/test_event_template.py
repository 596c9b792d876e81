"""Events that are recognized without being decoded are read exactly as if they were decoded."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tok0n.domain.catalogue import Model, Route
from tok0n.domain.endpoints.chat_stream import ChatStreamReader
from tok0n.domain.event_template import make_template
from tok0n.domain.metered_request import MeteredRequest, StreamOptions

MODEL = Model(
    id="public",
    routes=(Route(upstream="u", upstream_model="theirs"),),
    max_output_tokens=100,
    default_output_tokens=100,
)
TEXTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ['"', "\\", '","content":"', '"},"usage":{"total_tokens":9}', "\n", "\u00e9", "\U0001f600", "\x7f"]
    ),
)
NAMES = st.sampled_from(["content", "reasoning_content", "arguments", "obfuscation", "role", "error", "usage", "model"])
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class DecodingReader(ChatStreamReader):
    """Decodes every event."""

    def _is_plain(self, values: dict[str, Any], choices: list[Any]) -> bool:
        return False


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """One event, mostly like the others, with surprises of all kinds."""
    delta = draw(st.dictionaries(NAMES, TEXTS, max_size=2)) | {"content": draw(TEXTS)}
    choice: dict[str, Any] = {"index": draw(st.sampled_from([0, 0, 0, 1])), "delta": delta, "finish_reason": None}
    choice |= draw(st.sampled_from([{}, {}, {}, {"finish_reason": "stop"}, {"usage": USAGE}, {"error": "x"}]))
    more: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
        [{}, {}, {}, {"usage": None}, {"usage": USAGE}, {"error": {"message": "x"}}, {"error": None}]
    )
    values: dict[str, Any] = {
        "id": "1",
        "model": draw(st.sampled_from(["theirs", "theirs", "public", "other"])),
        "choices": [choice],
    }
    values |= draw(more)
    values |= draw(st.sampled_from([{}, {}, {"obfuscation": draw(TEXTS)}]))
    data = json.dumps(
        values,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (",", ":"), (", ", ": ")])),
    ).encode("utf-8", "surrogatepass")
    data = draw(
        st.sampled_from([data, data, data, data[:-1] + b',"usage":{"total_tokens":1}}', data[:-2], data + b"}"])
    )
    return b"data: " + data + b"\n\n"


def read(reader: ChatStreamReader, pieces: list[bytes]) -> Any:
    outputs = [reader.feed(piece) for piece in pieces]
    failure = None if reader.failure is None else (type(reader.failure), reader.failure.message)
    return outputs, reader.usage, reader.is_complete, reader.has_ended, reader.has_content, reader.events_read, failure


@given(events=st.lists(chunks(), max_size=8), includes_usage=st.booleans())
@example(
    events=[b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text for text in (b"a", b"\xff", b"b")],
    includes_usage=False,
)
@example(
    events=[
        b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text for text in (b"a", b"\\q", b"\\u00e9", b"\\n")
    ],
    includes_usage=False,
)
@example(
    events=[
        b'data: {"choices":[{"delta":{"content":"a"}%b}]}\n\n' % more for more in (b"", b',"finish_reason":"stop"')
    ],
    includes_usage=True,
)
def test_the_result_is_that_of_decoding_every_event(*, events: list[bytes], includes_usage: bool) -> None:
    request = MeteredRequest(
        model=MODEL,
        route=MODEL.routes[0],
        upstream_body=b"",
        prompt_bound=1,
        output_limit=1,
        n=1,
        prediction_bytes=0,
        stream=StreamOptions(includes_usage=includes_usage),
    )
    fast, slow = (kind(request, event_bytes_max=10_000, scrub=str) for kind in (ChatStreamReader, DecodingReader))
    assert read(fast, events) == read(slow, events)


@pytest.mark.parametrize(
    ("known", "other", "is_alike"),
    [
        (b'{"content":"a"}', b'{"content":"b\\n\\"c"}', True),
        (b'{"content":"a"}', b'{"content":"\xe6\x97\xa5"}', True),
        (b'{"content":"a","obfuscation":"x"}', b'{"content":"","obfuscation":"yy"}', True),
        (b'{"content":"a"}', b'{"content":"b","more":1}', False),
        (b'{"content":"a"}', b'{"content":"b\xff"}', False),
        (b'{"content":"a"}', b'{"content":"b\n"}', False),
        (b'{"content":"a"}', b'{"content":"b\\u0041"}', False),
        (b'{"content":"a"}', b'{"content":"b","usage":"c"}', False),
    ],
)
def test_only_texts_may_differ(known: bytes, other: bytes, *, is_alike: bool) -> None:
    template = make_template(known, known.replace(b"{", b"{1:"))
    assert template is not None
    assert template.apply(other) == (other.replace(b"{", b"{1:") if is_alike else None)


@pytest.mark.parametrize(
    "data", [b"{}", b'{"content":null}', b'{"content":"a","x":{"content":"b"}}', b'{"content":"\\u00']
)
def test_an_event_without_a_plain_text_is_no_template(data: bytes) -> None:
    assert make_template(data, data) is None
