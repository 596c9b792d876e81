"""Upstreams that frame an answer, or write its head, in every right and wrong way."""

from conformance.upstream_messages import BODY, CLOSED, GZIP, INVALID, LATE, Row, chunk, chunked, head, sized


def padded(*, head_bytes: int) -> bytes:
    """An answer whose head has exactly so many bytes."""
    line = "x: "
    missing = head_bytes - (len(sized(BODY, line)) - len(BODY))
    return sized(BODY, line + "y" * missing)


def lines(count: int) -> list[str]:
    return [f"x{number}: y" for number in range(count)]


def trailers(*, bytes_in_total: int) -> bytes:
    """A chunked answer whose head and trailers have so many bytes."""
    counted = len(head("transfer-encoding: chunked")) + len(b"x: \r\n")
    return chunked(chunk() + b"0\r\nx: " + b"y" * (bytes_in_total - counted) + b"\r\n\r\n")


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
