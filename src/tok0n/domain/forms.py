"""Detect repeated form submissions, and encrypt the secret that a submission creates, so a repetition can show it.

A form carries a random `form_id`. The database stores its digest, which identifies a repetition, and possibly a secret
encrypted with keys derived from `form_id`. Digest and keys are derived in different domains, so the digest in the
database reveals neither the keys nor the secret.
"""

import hashlib
import hmac
import re

import msgspec

FORM_ID_BYTES = 16
"""Random bytes in a `form_id`: 128 bits, 22 characters of base64url."""

NONCE_BYTES = 16
SEALED_US = 600_000_000
"""A repetition can show the secret again for 10 minutes."""

KEPT_US = 86_400_000_000
"""The database keeps a submission for 24 hours."""

_FORM_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_BLOCK_BYTES = 32
_DIGEST_DOMAIN = b"tok0n form_id digest v1:"
_KEY_DOMAIN = b"tok0n form_id seal v1:"


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A submission of a form. A repeated submission is equal to it. `form` is the form's name, such as "api_key"."""

    account_id: str
    form: str
    form_id: str

    @property
    def digest(self) -> bytes:
        """The digest that identifies the submission in the database."""
        return hashlib.sha256(_DIGEST_DOMAIN + self.form_id.encode()).digest()

    def seal(self, text: str, *, nonce: bytes) -> bytes:
        """Encrypt and authenticate `text`. Only `unseal` of an equal submission can decrypt it.

        `nonce` is `NONCE_BYTES` fresh random bytes. The standard library has no AEAD cipher, so this encrypts with
        HMAC-SHA256 blocks in counter mode, then MACs, with both keys from HKDF-SHA256 (RFC 5869).
        """
        assert len(nonce) == NONCE_BYTES
        cipher_key, mac_key = self._keys(nonce)
        encrypted = _xor(text.encode(), cipher_key)
        return nonce + encrypted + hmac.digest(mac_key, encrypted, "sha256")

    def unseal(self, sealed: bytes) -> str | None:
        """Decrypt a sealed text. None if another submission sealed it."""
        nonce, encrypted = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:-_BLOCK_BYTES]
        cipher_key, mac_key = self._keys(nonce)
        if not hmac.compare_digest(hmac.digest(mac_key, encrypted, "sha256"), sealed[-_BLOCK_BYTES:]):
            return None
        return _xor(encrypted, cipher_key).decode()

    def _keys(self, nonce: bytes) -> tuple[bytes, bytes]:
        """Derive a cipher key and a MAC key with HKDF: `form_id` is the input, and the nonce is the salt."""
        extracted = hmac.digest(nonce, self.form_id.encode(), "sha256")
        info = _KEY_DOMAIN + f"{self.account_id}:{self.form}".encode()
        first = hmac.digest(extracted, info + b"\x01", "sha256")
        return first, hmac.digest(extracted, first + info + b"\x02", "sha256")


def is_form_id(text: str) -> bool:
    """Whether `text` has the format of a form id."""
    return _FORM_ID.fullmatch(text) is not None


def _xor(data: bytes, key: bytes) -> bytes:
    blocks = range(-(-len(data) // _BLOCK_BYTES))
    stream = b"".join(hmac.digest(key, number.to_bytes(8, "big"), "sha256") for number in blocks)[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
