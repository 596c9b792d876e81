"""Raw requests whose body is framed in every right and wrong way."""

from collections.abc import Iterator

from support.conformance import CHUNKED, GET, HOST, LENGTH_2, POST, SMUGGLED, Row, apart, rejected

HEAD_BYTES_MAX = 65_536

HEADER_LINES_MAX = 128


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


BODY_ROWS = [row for family in (lengths, transfer_encodings, chunks, trailers, limits) for row in family()]
