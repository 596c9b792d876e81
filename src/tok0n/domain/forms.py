"""Recognize a form that is submitted twice, and show a secret to whoever submitted it, without storing either in clear.

A form carries a random `form_id`. The database stores its digest, by which a repetition is found, and possibly a secret
sealed with it. The digest and the keys are derived from `form_id` in different domains, so a reader of the database,
who has the digest, can compute neither the keys nor the secret.
"""

import hashlib
import hmac
import re

import msgspec

FORM_ID_BYTES = 16
"""Random bytes in a `form_id`: 128 bits, 22 characters of base64url."""

NONCE_BYTES = 16
SEALED_US = 600_000_000
"""How long a repetition shows the secret again: 10 minutes."""

KEPT_US = 86_400_000_000
"""How long a submission is remembered: 24 hours."""

_FORM_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_BLOCK_BYTES = 32
_DIGEST_DOMAIN = b"tok0n form_id digest v1:"
_KEY_DOMAIN = b"tok0n form_id seal v1:"


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One submission of a form: a second one is equal to it. `form` is the form's name, such as "api_key"."""

    account_id: str
    form: str
    form_id: str

    @property
    def digest(self) -> bytes:
        """What the database finds it by."""
        return hashlib.sha256(_DIGEST_DOMAIN + self.form_id.encode()).digest()

    def seal(self, text: str, *, nonce: bytes) -> bytes:
        """Encrypt and authenticate `text`; only `unseal` of an equal submission reads it.

        `nonce` is `NONCE_BYTES` of fresh randomness. The cipher is a stream of HMAC-SHA256 blocks in counter mode,
        encrypt-then-MAC, with both keys from HKDF-SHA256 (RFC 5869): the standard library has no AEAD cipher.
        """
        assert len(nonce) == NONCE_BYTES
        cipher_key, mac_key = self._keys(nonce)
        encrypted = _xor(text.encode(), cipher_key)
        return nonce + encrypted + hmac.digest(mac_key, encrypted, "sha256")

    def unseal(self, sealed: bytes) -> str | None:
        """The text, or None if this is not the submission that sealed it."""
        nonce, encrypted = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:-_BLOCK_BYTES]
        cipher_key, mac_key = self._keys(nonce)
        if not hmac.compare_digest(hmac.digest(mac_key, encrypted, "sha256"), sealed[-_BLOCK_BYTES:]):
            return None
        return _xor(encrypted, cipher_key).decode()

    def _keys(self, nonce: bytes) -> tuple[bytes, bytes]:
        """HKDF: extract from the form_id with the nonce as salt, then expand to a cipher key and a MAC key."""
        extracted = hmac.digest(nonce, self.form_id.encode(), "sha256")
        info = _KEY_DOMAIN + f"{self.account_id}:{self.form}".encode()
        first = hmac.digest(extracted, info + b"\x01", "sha256")
        return first, hmac.digest(extracted, first + info + b"\x02", "sha256")


def is_form_id(text: str) -> bool:
    """Whether a text has the shape of our form ids."""
    return _FORM_ID.fullmatch(text) is not None


def _xor(data: bytes, key: bytes) -> bytes:
    blocks = range(-(-len(data) // _BLOCK_BYTES))
    stream = b"".join(hmac.digest(key, number.to_bytes(8, "big"), "sha256") for number in blocks)[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
