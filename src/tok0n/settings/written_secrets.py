"""Find secrets that are written in the settings file: passwords in URLs, credentials in header fields.

Only `tok0n config check` refuses them. A server starts with them, as the documented examples of a URL have a password.
"""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

from tok0n.settings.convert import Entry, where_of
from tok0n.settings.faults import Fault
from tok0n.settings.secret import Headers

_URLS = ("url", "backend", "proxy_url", "base_url", "public_url")
_PASSWORD_PARAMETERS = frozenset({"password", "sslpassword", "passwd", "pwd"})
_CREDENTIALS = re.compile(r"auth|cookie|key|password|secret|token|credential|signature", re.IGNORECASE)
_ADVICE = "Put it into the environment or a file, and write "


def written_secrets(entries: list[Entry]) -> Iterator[Fault]:
    """Name each setting that holds a secret itself. No secret is repeated."""
    for entry in entries:
        for key in _URLS:
            value = entry.values.get(key)
            if isinstance(value, str) and _has_password(value):
                yield Fault(
                    where=f"{entry.where}.{key}",
                    message=f"holds a password. {_ADVICE}env:NAME or file:PATH in place of the whole URL.",
                )
        headers = entry.values.get("headers")
        if isinstance(headers, Headers):
            for name in headers.literals:
                if _CREDENTIALS.search(name):
                    yield Fault(
                        where=f"{entry.where}.headers",
                        message=f"{where_of('', name).lstrip('.')} holds a secret. {_ADVICE}env:NAME or file:PATH.",
                    )


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return "@" in url
    return bool(password and unquote(password)) or any(
        name.lower() in _PASSWORD_PARAMETERS for name, _ in parse_qsl(parts.query)
    )
