"""Decode a compressed response incrementally, so that the limit of decoded bytes holds at any time.

Sources: RFC 9110, section 8.4 (content codings); RFC 1950, 1951 and 1952 (zlib, deflate, gzip).
"""

import zlib

GZIP_MEMBERS_MAX = 64
"""The most members of a gzip stream (RFC 1952, section 2.2). Servers send one, and each needs a new decoder."""

_GZIP, _DEFLATE = "gzip", "deflate"
_CODINGS = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _DEFLATE}
_NO_CODING = frozenset({b"", b"identity"})
_WINDOW_BITS_GZIP, _WINDOW_BITS_ZLIB, _WINDOW_BITS_RAW = 31, 15, -15
_ZLIB_HEADER_BYTES = 2
_ZLIB_METHOD_DEFLATE = 8


class UndecodableBody(Exception):
    """The body has an unknown coding, or is truncated or corrupt. The message is for the operator."""


class DecodedBodyTooLarge(Exception):
    """The decoded body exceeds its limit."""


def decoder_for(content_encoding: bytes, *, bytes_max: int, in_pieces: bool = False) -> "BodyDecoder | None":
    """Return a decoder for the value of `content-encoding`, or None for an uncompressed body.

    `content_encoding` is a list in any letter case (`gzip, identity`). Join several field lines with commas. With
    `in_pieces`, `bytes_max` limits each piece instead of the whole body. Raises `UndecodableBody` for an unknown
    coding, or for more than one.
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
    return BodyDecoder(coding, bytes_max=bytes_max, in_pieces=in_pieces)


class BodyDecoder:
    """Decodes one body: at most `bytes_max + 1` bytes in all, or with `in_pieces` in each call of `decode`."""

    def __init__(self, coding: str, *, bytes_max: int, in_pieces: bool = False) -> None:
        self._is_gzip = coding == _GZIP
        self._bytes_max = bytes_max
        self._in_pieces = in_pieces
        self._bytes_left = bytes_max
        self._members = 1
        self._has_started = False
        self._start = b""
        self._stream = zlib.decompressobj(_WINDOW_BITS_GZIP) if self._is_gzip else None

    def decode(self, data: bytes) -> bytes:
        """Decode the next piece of the body. Raises `DecodedBodyTooLarge` or `UndecodableBody`."""
        self._has_started = True
        if self._in_pieces:
            self._bytes_left = self._bytes_max
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
        """Raise `UndecodableBody` if the body is truncated. An empty body is valid."""
        if self._has_started and (self._stream is None or not self._stream.eof):
            raise UndecodableBody("the compressed body is truncated")

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
    """Whether a deflate body has a zlib header (RFC 1950, section 2.2). Some servers omit it (RFC 9110, 8.4.1.2)."""
    return start[0] & 0x0F == _ZLIB_METHOD_DEFLATE and int.from_bytes(start[:_ZLIB_HEADER_BYTES]) % 31 == 0
