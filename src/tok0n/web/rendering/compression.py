"""gzip for pages and assets. Never for /v1, and never for a page that holds a secret.

An attacker who can add text to a page and see its compressed length can guess a secret on the same page (BREACH).
`PageRequest.finish` therefore compresses only public pages: no session, and no response to a form.
"""

import gzip
import re

COMPRESSED_BYTES_MIN = 1024
"""A smaller page fits one packet, so gzip would save nothing."""

LEVEL = 6
ASSET_LEVEL = 9

_WEIGHT_ZERO = re.compile(r"q=0(\.0{0,3})?")


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110, section 12.5.3)."""
    allowed: dict[str, bool] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        allowed[coding.strip()] = _WEIGHT_ZERO.fullmatch("".join(weight.split())) is None
    return allowed.get("gzip", allowed.get("*", False))


def compress(body: bytes, *, level: int = LEVEL) -> bytes:
    """Compress a body. The same body always gives the same bytes."""
    return gzip.compress(body, level, mtime=0)
