"""Malicious and odd upstreams: what each sends, the one right outcome, and whether its connection may be reused."""

import gzip
import zlib

from conformance.upstream_framing_rows import FRAMING, HEADS
from conformance.upstream_messages import (
    BODY,
    BODY_BYTES_MAX,
    BOMB,
    CLOSED,
    GZIP,
    INVALID,
    LARGE,
    LATE,
    NESTED,
    OTHER,
    UNREACHED,
    Row,
    chunk,
    chunked,
    coded,
    head,
    raw_deflate,
    sized,
)

STATUSES = [
    Row(name="continue", pieces=(head(status="100 Continue"), sized()), reuse=True),
    Row(name="continue and answer at once", pieces=(head(status="100 Continue") + sized(),), reuse=True),
    Row(name="early hints eight times", pieces=(head("link: x", status="103 Early Hints") * 8 + sized(),), reuse=True),
    Row(name="nine interim answers", pieces=(head(status="102 Processing") * 9 + sized(),), fails=INVALID),
    Row(
        name="interim answer with a length, which has no body",
        pieces=(head("content-length: 5", status="100 Continue") + b"12345" + sized(),),
        fails=INVALID,
    ),
    Row(
        name="interim answers have 65,537 bytes together",
        pieces=(head("x: " + "y" * 40_000, status="103 X") * 2 + sized(),),
        fails=INVALID,
    ),
    Row(
        name="interim answer with a coding",
        pieces=(head("content-encoding: br", status="103 X") + sized(),),
        fails=INVALID,
    ),
    Row(
        name="interim answer, then HTTP/2.0", pieces=(head(status="100 X") + sized(version="HTTP/2.0"),), fails=INVALID
    ),
    Row(
        name="switching protocols",
        pieces=(head("connection: upgrade", "upgrade: websocket", status="101 X") + OTHER,),
        fails=INVALID,
    ),
    Row(name="switching protocols without saying to which", pieces=(head(status="101 X") + OTHER,), fails=INVALID),
    Row(
        name="upgrade offered in an answer",
        pieces=(sized(BODY, "connection: upgrade", "upgrade: h2c"),),
        reuse=True,
    ),
    Row(name="no content", pieces=(head(status="204 X"),), status=204, body=b"", reuse=True),
    Row(name="no content, with a body", pieces=(sized(status="204 X"),), status=204, body=b"", pauses=True),
    Row(
        name="not modified, with a length",
        pieces=(head("content-length: 15", status="304 X"),),
        status=304,
        body=b"",
        reuse=True,
    ),
    Row(name="not modified, with a body", pieces=(sized(status="304 X"),), status=304, body=b"", pauses=True),
    Row(name="redirect", pieces=(sized(b"", "location: /other", status="307 X"),), status=307, body=b"", reuse=True),
    Row(name="status 999", pieces=(sized(status="999 X"),), status=999, reuse=True),
    *(
        Row(
            name=f"429, {name}",
            pieces=(sized(BODY, *fields, status="429 Too Many Requests"),),
            status=429,
            retry_after_seconds=seconds,
            reuse=True,
        )
        for name, fields, seconds in [
            ("without retry-after", (), None),
            ("seconds", ("Retry-After: 7",), 7),
            ("milliseconds", ("retry-after: 9", "Retry-After-Ms: 1500"), 1.5),
            ("a date that has passed", ("retry-after: Wed, 21 Oct 2015 07:28:00 GMT",), 0),
            ("a date in 1,000 years", ("retry-after: Fri, 21 Oct 3015 07:28:00 GMT",), 86_400),
            ("a negative number", ("retry-after: -5",), None),
            ("words", ("retry-after: soon",), None),
        ]
    ),
    Row(name="503 with retry-after", pieces=(sized(BODY, "retry-after: 7", status="503 X"),), status=503, reuse=True),
]

CODINGS = [
    *(
        Row(name=f"coding {coding!r}", pieces=(coded(body, coding),), reuse=True)
        for coding, body in [
            ("gzip", GZIP),
            ("GZip", GZIP),
            ("x-gzip", GZIP),
            ("gzip, identity", GZIP),
            (" identity ,gzip, ", GZIP),
            ("deflate", zlib.compress(BODY)),
            ("Deflate", raw_deflate(BODY)),
            ("identity", BODY),
            ("IDENTITY", BODY),
            ("", BODY),
            (", ,", BODY),
        ]
    ),
    Row(name="gzip, two header lines", pieces=(coded(GZIP, "identity", "content-encoding: gzip"),), reuse=True),
    Row(name="gzip, byte by byte", pieces=tuple(bytes([byte]) for byte in coded(GZIP, "gzip")), reuse=True),
    Row(
        name="deflate, byte by byte", pieces=tuple(bytes([b]) for b in coded(raw_deflate(BODY), "deflate")), reuse=True
    ),
    Row(
        name="gzip, chunked",
        pieces=(chunked(chunk(GZIP[:7]) + chunk(GZIP[7:]) + b"0\r\n\r\n", "content-encoding: gzip"),),
        reuse=True,
    ),
    Row(name="gzip until the end", pieces=(head("content-encoding: gzip") + GZIP,), end="fin"),
    Row(name="gzip until the end, cut", pieces=(head("content-encoding: gzip") + GZIP[:-1],), end="fin", fails=INVALID),
    Row(
        name="gzip of two members",
        pieces=(coded(gzip.compress(BODY[:5]) + gzip.compress(BODY[5:]), "gzip"),),
        reuse=True,
    ),
    Row(name="gzip of 65 members", pieces=(coded(gzip.compress(b"") * 65, "gzip"),), fails=INVALID),
    Row(name="gzip, empty", pieces=(coded(b"", "gzip"),), body=b"", reuse=True),
    Row(
        name="gzip without a body",
        pieces=(head("content-encoding: gzip", status="204 X"),),
        status=204,
        body=b"",
        reuse=True,
    ),
    Row(name="gzip, cut", pieces=(coded(GZIP[:-9], "gzip"),), fails=INVALID),
    Row(name="gzip without its checksum", pieces=(coded(GZIP[:-8], "gzip"),), fails=INVALID),
    Row(name="gzip, wrong checksum", pieces=(coded(GZIP[:-8] + b"\0" * 8, "gzip"),), fails=INVALID),
    Row(name="gzip, garbage", pieces=(coded(b"garbage", "gzip"),), fails=INVALID),
    Row(name="gzip, garbage behind it", pieces=(coded(GZIP + b"garbage", "gzip"),), fails=INVALID),
    Row(name="gzip of gzip", pieces=(coded(NESTED, "gzip, gzip"),), fails=INVALID),
    Row(name="gzip said, plain sent", pieces=(coded(BODY, "gzip"),), fails=INVALID),
    Row(name="deflate, cut", pieces=(coded(zlib.compress(BODY)[:-1], "deflate"),), fails=INVALID),
    Row(name="deflate of one byte", pieces=(coded(b"\x78", "deflate"),), fails=INVALID),
    Row(name="deflate, garbage behind it", pieces=(coded(zlib.compress(BODY) + b"x", "deflate"),), fails=INVALID),
    *(
        Row(name=f"coding {coding}", pieces=(coded(BODY, coding),), fails=INVALID)
        for coding in ("br", "zstd", "compress", "gzip;q=1", "gzip br", "*")
    ),
    Row(name="gzip bomb", pieces=(chunked(chunk(BOMB[:4000]) + b"0\r\n\r\n", "content-encoding: gzip"),), fails=LARGE),
    Row(
        name="gzip of the limit",
        pieces=(coded(gzip.compress(b" " * BODY_BYTES_MAX), "gzip"),),
        body=b" " * BODY_BYTES_MAX,
        reuse=True,
    ),
    Row(name="gzip over the limit", pieces=(coded(gzip.compress(b" " * (BODY_BYTES_MAX + 1)), "gzip"),), fails=LARGE),
    Row(name="body of the limit", pieces=(sized(b" " * BODY_BYTES_MAX),), body=b" " * BODY_BYTES_MAX, reuse=True),
    Row(name="body over the limit", pieces=(sized(b" " * (BODY_BYTES_MAX + 1)),), fails=LARGE),
    Row(name="chunks over the limit", pieces=(chunked(chunk(b" " * 512) * 9),), fails=LARGE),
    Row(name="no end over the limit", pieces=(head() + b" " * (BODY_BYTES_MAX + 1),), fails=LARGE),
    Row(name="announced over the limit", pieces=(head("content-length: 4097"),), fails=LARGE),
]

SURPLUS = [
    Row(name="a second answer in the same packet", pieces=(sized() + OTHER,), pauses=True),
    Row(name="half of a second answer", pieces=(sized() + OTHER[:20],), pauses=True),
    Row(name="a second answer later", pieces=(sized(),), later=OTHER, pauses=True),
    Row(name="one byte later", pieces=(sized(),), later=b"H", pauses=True),
    Row(name="a line end later", pieces=(sized(),), later=b"\r\n", pauses=True),
    Row(name="an interim answer later", pieces=(sized(),), later=head(status="100 Continue"), pauses=True),
    Row(name="a time-out answer later", pieces=(sized(),), later=sized(b"", status="408 Request Timeout"), pauses=True),
    Row(name="a line end in the same packet", pieces=(sized() + b"\r\n",), pauses=True),
    Row(name="an LF in the same packet", pieces=(sized() + b"\n",), pauses=True),
    Row(name="a line end behind a closing answer", pieces=(sized(BODY, "connection: close") + b"\r\n",), pauses=True),
    Row(name="a line end behind chunks", pieces=(chunked(chunk() + b"0\r\n\r\n\r\n"),), pauses=True),
    Row(name="a line end behind an empty answer", pieces=(sized(b"") + b"\r\n",), body=b"", pauses=True),
    Row(name="garbage behind chunks", pieces=(chunked(chunk() + b"0\r\n\r\nx"),), pauses=True),
    Row(name="more than was announced", pieces=(sized() + b" ",), pauses=True),
    Row(name="more than was announced, closing", pieces=(sized(BODY, "connection: close") + b"x",), pauses=True),
    Row(name="more than was announced, gzip", pieces=(coded(GZIP, "gzip") + GZIP,), pauses=True),
    Row(
        name="answer split by a header value",
        pieces=(sized(b"", "x: y\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK"),),
        body=b"{}",
        pauses=True,
    ),
    Row(name="an answer before the request", on_connect=OTHER, fails=UNREACHED, pauses=True),
    Row(name="a byte before the request", on_connect=b"\r", fails=UNREACHED, pauses=True),
    Row(name="two answers before the request", on_connect=OTHER + OTHER, fails=UNREACHED, pauses=True),
]

ENDS = [
    Row(name="closed without a word", end="fin", fails=CLOSED),
    Row(name="reset without a word", end="rst", fails=CLOSED),
    Row(name="silent", fails=LATE),
    Row(name="cut head", pieces=(sized()[:20],), end="fin", fails=CLOSED),
    Row(name="cut head, reset", pieces=(sized()[:20],), end="rst", fails=CLOSED),
    Row(name="cut head, silent", pieces=(sized()[:20],), fails=LATE),
    Row(name="cut body, reset", pieces=(sized()[:-3],), end="rst", fails=CLOSED),
    Row(name="interim answer, then closed", pieces=(head(status="100 Continue"),), end="fin", fails=CLOSED),
    Row(name="answer, then closed", pieces=(sized(),), end="fin"),
    Row(name="answer, then reset", pieces=(sized(),), end="rst"),
    Row(name="drips in the body", pieces=(head("content-length: 4000"),), end="drip", fails=LATE),
    Row(name="drips in the head", pieces=(b"HTTP/1.1 200 OK\r\nx: ",), end="drip", fails=LATE),
    Row(name="drips in chunk extensions", pieces=(chunked(b"f;"),), end="drip", fails=LATE),
    Row(
        name="refuses a large request before it is there",
        pieces=(sized(status="413 Content Too Large"),),
        status=413,
        request_bytes=8_000_000,
    ),
    Row(
        name="refuses a large request and closes",
        pieces=(sized(BODY, "connection: close", status="413 Content Too Large"),),
        status=413,
        request_bytes=8_000_000,
        end="fin",
    ),
]

KEEP_ALIVE = [
    Row(name="keep-alive for an hour", pieces=(sized(BODY, "keep-alive: timeout=3600"),), reuse=True),
    Row(name="keep-alive for no time", pieces=(sized(BODY, "Keep-Alive: timeout=0, max=5"),)),
    Row(name="keep-alive without a number", pieces=(sized(BODY, "keep-alive: timeout=x"),), reuse=True),
]

ROWS = [*FRAMING, *HEADS, *STATUSES, *CODINGS, *SURPLUS, *ENDS, *KEEP_ALIVE]
