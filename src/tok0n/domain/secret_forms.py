"""List the forms in which an upstream may repeat the operator's credentials, so that `scrub` can remove them.

Covers the configured values and forms that servers derive from them: credentials without their scheme, user and
password of Basic credentials and of URLs, and percent-encoded and base64-encoded copies. Lists too many if unsure.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote, urlsplit

PART_CHARACTERS_MIN = 3
"""Shorter parts are ignored: they are not secrets, and redacting them would make every message unreadable."""

SECRET_WORD_CHARACTERS_MIN = 12
"""In headers that usually hold no credentials, a part counts as a secret only if it is this long or has a digit."""

_CREDENTIALS = re.compile(r"(?i)auth|key|token|secret|cookie|pass|credential|signature")
_SCHEMES = frozenset({"apikey", "api-key", "basic", "bearer", "digest", "key", "token"})
_SEPARATORS = re.compile(r"[\s,;&]+")
_DIGIT = re.compile(r"\d")


def secret_forms(*, api_key: str | None, headers: Mapping[str, str], urls: Iterable[str]) -> list[str]:
    """Return every string that must not reach a customer. `urls` may contain users and passwords."""
    forms: dict[str, None] = {}
    if api_key:
        _add(forms, [api_key, *_parts(api_key)])
    for name, value in headers.items():
        parts = _parts(value)
        if not _CREDENTIALS.search(name) and value.partition(" ")[0].lower() not in _SCHEMES:
            parts = filter(_may_be_secret, parts)
        _add(forms, [value, *parts])
    for url in urls:
        _add(forms, _url_parts(url))
    return list(forms)


def _add(forms: dict[str, None], secrets: Iterable[str]) -> None:
    for secret in secrets:
        forms.update(dict.fromkeys(_encoded(secret)))


def _parts(value: str) -> Iterator[str]:
    """Yield a credential without its scheme, and each of its parts."""
    scheme, _, credentials = value.strip().partition(" ")
    credentials = credentials.strip()
    if credentials:
        yield credentials
        if scheme.lower() == "basic":
            yield from _basic_parts(credentials)
    for item in _SEPARATORS.split(value):
        for part in (item, item.partition("=")[2].strip("\"'")):
            if len(part) >= PART_CHARACTERS_MIN and part.lower() not in _SCHEMES:
                yield part


def _basic_parts(value: str) -> Iterator[str]:
    try:
        credentials = base64.b64decode(value, validate=True).decode()
    except ValueError:
        return
    user, _, password = credentials.partition(":")
    yield from (part for part in (credentials, user, password) if len(part) >= PART_CHARACTERS_MIN)


def _url_parts(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    yield from (url, parts.netloc, parts.hostname or "")
    for part in (parts.username, parts.password):
        if part and len(part) >= PART_CHARACTERS_MIN:
            yield from (part, unquote(part))


def _may_be_secret(part: str) -> bool:
    return len(part) >= SECRET_WORD_CHARACTERS_MIN or _DIGIT.search(part) is not None


def _encoded(secret: str) -> Iterator[str]:
    if not secret:
        return
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    if len(secret) >= PART_CHARACTERS_MIN:
        data = secret.encode()
        yield base64.b64encode(data).decode().rstrip("=")
        yield base64.urlsafe_b64encode(data).decode().rstrip("=")
