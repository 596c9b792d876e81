"""Decode a compressed answer piece by piece, so that a bound on the decoded bytes holds at every moment.

Sources: RFC 9110, section 8.4 (content codings); RFC 1950, 1951 and 1952 (zlib, deflate, gzip).
"""

import zlib

GZIP_MEMBERS_MAX = 64
"""A gzip stream may have many members (RFC 1952, section 2.2). Servers send one, and each costs a new decoder."""

_GZIP, _DEFLATE = "gzip", "deflate"
_CODINGS = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _DEFLATE}
_NO_CODING = frozenset({b"", b"identity"})
_WINDOW_BITS_GZIP, _WINDOW_BITS_ZLIB, _WINDOW_BITS_RAW = 31, 15, -15
_ZLIB_HEADER_BYTES = 2
_ZLIB_METHOD_DEFLATE = 8


class UndecodableBody(Exception):
    """The body is compressed in an unknown way, cut, or corrupt. The message is for the operator."""


class DecodedBodyTooLarge(Exception):
    """The decoded body exceeds its limit."""


def decoder_for(content_encoding: bytes, *, bytes_max: int) -> "BodyDecoder | None":
    """A decoder for the value of `content-encoding`, or None for a body that is not compressed.

    `content_encoding` is a list in any letter case (`gzip, identity`); several field lines are joined with commas.
    Raises `UndecodableBody` for an unknown coding, and for a body that is compressed more than once.
    """
    names = [name.strip().lower() for name in content_encoding.split(b",")]
    codings = [name for name in names if name not in _NO_CODING]
    if not codings:
        return None
    if len(codings) > 1:
        raise UndecodableBody("compressed more than once")
    coding = _CODINGS.get(codings[0])
    if coding is None:
        raise UndecodableBody("compressed with a coding other than gzip and deflate")
    return BodyDecoder(coding, bytes_max=bytes_max)


class BodyDecoder:
    """Decodes one body. It never holds more than `bytes_max` decoded bytes, and one byte more, at once."""

    def __init__(self, coding: str, *, bytes_max: int) -> None:
        self._is_gzip = coding == _GZIP
        self._bytes_left = bytes_max
        self._members = 1
        self._has_started = False
        self._start = b""
        self._stream = zlib.decompressobj(_WINDOW_BITS_GZIP) if self._is_gzip else None

    def decode(self, data: bytes) -> bytes:
        """The decoded bytes of the next piece. Raises `DecodedBodyTooLarge` or `UndecodableBody`."""
        self._has_started = True
        if self._stream is None:
            self._start += data
            if len(self._start) < _ZLIB_HEADER_BYTES:
                return b""
            data = self._start
            self._stream = zlib.decompressobj(_WINDOW_BITS_ZLIB if _has_zlib_header(data) else _WINDOW_BITS_RAW)
        decoded = self._decode(self._stream, data)
        stream = self._stream
        while stream.eof and stream.unused_data:
            if not self._is_gzip:
                raise UndecodableBody("bytes follow the compressed body")
            self._members += 1
            if self._members > GZIP_MEMBERS_MAX:
                raise UndecodableBody(f"more than {GZIP_MEMBERS_MAX} gzip members")
            data, stream = stream.unused_data, zlib.decompressobj(_WINDOW_BITS_GZIP)
            self._stream = stream
            decoded += self._decode(stream, data)
        return decoded

    def finish(self) -> None:
        """Check that the body was whole. Raises `UndecodableBody`. An empty body counts as whole."""
        if self._has_started and (self._stream is None or not self._stream.eof):
            raise UndecodableBody("the compressed body is cut")

    def _decode(self, stream: "zlib._Decompress", data: bytes) -> bytes:
        try:
            decoded = stream.decompress(data, self._bytes_left + 1)
        except zlib.error as error:
            raise UndecodableBody(f"the compressed body is corrupt: {error}") from error
        self._bytes_left -= len(decoded)
        if self._bytes_left < 0:
            raise DecodedBodyTooLarge
        return decoded


def _has_zlib_header(start: bytes) -> bool:
    """Whether a deflate body has a zlib header (RFC 1950, section 2.2). Some servers send none (RFC 9110, 8.4.1.2)."""
    return start[0] & 0x0F == _ZLIB_METHOD_DEFLATE and int.from_bytes(start[:_ZLIB_HEADER_BYTES]) % 31 == 0
