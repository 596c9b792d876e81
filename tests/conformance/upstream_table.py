"""Malicious and odd upstreams: what each sends, the one right outcome, and whether its connection may be reused."""

import gzip
import zlib
from dataclasses import dataclass
from typing import Literal

BODY = b'{"for":"first"}'
BODY_BYTES_MAX = 4096
"""The size limit of the client under test."""

INVALID, LARGE, LATE, CLOSED = "an invalid response", "that is too large", "timed out", "closed the connection"
UNREACHED = "is unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One upstream.

    `on_connect` is sent before any request, `pieces` once the request's head is there, each in a write of its own,
    `later` when the answer was delivered and the next request has not been sent. `end` is what follows the pieces.
    `status` and `body` are the right answer; `fails` is the right failure instead. `reuse` is whether the next request
    may travel on the same connection; `pauses` whether the upstream loses the reuse of all its connections.
    """

    name: str
    pieces: tuple[bytes, ...] = ()
    on_connect: bytes = b""
    later: bytes = b""
    end: Literal["open", "fin", "rst", "drip"] = "open"
    status: int = 200
    body: bytes = BODY
    fails: str | None = None
    retry_after_seconds: float | None = None
    reuse: bool = False
    pauses: bool = False
    request_bytes: int = 0


def head(*lines: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{version} {status}", *lines, "", ""]).encode("latin-1")


def sized(body: bytes = BODY, *lines: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return head(*lines, f"content-length: {len(body)}", status=status, version=version) + body


def chunk(body: bytes = BODY) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def chunked(data: bytes, *lines: str, version: str = "HTTP/1.1") -> bytes:
    return head(*lines, "transfer-encoding: chunked", version=version) + data


def coded(body: bytes, coding: str, *lines: str) -> bytes:
    return sized(body, f"content-encoding: {coding}", *lines)


def padded(*, head_bytes: int) -> bytes:
    """An answer whose head has exactly so many bytes."""
    line = "x: "
    missing = head_bytes - (len(sized(BODY, line)) - len(BODY))
    return sized(BODY, line + "y" * missing)


def lines(count: int) -> list[str]:
    return [f"x{number}: y" for number in range(count)]


def trailers(*, bytes_in_total: int) -> bytes:
    """A chunked answer whose head, last chunk and trailers have so many bytes that count."""
    start = chunked(chunk() + b"0\r\n")
    framing_that_does_not_count = len(chunk()) + len(b"0\r\n\r\n")
    counted = len(start) - len(b"0\r\n") - len(chunk()) + len(b"x: \r\n")
    assert framing_that_does_not_count
    return start + b"x: " + b"y" * (bytes_in_total - counted) + b"\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


GZIP = gzip.compress(BODY, mtime=0)
BOMB = gzip.compress(b" " * 50_000_000, mtime=0)
NESTED = gzip.compress(GZIP, mtime=0)
OTHER = sized(b'{"for":"somebody else"}')
SPLIT = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n"

FRAMING = [
    Row(name="length", pieces=(sized(),), reuse=True),
    Row(name="length, byte by byte", pieces=tuple(bytes([byte]) for byte in sized()), reuse=True),
    Row(name="chunked", pieces=(chunked(chunk(BODY[:3]) + chunk(BODY[3:]) + b"0\r\n\r\n"),), reuse=True),
    Row(
        name="chunked, byte by byte",
        pieces=tuple(bytes([byte]) for byte in chunked(chunk() + b"0\r\n\r\n")),
        reuse=True,
    ),
    Row(name="chunked, in capitals", pieces=(head("Transfer-Encoding: CHUNKED") + chunk() + b"0\r\n\r\n",), reuse=True),
    Row(name="chunk extension", pieces=(chunked(b"f;a=b\r\n" + BODY + b"\r\n0;c\r\n\r\n"),), reuse=True),
    Row(name="chunk size with zeros", pieces=(chunked(b"0000f\r\n" + BODY + b"\r\n000\r\n\r\n"),), reuse=True),
    Row(name="trailer", pieces=(chunked(chunk() + b"0\r\nx: y\r\n\r\n"),), reuse=True),
    Row(
        name="trailer that names a coding",
        pieces=(chunked(chunk() + b"0\r\ncontent-encoding: br\r\n\r\n"),),
        reuse=True,
    ),
    Row(
        name="trailer that names a length",
        pieces=(chunked(chunk() + b"0\r\ncontent-length: 3\r\n\r\n"),),
        fails=INVALID,
    ),
    Row(name="trailer that closes", pieces=(chunked(chunk() + b"0\r\nconnection: close\r\n\r\n"),)),
    Row(name="trailer with a bare LF", pieces=(chunked(chunk() + b"0\r\nx: y\n\r\n"),), fails=INVALID),
    Row(name="ends with the connection", pieces=(head() + BODY,), end="fin"),
    Row(name="ends with the connection, HTTP/1.0", pieces=(head(version="HTTP/1.0") + BODY,), end="fin"),
    Row(name="ends with the connection, which stays open", pieces=(head() + BODY,), fails=LATE),
    Row(name="ends with the connection, reset", pieces=(head() + BODY,), end="rst", fails=CLOSED),
    Row(name="no reason phrase", pieces=(sized(status="200"),), reuse=True),
    Row(name="NUL in the reason phrase, which nobody reads", pieces=(sized(status="200 O\0K"),), reuse=True),
    Row(name="bytes above ASCII in a header", pieces=(sized(BODY, "x: \xff\xfe"),), reuse=True),
    Row(name="empty body", pieces=(sized(b""),), body=b"", reuse=True),
    Row(name="HTTP/1.0", pieces=(sized(version="HTTP/1.0"),)),
    Row(name="HTTP/1.0, keep-alive", pieces=(sized(BODY, "connection: keep-alive", version="HTTP/1.0"),), reuse=True),
    Row(name="close", pieces=(sized(BODY, "connection: close"),)),
    Row(name="close and keep-alive", pieces=(sized(BODY, "connection: keep-alive, close"),)),
    Row(name="two equal lengths", pieces=(head("content-length: 15", "content-length: 15") + BODY,), fails=INVALID),
    Row(name="two lengths", pieces=(head("content-length: 15", "content-length: 3") + BODY,), fails=INVALID),
    Row(name="a list of lengths", pieces=(head("content-length: 15, 15") + BODY,), fails=INVALID),
    Row(name="length and chunked", pieces=(chunked(chunk() + b"0\r\n\r\n", "content-length: 15"),), fails=INVALID),
    Row(
        name="chunked and length",
        pieces=(head("transfer-encoding: chunked", "content-length: 15") + chunk() + b"0\r\n\r\n",),
        fails=INVALID,
    ),
    Row(name="chunked twice", pieces=(chunked(chunk() + b"0\r\n\r\n", "transfer-encoding: chunked"),), fails=INVALID),
    Row(name="chunked is not last", pieces=(head("transfer-encoding: chunked, gzip") + chunk(),), fails=INVALID),
    Row(
        name="gzip as a transfer coding",
        pieces=(head("transfer-encoding: gzip, chunked") + chunk(GZIP),),
        fails=INVALID,
    ),
    Row(name="unknown transfer coding", pieces=(head("transfer-encoding: xchunked") + BODY,), end="fin", fails=INVALID),
    Row(
        name="transfer coding identity", pieces=(head("transfer-encoding: identity") + BODY,), end="fin", fails=INVALID
    ),
    Row(name="chunked in HTTP/1.0", pieces=(chunked(chunk() + b"0\r\n\r\n", version="HTTP/1.0"),), fails=INVALID),
    Row(name="vertical tab before chunked", pieces=(head("transfer-encoding: \x0bchunked") + chunk(),), fails=INVALID),
    *(
        Row(name=f"length {value!r}", pieces=(head(f"content-length: {value}") + BODY,), fails=INVALID)
        for value in ("+15", "-15", "0xf", "15x", "1 5", "", "99999999999999999999999")
    ),
    *(
        Row(name=f"chunk {name}", pieces=(chunked(data),), fails=INVALID)
        for name, data in {
            "size with a space": b"f \r\n" + BODY + b"\r\n0\r\n\r\n",
            "size after a space": b" f\r\n" + BODY + b"\r\n0\r\n\r\n",
            "size 0x": b"0xf\r\n" + BODY + b"\r\n0\r\n\r\n",
            "size negative": b"-f\r\n" + BODY + b"\r\n0\r\n\r\n",
            "size missing": b"\r\n" + BODY + b"\r\n0\r\n\r\n",
            "size overflow": b"f" * 17 + b"\r\n" + BODY,
            "size line with a bare LF": b"f\n" + BODY + b"\r\n0\r\n\r\n",
            "data with a bare LF": b"f\r\n" + BODY + b"\n0\r\n\r\n",
            "too short": b"e\r\n" + BODY + b"\r\n0\r\n\r\n",
            "too long": b"10\r\n" + BODY + b"\r\n0\r\n\r\n",
            "extension with a line end in quotes": b'f;a="\n"\r\n' + BODY + b"\r\n0\r\n\r\n",
        }.items()
    ),
    Row(name="chunked, cut", pieces=(chunked(chunk()),), end="fin", fails=CLOSED),
    Row(name="cut", pieces=(sized()[:-1],), end="fin", fails=CLOSED),
    Row(name="announced and never sent", pieces=(head("content-length: 15"),), fails=LATE),
]

HEADS = [
    *(
        Row(name=name, pieces=(data,), fails=INVALID)
        for name, data in {
            "bare LFs": sized().replace(b"\r\n", b"\n"),
            "bare LF at the end of the head": sized().replace(b"\r\n\r\n", b"\r\n\n"),
            "bare CR in a value": sized(BODY, "x: a\rb"),
            "bare CR at the end of the head": head("content-length: 15")[:-1] + b"X" + BODY,
            "NUL in a value": sized(BODY, "x: a\0b"),
            "control character in a value": sized(BODY, "x: \x01"),
            "folded line": sized(BODY, "x: a\r\n b"),
            "space before the first name": sized(BODY, " x: a"),
            "space before a colon": sized(BODY, "x : a"),
            "space before the colon of the length": head("content-length : 15") + BODY,
            "line without a colon": sized(BODY, "nothing"),
            "empty name": sized(BODY, ": x"),
            "name above ASCII": sized(BODY, "x\xff: y"),
            "status of two digits": sized(status="20 OK"),
            "status of four digits": sized(status="2000 OK"),
            "status 099": sized(status="099 OK"),
            "status 000": sized(status="000 OK"),
            "status with letters": sized(status="2e2 OK"),
            "two spaces before the status": sized(status=" 200 OK"),
            "HTTP/0.9": sized(version="HTTP/0.9"),
            "HTTP/1.2": sized(version="HTTP/1.2"),
            "HTTP/2.0": sized(version="HTTP/2.0"),
            "HTTP/2": sized(version="HTTP/2"),
            "RTSP/1.0": sized(version="RTSP/1.0"),
            "ICY": sized(version="ICY"),
            "http/1.1": sized(version="http/1.1"),
            "no head at all (HTTP/0.9)": BODY,
            "SSH": b"SSH-2.0-OpenSSH\r\n",
            "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
            "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "HTTP/2 settings frame": b"\0\0\0\x04\0\0\0\0\0",
            "a request": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "line ends before the answer": b"\r\n\r\n" + sized(),
            "byte order mark": b"\xef\xbb\xbf" + sized(),
        }.items()
    ),
    Row(name="head of 65,536 bytes", pieces=(padded(head_bytes=65_536),), reuse=True),
    Row(
        name="head of 65,536 bytes in pieces",
        pieces=(padded(head_bytes=65_536)[:30_000], padded(head_bytes=65_536)[30_000:]),
        reuse=True,
    ),
    Row(name="head of 65,537 bytes", pieces=(padded(head_bytes=65_537),), fails=INVALID),
    Row(name="head of 1 MiB", pieces=(padded(head_bytes=1_048_576),), fails=INVALID),
    Row(name="128 header lines", pieces=(sized(BODY, *lines(127)),), reuse=True),
    Row(name="129 header lines", pieces=(sized(BODY, *lines(128)),), fails=INVALID),
    Row(name="128 lines with trailers", pieces=(chunked(chunk() + b"0\r\nx: y\r\n\r\n", *lines(126)),), reuse=True),
    Row(name="129 lines with trailers", pieces=(chunked(chunk() + b"0\r\nx: y\r\n\r\n", *lines(127)),), fails=INVALID),
    Row(name="65,536 bytes with trailers", pieces=(trailers(bytes_in_total=65_536),), reuse=True),
    Row(name="65,537 bytes with trailers", pieces=(trailers(bytes_in_total=65_537),), fails=INVALID),
    Row(
        name="chunk extension of 70,000 bytes",
        pieces=(chunked(b"f;" + b"x" * 70_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),),
        fails=INVALID,
    ),
    Row(name="endless chunk extension", pieces=(chunked(b"f;"), *[b"x" * 10_000] * 8), fails=INVALID),
    Row(name="many small chunk extensions", pieces=(chunked(b"1;%b\r\n \r\n" % (b"x" * 60) * 1_200),), fails=INVALID),
    Row(name="endless status line", pieces=(b"HTTP/1.1 200 ", *[b"x" * 10_000] * 8), fails=INVALID),
    Row(name="endless chunk size", pieces=(chunked(b"0" * 70_000),), fails=INVALID),
]

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
