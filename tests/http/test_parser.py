"""The request parser: what is valid, what is not, and that the cuts of the network change nothing."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tok0n.http import head as head_module
from tok0n.http.head import KNOWN_LINES_MAX, BadRequest
from tok0n.http.parser import CHUNKS_MAX, RequestParser

HEAD_BYTES_MAX = 400
LINES_MAX = 8

Cut = Callable[[bytes], list[bytes]]
Outcome = list[tuple[bytes, bytes, bytes] | str]


def read(*pieces: bytes) -> Outcome:
    """Method, target and body of each complete request, and the code of the error that ended the connection."""
    parser = RequestParser(head_bytes_max=HEAD_BYTES_MAX, header_lines_max=LINES_MAX)
    outcome: Outcome = []
    head, body = None, b""
    try:
        for piece in pieces:
            parser.feed(piece)
            while True:
                if head is None:
                    head = parser.read_head()
                if head is None:
                    break
                if not parser.is_complete:
                    body += parser.read_body()
                if not parser.is_complete:
                    break
                outcome.append((head.method, head.target, body))
                head, body = None, b""
                parser.start_next()
    except BadRequest as error:
        outcome.append(error.code)
    return outcome


def whole(data: bytes) -> list[bytes]:
    return [data]


def bytes_apart(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


HOST = b"Host: x\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

VALID = {
    "no body": (b"GET /a?b HTTP/1.1\r\n" + HOST + b"\r\n", [(b"GET", b"/a?b", b"")]),
    "length": (POST + b"Content-Length: 2\r\n\r\nok", [(b"POST", b"/", b"ok")]),
    "equal lengths": (POST + b"Content-Length: 2\r\nContent-Length: 2, 2\r\n\r\nok", [(b"POST", b"/", b"ok")]),
    "chunks": (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", [(b"POST", b"/", b"ok")]),
    "trailers": (CHUNKED + b"0\r\nAuthorization: b\r\nContent-Length: 5\r\n\r\n", [(b"POST", b"/", b"")]),
    "upgrade": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 24\r\n\r\nGET /secret HTTP/1.1\r\n\r\n",
        [(b"POST", b"/", b"GET /secret HTTP/1.1\r\n\r\n")],
    ),
    "empty lines before": (b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", [(b"GET", b"/", b"")]),
    "1.0 without a host": (b"GET / HTTP/1.0\r\n\r\n", [(b"GET", b"/", b"")]),
    "1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", [(b"GET", b"/", b"")]),
    "pipelined": (
        POST + b"Content-Length: 1\r\n\r\naGET /b HTTP/1.1\r\n" + HOST + b"\r\n",
        [(b"POST", b"/", b"a"), (b"GET", b"/b", b"")],
    ),
}

INVALID = {
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "length and chunked": POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "lengths that differ": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok",
    "signed length": POST + b"Content-Length: +2\r\n\r\nok",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "empty length in a list": POST + b"Content-Length: 2,\r\n\r\nok",
    "not chunked last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "only bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "bare LF before": b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad chunk size": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "empty chunk size": CHUNKED + b"\r\na\r\n0\r\n\r\n",
    "long chunk": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "bare LF after a size": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "bare LF after a chunk": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "bare LF in trailers": CHUNKED + b"0\r\na: b\n\r\n",
    "huge chunk": CHUNKED + b"FFFFFFFFFFFFFFFF\r\n",
    "non-ASCII target": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_request_is_read_however_it_arrives(name: str) -> None:
    data, expected = VALID[name]
    assert read(data) == expected
    assert read(*bytes_apart(data)) == expected


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_request_is_rejected_however_it_arrives(name: str) -> None:
    assert read(INVALID[name]) == ["invalid_request"]
    assert read(*bytes_apart(INVALID[name])) == ["invalid_request"]


@pytest.mark.parametrize("line", [b"GET / HTTP/2.0", b"PRI * HTTP/2.0", b"GET / HTTP/3.1"])
def test_another_major_version_is_not_supported(line: bytes) -> None:
    assert read(line + b"\r\n\r\n") == ["http_version_not_supported"]
    assert read(*bytes_apart(line + b"\r\n\r\n")) == ["http_version_not_supported"]


ALPHABET = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"0", b"1", b"a", b": ", b";x", b" ", b"\0", b"GET / HTTP/1.1\r\n", HOST, b"\r\n\r\n"]
)


@given(st.sampled_from([data for data, _ in VALID.values()] + list(INVALID.values())), st.data())
def test_the_cuts_of_the_network_change_nothing(data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data)))
    data = data[:place] + b"".join(draw.draw(st.lists(ALPHABET, max_size=3))) + data[place:] + data
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert without_codes(read(*[piece for piece in pieces if piece])) == without_codes(read(data))


def without_codes(outcome: Outcome) -> Outcome:
    """Of several errors in one head, the one that is found first may depend on the cuts."""
    return ["rejected" if isinstance(item, str) else item for item in outcome]


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_of_a_head_is_exact(excess: int) -> None:
    start, end = b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"\r\n\r\n"
    data = start + b"a" * (HEAD_BYTES_MAX - len(start) - len(end) + excess) + end
    expected: Outcome = ["headers_too_large"] if excess else [(b"GET", b"/", b"")]
    assert read(data) == read(*bytes_apart(data)) == read(b"\r\n" * 0 + data) == expected


@pytest.mark.parametrize("excess", [0, 1])
def test_trailers_and_chunk_extensions_count_towards_the_limit_of_the_head(excess: int) -> None:
    extension, trailer = b";x=yz", b"a: "
    rest = HEAD_BYTES_MAX - len(CHUNKED) - len(extension) - len(trailer) - len(b"\r\n\r\n")
    data = CHUNKED + b"1" + extension + b"\r\nb\r\n0\r\n" + trailer + b"a" * (rest + excess) + b"\r\n\r\n"
    expected: Outcome = ["headers_too_large"] if excess else [(b"POST", b"/", b"b")]
    assert read(data) == read(*bytes_apart(data)) == expected


@pytest.mark.parametrize("excess", [0, 1])
def test_headers_and_trailers_are_counted_together(excess: int) -> None:
    data = CHUNKED + b"0\r\n" + b"a: b\r\n" * (LINES_MAX - 2 + excess) + b"\r\n"
    expected: Outcome = ["headers_too_large"] if excess else [(b"POST", b"/", b"")]
    assert read(data) == read(*bytes_apart(data)) == expected


def test_a_long_chunk_extension_is_rejected_before_its_line_ends() -> None:
    assert read(CHUNKED, b"1;" + b"x" * HEAD_BYTES_MAX) == ["headers_too_large"]


@pytest.mark.parametrize("excess", [0, 1])
def test_a_body_has_a_limited_number_of_small_chunks(excess: int) -> None:
    count = CHUNKS_MAX + CHUNKS_MAX // 63 + excess
    data = CHUNKED + b"1\r\na\r\n" * count + b"0\r\n\r\n"
    expected: Outcome = ["invalid_request"] if excess else [(b"POST", b"/", b"a" * count)]
    assert read(data) == expected


def test_the_tables_of_known_lines_stay_small() -> None:
    for number in range(2 * KNOWN_LINES_MAX):
        read(b"GET /%d HTTP/1.1\r\nHost: x%d\r\nAccept: %d\r\n\r\n" % (number, number, number))
    for table in (head_module.known_request_lines, head_module.known_fields, head_module._known_hosts):
        assert 0 < len(table) <= KNOWN_LINES_MAX


def test_no_secret_is_kept_in_a_table_of_known_lines() -> None:
    secret = b"s3cret"
    read(
        b"GET /reset?link="
        + secret
        + b" HTTP/1.1\r\nHost: x\r\nAuthorization: "
        + secret
        + b"\r\nCookie: s3cret\r\n\r\n"
    )
    known = [*head_module.known_request_lines, *head_module.known_fields, *head_module._known_hosts]
    assert not any(secret in line for line in known)


@st.composite
def like_heads(draw: st.DrawFn) -> list[bytes]:
    """Heads of one client: from one to the next only the length changes, or also something else."""
    lengths = st.sampled_from([b" 0", b" 3", b"3", b" 03 ", b" 12", b" 3, 3", b" -3", b" 3a", b"", b" " + b"9" * 19])
    befores = st.sampled_from([b"", b"Content-Length: 3\r\n", b"A: b\r\n", b"A: b\r\nA: c\r\n"])
    afters = st.sampled_from([b"", b"B: c\r\n", b"Expect: 100-continue\r\n"])
    before, after, heads = draw(befores), draw(afters), []
    for _ in range(draw(st.integers(3, 7))):
        if draw(st.integers(0, 4)) == 0:
            before, after = draw(befores), draw(afters)
        heads.append(head_with(length=draw(lengths), before=before, after=after))
    return heads


def head_with(*, length: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\n%bContent-Length:%b\r\n%b\r\n" % (before, length, after)


UP_TO_THE_LIMIT = b"B: " + b"c" * (HEAD_BYTES_MAX - len(head_with(length=b" 3", after=b"B: \r\n"))) + b"\r\n"


@given(like_heads(), st.sampled_from([whole, bytes_apart]))
@example([head_with(length=length, after=UP_TO_THE_LIMIT) for length in (b" 3", b" 3", b" 12")], whole)
@settings(max_examples=300)
def test_a_head_is_read_alike_whatever_came_before(heads: list[bytes], cut: Cut) -> None:
    """A client's heads differ in their length only, as a rule: comparing them is a shortcut, and no other reading."""
    repeating = RequestParser(head_bytes_max=HEAD_BYTES_MAX, header_lines_max=LINES_MAX)
    for head in heads:
        fresh = RequestParser(head_bytes_max=HEAD_BYTES_MAX, header_lines_max=LINES_MAX)
        outcomes = [one_request(parser, head, cut) for parser in (fresh, repeating)]
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], str):
            return
        repeating.start_next()


def one_request(parser: RequestParser, data: bytes, cut: Cut) -> object:
    """All that the parser tells of a request that has a body of the letter x; or the code of its error."""
    try:
        for piece in cut(data):
            parser.feed(piece)
            head = parser.read_head()
        assert head is not None
        body = b"x" * (head.content_length or 0)
        if body:
            parser.feed(body)
            assert parser.read_body() == body
        assert parser.is_complete
        assert parser.buffered_bytes == 0
    except BadRequest as error:
        return error.code
    return {name: getattr(head, name) for name in head.__slots__}
