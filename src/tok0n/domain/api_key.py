"""The format of API keys. The checksum rejects malformed keys without a database query.

A key is `tk0n_`, 43 base62 digits that encode 256 random bits, and 6 base62 digits that encode their CRC-32.
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
_DISPLAY_DIGITS = 4


def make_api_key(random_bytes: bytes) -> str:
    """Encode `RANDOM_BYTES` random bytes as an API key."""
    assert len(random_bytes) == RANDOM_BYTES
    secret = _base62(int.from_bytes(random_bytes), _SECRET_DIGITS)
    return PREFIX + secret + _checksum(secret)


def is_well_formed(key: str) -> bool:
    """Whether `key` has the format of an API key and a valid checksum."""
    if len(key) != _LENGTH or not key.startswith(PREFIX):
        return False
    secret = key[len(PREFIX) : -_CHECKSUM_DIGITS]
    return secret.isascii() and secret.isalnum() and _checksum(secret) == key[-_CHECKSUM_DIGITS:]


def digest(key: str) -> bytes:
    """Return the SHA-256 digest that the database stores and looks up instead of the key."""
    return hashlib.sha256(key.encode()).digest()


def shown_prefix(key: str) -> str:
    """Return the first characters of a key, for display."""
    return key[: len(PREFIX) + _DISPLAY_DIGITS]


def last_four(key: str) -> str:
    """Return the last four characters of a key, for display."""
    return key[-4:]


def key_from_authorization(header: bytes | None) -> str:
    """Return the key in an Authorization header (RFC 6750, section 2.1).

    Raises `InvalidApiKey`, whose message never contains the header.
    """
    if header is None:
        raise InvalidApiKey("You didn't provide an API key. Send it in the header Authorization: Bearer YOUR_KEY.")
    scheme, _, credentials = header.partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidApiKey("The Authorization header must have the form Authorization: Bearer YOUR_KEY.")
    key = credentials.strip().decode("latin-1")
    if not is_well_formed(key):
        raise InvalidApiKey(
            f"This is not a valid API key. API keys start with {PREFIX} and have {_LENGTH} characters."
            " Check that you copied the whole key."
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


def authorization_of(key: bytes, authorization: bytes | None) -> bytes:
    """Return the Authorization header for a key that a client sent in another header.

    Raises `InvalidApiKey` if the client sent a different key in its Authorization header too.
    """
    own = b"Bearer " + key
    if authorization is not None and key_from_authorization(authorization) != key_from_authorization(own):
        raise InvalidApiKey("The headers x-api-key and Authorization have different API keys. Send only one of them.")
    return own
