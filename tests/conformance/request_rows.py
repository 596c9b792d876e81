"""The table of raw requests: each row has the one right outcome that design/http.md, RFC 9110 or RFC 9112 gives it."""

from collections.abc import Iterator

from support.conformance import Row

HEAD_BYTES_MAX = 65_536
HEADER_LINES_MAX = 128

HOST = b"Host: h\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST
POST = b"POST /a HTTP/1.1\r\n" + HOST
LENGTH_2 = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def apart(data: bytes) -> tuple[bytes, ...]:
    """Each byte in a packet of its own."""
    return tuple(data[index : index + 1] for index in range(len(data)))


def rejected(name: str, *pieces: bytes, code: str = "invalid_request", status: int = 400) -> Row:
    """A row whose request is rejected, and whose connection is closed."""
    return Row(name=name, pieces=pieces, status=status, code=code, bodies=(), keeps=False)


def upgrade_offers() -> Iterator[Row]:
    """An offer to upgrade is ignored, and the body is read by its framing."""
    settings = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
    offers = {
        "h2c as the JDK sends it": settings + b"AAEAAEAA\r\n",
        "h2c as curl sends it": settings + b"AAMAAABk\r\n",
        "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "an unknown protocol": b"Connection: upgrade\r\nUpgrade: x/1\r\n",
        "a list of protocols": b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket, TLS/1.0\r\n",
        "an offer without Connection": b"Upgrade: websocket\r\n",
        "Connection without an offer": b"Connection: Upgrade\r\n",
        "an empty offer": b"Connection: Upgrade\r\nUpgrade:\r\n",
        "two offers": b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
    }
    length = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    chunks = CHUNKED + b"\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n"
    for name, offer in offers.items():
        head = POST + offer
        yield Row(name=f"{name}: the body in the same packet", pieces=(head + length + SMUGGLED,), bodies=(SMUGGLED,))
        yield Row(name=f"{name}: the body in a later packet", pieces=(head + length, SMUGGLED), bodies=(SMUGGLED,))
        yield Row(name=f"{name}: a chunked body", pieces=(head + chunks,), bodies=(SMUGGLED,))
        yield Row(name=f"{name}: no body", pieces=(GET + offer + b"\r\n",))
    offer = offers["websocket"]
    yield Row(
        name="an offer and its body, byte by byte", pieces=apart(POST + offer + length + SMUGGLED), bodies=(SMUGGLED,)
    )
    for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"):
        head = method + b" /a HTTP/1.1\r\n" + HOST + offer
        yield Row(name=f"an offer with {method.decode()}", pieces=(head + length + SMUGGLED,), bodies=(SMUGGLED,))
    yield Row(
        name="an offer behind another request",
        pieces=(GET + b"\r\n" + POST + offer + length + SMUGGLED,),
        bodies=(b"", SMUGGLED),
    )
    yield Row(
        name="an offer in HTTP/1.0",
        pieces=(b"POST /a HTTP/1.0\r\n" + HOST + offer + length + SMUGGLED,),
        bodies=(SMUGGLED,),
        keeps=False,
    )
    yield rejected("CONNECT", b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", code="method_not_allowed", status=405)
    yield rejected(
        "CONNECT with a body",
        b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nContent-Length: 35\r\n\r\n" + SMUGGLED,
        code="method_not_allowed",
        status=405,
    )


def lengths() -> Iterator[Row]:
    """Content-Length has one value, and it is a decimal number."""
    valid = {
        "one length": b"Content-Length: 2\r\n",
        "two equal lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n",
        "a list of equal lengths": b"Content-Length: 2, 2\r\n",
        "a length with spaces around it": b"Content-Length: \t 2 \t\r\n",
        "a length with leading zeros": b"Content-Length: 002\r\n",
        "a length in odd case": b"cOnTeNt-LeNgTh: 2\r\n",
    }
    for name, lines in valid.items():
        yield Row(name=name, pieces=(POST + lines + b"\r\nok",), bodies=(b"ok",))
        yield Row(name=f"{name}, byte by byte", pieces=apart(POST + lines + b"\r\nok"), bodies=(b"ok",))
    invalid = {
        "two lengths that differ": b"Content-Length: 2\r\nContent-Length: 3\r\n",
        "a list of lengths that differ": b"Content-Length: 2, 3\r\n",
        "a length of several spellings": b"Content-Length: 2\r\nContent-Length: 02\r\n",
        "a negative length": b"Content-Length: -2\r\n",
        "a signed length": b"Content-Length: +2\r\n",
        "a hexadecimal length": b"Content-Length: 0x2\r\n",
        "an empty length": b"Content-Length:\r\n",
        "a length with an empty item": b"Content-Length: 2,\r\n",
        "a length with a space inside": b"Content-Length: 2 2\r\n",
        "a length with a fraction": b"Content-Length: 2.0\r\n",
        "a length that is a word": b"Content-Length: two\r\n",
        "a length in other digits": b"Content-Length: \xd9\xa2\r\n",
        "a length beyond 64 bits": b"Content-Length: 18446744073709551618\r\n",
        "a length and chunked": LENGTH_2 + CHUNKED,
        "chunked and a length": CHUNKED + LENGTH_2,
        "a length of zero and chunked": b"Content-Length: 0\r\n" + CHUNKED,
    }
    for name, lines in invalid.items():
        yield rejected(name, POST + lines + b"\r\n0\r\n\r\n" + SMUGGLED)


def transfer_encodings() -> Iterator[Row]:
    """The only coding is chunked, once."""
    end = b"\r\n2\r\nok\r\n0\r\n\r\n"
    for name, line in {
        "chunked": CHUNKED,
        "chunked in odd case": b"tRaNsFeR-eNcOdInG: cHuNkEd\r\n",
        "chunked with spaces around it": b"Transfer-Encoding: \tchunked \r\n",
    }.items():
        yield Row(name=name, pieces=(POST + line + end,), bodies=(b"ok",))
        yield Row(name=f"{name}, byte by byte", pieces=apart(POST + line + end), bodies=(b"ok",))
    for name, line in {
        "chunked that is not last": b"Transfer-Encoding: chunked, gzip\r\n",
        "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
        "chunked in two fields": CHUNKED + CHUNKED,
        "gzip and chunked": b"Transfer-Encoding: gzip, chunked\r\n",
        "identity": b"Transfer-Encoding: identity\r\n",
        "an unknown coding": b"Transfer-Encoding: x\r\n",
        "an empty coding": b"Transfer-Encoding:\r\n",
        "an empty coding before chunked": b"Transfer-Encoding: , chunked\r\n",
        "chunked with a parameter": b"Transfer-Encoding: chunked;q=1\r\n",
        "quoted chunked": b'Transfer-Encoding: "chunked"\r\n',
        "chunked behind a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
        "chunked and rest": b"Transfer-Encoding: chunked x\r\n",
        "chunked on a folded line": b"Transfer-Encoding:\r\n chunked\r\n",
        "chunked with a space before the colon": b"Transfer-Encoding : chunked\r\n",
    }.items():
        yield rejected(name, POST + line + end)
    yield rejected("chunked in HTTP/1.0", b"POST /a HTTP/1.0\r\n" + HOST + CHUNKED + end)


def chunks() -> Iterator[Row]:
    """Chunk sizes are hexadecimal numbers, and every line of the framing ends with CRLF."""
    head = POST + CHUNKED + b"\r\n"
    for name, body, seen in (
        ("several chunks", b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok"),
        ("a size with leading zeros", b"0002\r\nok\r\n000\r\n\r\n", b"ok"),
        ("sizes in both cases", b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        ("a chunk extension", b"2;a=b;c\r\nok\r\n0;d\r\n\r\n", b"ok"),
        ("no chunk", b"0\r\n\r\n", b""),
        ("a chunk that looks like a request", b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n", SMUGGLED),
        ("a chunk that looks like the end", b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n\r\n"),
    ):
        assert name != "a chunk that looks like a request" or len(SMUGGLED) == 0x23
        yield Row(name=name, pieces=(head + body,), bodies=(seen,))
        yield Row(name=f"{name}, byte by byte", pieces=apart(head + body), bodies=(seen,))
    for name, body in {
        "an empty size": b"\r\nok\r\n0\r\n\r\n",
        "a negative size": b"-2\r\nok\r\n0\r\n\r\n",
        "a signed size": b"+2\r\nok\r\n0\r\n\r\n",
        "a size with 0x": b"0x2\r\nok\r\n0\r\n\r\n",
        "a size of 17 digits": b"00000000000000002\r\nok\r\n0\r\n\r\n",
        "a size that overflows": b"FFFFFFFFFFFFFFFF\r\nok\r\n0\r\n\r\n",
        "a size behind a space": b" 2\r\nok\r\n0\r\n\r\n",
        "a size before a space": b"2 \r\nok\r\n0\r\n\r\n",
        "a size that is no number": b"g\r\nok\r\n0\r\n\r\n",
        "a size with an underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
        "an extension without a semicolon": b"2 a=b\r\nok\r\n0\r\n\r\n",
        "a NUL in an extension": b"2;\0\r\nok\r\n0\r\n\r\n",
        "a bare LF after a size": b"2\nok\r\n0\r\n\r\n",
        "a bare CR after a size": b"2\rok\r\n0\r\n\r\n",
        "a bare LF in an extension": b"2;a\nb\r\nok\r\n0\r\n\r\n",
        "a bare CR in an extension": b"2;a\rb\r\nok\r\n0\r\n\r\n",
        "a bare LF after a chunk": b"2\r\nok\n0\r\n\r\n",
        "a bare CR after a chunk": b"2\r\nok\r0\r\n\r\n",
        "no line end after a chunk": b"2\r\nok0\r\n\r\n",
        "a chunk longer than its size": b"2\r\nokay\r\n0\r\n\r\n",
        "a bare LF after the last size": b"0\n\r\n",
        "a bare LF at the end": b"0\r\n\n",
    }.items():
        yield rejected(name, head + body + SMUGGLED)
    small = b"1\r\na\r\n"
    most = 1_000 + 1_000 // 63
    yield Row(
        name="as many small chunks as allowed", pieces=(head + small * most + b"0\r\n\r\n",), bodies=(b"a" * most,)
    )
    yield rejected("one small chunk too many", head + small * (most + 1) + b"0\r\n\r\n")


def trailers() -> Iterator[Row]:
    """Trailers are counted and dropped."""
    head = POST + CHUNKED + b"\r\n2\r\nok\r\n0\r\n"
    for line in (
        b"X-A: b",
        b"Authorization: Bearer k",
        b"Content-Length: 35",
        b"Transfer-Encoding: chunked",
        b"Host: other",
        b"X-Forwarded-For: 203.0.113.7",
        b"Connection: close",
        b"Upgrade: h2c",
    ):
        name = line.partition(b":")[0].decode()
        yield Row(name=f"the trailer {name}", pieces=(head + line + b"\r\n\r\n",), bodies=(b"ok",))
        yield Row(name=f"the trailer {name}, later", pieces=(head, line, b"\r\n", b"\r\n"), bodies=(b"ok",))
    for name, line in {
        "a trailer without a colon": b"abc\r\n",
        "a trailer with a space before its colon": b"a : b\r\n",
        "a folded trailer": b"a: b\r\n c\r\n",
        "a trailer with NUL": b"a: \0\r\n",
        "a trailer that ends with a bare LF": b"a: b\n",
        "a trailer with a bare CR": b"a: b\rc\r\n",
    }.items():
        yield rejected(name, head + line + b"\r\n" + SMUGGLED)


def limits() -> Iterator[Row]:
    """Heads and trailers have exact limits, in one read as in many."""
    too_large = {"code": "headers_too_large", "status": 431}
    for excess in (0, 1):
        rest = HEAD_BYTES_MAX - len(GET) - len(b"X: ") - 4 + excess
        head = GET + b"X: " + b"a" * rest + b"\r\n\r\n"
        pieces = tuple(head[index : index + 9_000] for index in range(0, len(head), 9_000))
        name = f"a head of {len(head):,} bytes"
        lines = GET + b"X: a\r\n" * (HEADER_LINES_MAX - 1 + excess) + b"\r\n"
        start = POST + CHUNKED + b"\r\n2\r\nok\r\n0\r\n"
        counted = len(POST) + len(CHUNKED) + 2
        trailer = b"X: " + b"a" * (HEAD_BYTES_MAX - counted - len(b"X: \r\n\r\n") + excess) + b"\r\n\r\n"
        extended = b"2;" + b"x" * (HEAD_BYTES_MAX - counted - 3 + excess) + b"\r\nok\r\n0\r\n\r\n"
        trailer_lines = b"X: a\r\n" * (HEADER_LINES_MAX - 2 + excess) + b"\r\n"
        for kind, cut, seen in (
            (name, (head,), b""),
            (f"{name}, in pieces", pieces, b""),
            (f"{HEADER_LINES_MAX + excess} headers", (lines,), b""),
            (f"trailers that make {HEAD_BYTES_MAX + excess:,} bytes", (start + trailer,), b"ok"),
            (f"trailers that make {HEAD_BYTES_MAX + excess:,} bytes, later", (start, trailer), b"ok"),
            (f"{HEADER_LINES_MAX + excess} headers and trailers", (start + trailer_lines,), b"ok"),
            (
                f"an extension that makes {HEAD_BYTES_MAX + excess:,} bytes",
                (POST + CHUNKED + b"\r\n" + extended,),
                b"ok",
            ),
        ):
            if excess:
                yield rejected(kind, *cut, **too_large)  # type: ignore[arg-type]  # a code and a status
            else:
                yield Row(name=kind, pieces=cut, bodies=(seen,))
    yield rejected("a head that never ends", GET + b"X: " + b"a" * 100_000, **too_large)  # type: ignore[arg-type]
    yield rejected("a target that never ends", b"GET /" + b"a" * 100_000, **too_large)  # type: ignore[arg-type]
    yield rejected("trailers that never end", POST + CHUNKED + b"\r\n0\r\n" + b"X: a\r\n" * 50_000, **too_large)  # type: ignore[arg-type]
    yield Row(name="a long target", pieces=(b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",))


def hosts() -> Iterator[Row]:
    """HTTP/1.1 needs exactly one Host."""
    for name, lines in {
        "no Host": b"",
        "an empty Host": b"Host:\r\n",
        "a blank Host": b"Host:  \t\r\n",
        "two Hosts": HOST + b"Host: other\r\n",
        "two equal Hosts": HOST + HOST,
        "a Host with a space": b"Host: a b\r\n",
        "a Host with a comma": b"Host: a, b\r\n",
        "a Host with a path": b"Host: h/x\r\n",
        "a Host with a user": b"Host: u@h\r\n",
        "a Host with NUL": b"Host: h\0\r\n",
    }.items():
        yield rejected(name, b"GET /a HTTP/1.1\r\n" + lines + b"\r\n" + SMUGGLED)
    for host in (b"h:8080", b"[::1]:8080", b"xn--h-1ga.example", b"127.0.0.1"):
        yield Row(name=f"the Host {host.decode()}", pieces=(b"GET /a HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",))
    yield Row(name="HTTP/1.0 without Host", pieces=(b"GET /a HTTP/1.0\r\n\r\n",), keeps=False)
    yield rejected("HTTP/1.0 with two Hosts", b"GET /a HTTP/1.0\r\n" + HOST + HOST + b"\r\n")


def versions() -> Iterator[Row]:
    """Only HTTP/1.x is spoken."""
    other = {"code": "http_version_not_supported", "status": 505}
    for line in (b"GET /a HTTP/2.0", b"GET /a HTTP/3.0", b"PRI * HTTP/2.0", b"GET /a HTTP/9.9", b"GET /a HTTP/0.9"):
        yield rejected(line.decode(), line + b"\r\n" + HOST + b"\r\n", **other)  # type: ignore[arg-type]
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield rejected("the preface of HTTP/2", preface + b"\0\0\0\4\0\0\0\0\0", **other)  # type: ignore[arg-type]
    yield Row(name="HTTP/1.2", pieces=(b"GET /a HTTP/1.2\r\n" + HOST + b"\r\n",))
    for name, data in {
        "HTTP/0.9": b"GET /a\r\n",
        "HTTP/0.9 with headers": b"GET /a\r\nHost: h\r\n\r\n",
        "no version number": b"GET /a HTTP\r\n" + HOST + b"\r\n",
        "half a version number": b"GET /a HTTP/1\r\n" + HOST + b"\r\n",
        "a long version number": b"GET /a HTTP/1.10\r\n" + HOST + b"\r\n",
        "a version in lower case": b"GET /a http/1.1\r\n" + HOST + b"\r\n",
        "another protocol": b"GET /a HTTPS/1.1\r\n" + HOST + b"\r\n",
        "two spaces in the request line": b"GET  /a HTTP/1.1\r\n" + HOST + b"\r\n",
        "a tab in the request line": b"GET\t/a HTTP/1.1\r\n" + HOST + b"\r\n",
        "a space before the method": b" GET /a HTTP/1.1\r\n" + HOST + b"\r\n",
        "a space after the version": b"GET /a HTTP/1.1 \r\n" + HOST + b"\r\n",
        "a space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
        "no method": b"/a HTTP/1.1\r\n" + HOST + b"\r\n",
        "a method with a slash": b"G/T /a HTTP/1.1\r\n" + HOST + b"\r\n",
        "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "a response": b"HTTP/1.1 200 OK\r\n" + HOST + b"\r\n",
    }.items():
        yield rejected(name, data)


def lines() -> Iterator[Row]:
    """Every line of a head is NAME: VALUE, and ends with CRLF."""
    for name, line in {
        "a space before a colon": b"X : a\r\n",
        "a tab before a colon": b"X\t: a\r\n",
        "a folded line": b"X: a\r\n b\r\n",
        "a folded first line": b" X: a\r\n",
        "a line without a colon": b"X\r\n",
        "an empty name": b": a\r\n",
        "a name with a slash": b"X/Y: a\r\n",
        "a name in UTF-8": b"\xc3\xa4: a\r\n",
        "NUL in a value": b"X: a\0b\r\n",
        "NUL in a name": b"X\0: a\r\n",
        "DEL in a value": b"X: \x7f\r\n",
        "a bell in a value": b"X: \x07\r\n",
        "a bare LF": b"X: a\n",
        "a bare LF inside": b"X: a\nY: b\r\n",
        "a bare CR": b"X: a\rY: b\r\n",
        "two CRs": b"X: a\r\r\n",
    }.items():
        yield rejected(name, GET + line + b"\r\n" + SMUGGLED)
    yield rejected("bare LFs only", b"GET /a HTTP/1.1\nHost: h\n\n" + SMUGGLED)
    yield rejected("a bare LF before a request", b"\n" + GET + b"\r\n")
    yield rejected("a bare CR before a request", b"\r" + GET + b"\r\n")
    yield Row(name="an empty line before a request", pieces=(b"\r\n" + GET + b"\r\n",))
    yield Row(name="an empty line before a request, byte by byte", pieces=apart(b"\r\n" + GET + b"\r\n"))
    yield Row(name="a value in Latin-1", pieces=(GET + b"X: \xe4\r\n\r\n",))
    yield Row(name="an empty value", pieces=(GET + b"X:\r\n\r\n",))
    yield Row(name="a value with colons", pieces=(GET + b"X: a:b: c\r\n\r\n",))
    yield Row(name="a head, byte by byte", pieces=apart(GET + b"\r\n"))


def targets() -> Iterator[Row]:
    """A target is a path, or a URL with one."""
    for target in (
        b"/a?b=c",
        b"http://other/a",
        b"HTTP://other:80/a?b",
        b"http://other",
        b"http://other?b",
        b"//a",
        b"/%00",
        b"/a%2Fb",
    ):
        yield Row(name=f"the target {target.decode()}", pieces=(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n",))
    for name, target in {
        "a fragment": b"/a#b",
        "an authority": b"h:443",
        "an asterisk": b"*",
        "a relative path": b"a/b",
        "another scheme": b"ftp://h/a",
        "no authority": b"http:///a",
        "a target in UTF-8": b"/\xc3\xa4",
        "a target with NUL": b"/\0",
        "a target with a tab": b"/a\tb",
    }.items():
        yield rejected(name, b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")


def connections() -> Iterator[Row]:
    """Which requests keep their connection, and what HTTP/1.0 and HEAD get."""
    for name, line, keeps in (
        ("no Connection header", b"", True),
        ("keep-alive", b"Connection: keep-alive\r\n", True),
        ("close", b"Connection: close\r\n", False),
        ("close in odd case", b"Connection: CLOSE\r\n", False),
        ("close in a list", b"Connection: x, close\r\n", False),
        ("close in a second field", b"Connection: x\r\nConnection: close\r\n", False),
        ("a word with close in it", b"Connection: closed\r\n", True),
    ):
        yield Row(name=name, pieces=(GET + line + b"\r\n",), keeps=keeps)
    old = b"GET /a HTTP/1.0\r\n" + HOST
    yield Row(name="HTTP/1.0", pieces=(old + b"\r\n",), keeps=False)
    yield Row(name="HTTP/1.0 with keep-alive", pieces=(old + b"Connection: keep-alive\r\n\r\n",), keeps=False)
    yield Row(
        name="HTTP/1.0 and a response of unknown length",
        pieces=(b"GET /unknown-length HTTP/1.0\r\n" + HOST + b"\r\n",),
        keeps=False,
    )
    yield Row(name="a GET with a body", pieces=(GET + LENGTH_2 + b"\r\nok",), bodies=(b"ok",))
    yield Row(name="two requests in one packet", pieces=((GET + b"\r\n") * 2,), bodies=(b"", b""))
    yield Row(
        name="two posts in one packet",
        pieces=(POST + LENGTH_2 + b"\r\nok" + POST + LENGTH_2 + b"\r\nno",),
        bodies=(b"ok", b"no"),
    )
    yield Row(name="a body in later packets", pieces=(POST + LENGTH_2 + b"\r\n", b"o", b"k"), bodies=(b"ok",))
    yield Row(name="another expectation", pieces=(POST + b"Expect: x\r\n" + LENGTH_2 + b"\r\nok",), bodies=(b"ok",))
    yield Row(name="a client that half-closes", pieces=(GET + b"\r\n",), half_closes=True, keeps=False)
    yield Row(
        name="a client that half-closes after a body",
        pieces=(POST + LENGTH_2 + b"\r\nok",),
        bodies=(b"ok",),
        half_closes=True,
        keeps=False,
    )
    yield Row(
        name="a client that half-closes after two requests",
        pieces=((GET + b"\r\n") * 2,),
        bodies=(b"", b""),
        half_closes=True,
        keeps=False,
    )


ROWS: list[Row] = [
    row
    for family in (
        upgrade_offers,
        lengths,
        transfer_encodings,
        chunks,
        trailers,
        limits,
        hosts,
        versions,
        lines,
        targets,
        connections,
    )
    for row in family()
]
