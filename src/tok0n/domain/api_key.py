"""What an API key looks like. The checksum rejects junk without a look at the database; the digest finds the rest.

`tk0n_`, then 256 bits as 43 base62 digits, then the CRC-32 of those digits as 6 more.
"""

import hashlib
import zlib

from tok0n.domain.errors import InvalidApiKey

PREFIX = "tk0n_"
RANDOM_BYTES = 32

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_DIGITS = 43
_CHECKSUM_DIGITS = 6
_LENGTH = len(PREFIX) + _SECRET_DIGITS + _CHECKSUM_DIGITS
_SHOWN_DIGITS = 4


def make_api_key(random_bytes: bytes) -> str:
    """The key that 32 bytes of chance make."""
    assert len(random_bytes) == RANDOM_BYTES
    secret = _base62(int.from_bytes(random_bytes), _SECRET_DIGITS)
    return PREFIX + secret + _checksum(secret)


def is_well_formed(key: str) -> bool:
    """Whether `key` can be a key: its form and its checksum."""
    if len(key) != _LENGTH or not key.startswith(PREFIX):
        return False
    secret = key[len(PREFIX) : -_CHECKSUM_DIGITS]
    return secret.isascii() and secret.isalnum() and _checksum(secret) == key[-_CHECKSUM_DIGITS:]


def digest(key: str) -> bytes:
    """What is stored of a key, and what it is looked up by."""
    return hashlib.sha256(key.encode()).digest()


def shown_prefix(key: str) -> str:
    """The beginning of a key, for display."""
    return key[: len(PREFIX) + _SHOWN_DIGITS]


def last_four(key: str) -> str:
    """The end of a key, for display."""
    return key[-4:]


def key_from_authorization(header: bytes | None) -> str:
    """The key in an Authorization header (RFC 6750, section 2.1). Raises `InvalidApiKey`; never repeats the header."""
    if header is None:
        raise InvalidApiKey("You didn't provide an API key. Send it in the header Authorization: Bearer YOUR_KEY.")
    scheme, _, rest = header.partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidApiKey("The Authorization header must be: Bearer YOUR_KEY.")
    key = rest.strip().decode("latin-1")
    if not is_well_formed(key):
        raise InvalidApiKey(
            f"This is not a Tok0n API key. Keys begin with {PREFIX} and have {_LENGTH} characters; was it cut?"
        )
    return key


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode()), _CHECKSUM_DIGITS)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = _ALPHABET[digit] + text
    assert number == 0
    return text
