"""The table of raw requests: each row has the one right outcome that RFC 9110 or RFC 9112 gives it."""

from collections.abc import Iterator

from conformance.request_body_rows import BODY_ROWS
from support.conformance import CHUNKED, GET, HOST, LENGTH_2, POST, SMUGGLED, Row, apart, rejected


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
    *BODY_ROWS,
    *(row for family in (upgrade_offers, hosts, versions, lines, targets, connections) for row in family()),
]
