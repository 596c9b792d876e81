"""Check single values of settings.

A rule gets a value of the right type. It returns an error message, or None if the value is valid. The message completes
a sentence that starts with the setting. It never contains a value that may have a password.
"""

import ipaddress
import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tok0n.domain import colors
from tok0n.domain.email import parse_email
from tok0n.domain.errors import OperatorError

SQLITE_PREFIX = "sqlite:///"
POSTGRES_SCHEMES = ("postgresql://", "postgres://")
MEMORY = "memory://"
REDIS_SCHEMES = ("redis://", "rediss://")

# fmt: off
OWN_SEGMENTS = frozenset({
    "assets", "dashboard", "docs", "favicon.ico", "healthz", "invitation", "llms.txt", "manage", "metrics", "models",
    "new-address", "new-password", "openapi.json", "readyz", "reset-password", "robots.txt", "second-factor", "set-up",
    "sign-in", "sign-out", "sign-up", "v1", "verify", "webhooks",
})
# fmt: on
"""The first segments of paths that Tok0n serves or reserves. The path of `public_url` must not start with one."""

_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_ID = re.compile(r"(?=.{1,128}\Z)[!-.0-~](?:[!-~]*[!-.0-~])?")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_PASSWORD_PARAMETERS = frozenset({"password", "sslpassword", "passwd", "pwd"})
_PERCENT_ENCODE = "Percent-encode special characters in the password."


def table_id(text: str) -> str | None:
    """Check an ID, which is used in URL paths and logs."""
    if _ID.fullmatch(text):
        return None
    return "an ID must have 1 to 128 printable ASCII characters, no spaces, and no slash at either end."


def title(text: str) -> str | None:
    """Check a name for pages, which is printed in one line."""
    if text.isprintable() and text.strip() == text:
        return None
    return "must be printable text on one line, without spaces at either end."


def color(text: str) -> str | None:
    """Check a color, or an empty text."""
    return None if not text or colors.is_color(text) else 'must be a color in the form "#rrggbb", such as "#0b6b53".'


def email_address(text: str) -> str | None:
    """Check an email address, or an empty text."""
    try:
        if text:
            parse_email(text)
    except OperatorError:
        return "must be an email address, such as support@example.com."
    return None


def web_page(text: str) -> str | None:
    """Check the URL of a web page, or an empty text."""
    parts = _split(text)
    if not text or (parts is not None and parts.scheme in {"http", "https"} and "@" not in parts.netloc):
        return None
    return "must be the URL of a page, such as https://example.com/terms."


def host(text: str) -> str | None:
    """Check a host without a port."""
    if _HOST.fullmatch(text):
        return None
    return "must be a host name or an IP address alone, such as 127.0.0.1. Set the port with the setting `port`."


def url(text: str) -> str | None:
    """Check an HTTP URL without credentials, query and fragment."""
    parts = _split(text)
    if parts is None or parts.scheme not in {"http", "https"}:
        return "must be http://HOST or https://HOST, optionally with a port and a path."
    if "@" in parts.netloc or "?" in text or "#" in text:
        return "must have no user, password, query or fragment."
    return None


def public_url(text: str) -> str | None:
    """Check the URL of this installation, whose path must not shadow a path that Tok0n serves."""
    if (reason := url(text)) is not None:
        return reason
    segments = urlsplit(text).path.removesuffix("/").split("/")[1:]
    if any(segment in {".", ".."} or not _SEGMENT.fullmatch(segment) for segment in segments):
        return (
            "may have a path of letters, digits and . _ ~ - between single slashes, such as https://example.com/tok0n."
        )
    if segments and segments[0] in OWN_SEGMENTS:
        return f"must not have a path that starts with /{segments[0]}: Tok0n uses it. Choose another, such as /tok0n."
    return None


def database_url(text: str) -> str | None:
    """Check the URL of an SQLite file or a PostgreSQL database."""
    if text.startswith(POSTGRES_SCHEMES):
        parts = _split(text)
        if parts is not None and parts.path.strip("/"):
            return None
        return f"must be postgresql://USER:PASSWORD@HOST/DATABASE. {_PERCENT_ENCODE}"
    path = text.removeprefix(SQLITE_PREFIX)
    if path == text or path.strip("/") in {"", ":memory:"} or any(sign in path for sign in "?#\0"):
        return (
            "must be sqlite:///FILE (relative to the settings file) or sqlite:////FOLDER/FILE, without parameters,"
            " or postgresql://USER:PASSWORD@HOST/DATABASE."
        )
    return None


def backend_url(text: str) -> str | None:
    """Check the URL of the limiter's backend."""
    if text == MEMORY or (text.startswith(REDIS_SCHEMES) and _split(text) is not None):
        return None
    return f"must be {MEMORY} or redis://USER:PASSWORD@HOST:PORT/NUMBER (rediss:// for TLS). {_PERCENT_ENCODE}"


def proxy_url(text: str) -> str | None:
    """Check the URL of an HTTP proxy."""
    parts = _split(text)
    if parts is not None and parts.scheme == "http" and parts.path in {"", "/"}:
        return None
    return "must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT."


def networks(texts: tuple[str, ...]) -> str | None:
    """Check a list of IP addresses and networks."""
    try:
        for text in texts:
            ipaddress.ip_network(text, strict=False)
    except ValueError:
        return 'must be IP addresses or networks: ["127.0.0.1", "10.0.0.0/8"].'
    return None


def origins(texts: tuple[str, ...]) -> str | None:
    """Check a list of origins."""
    if texts == ("*",) or all(_is_origin(text) for text in texts):
        return None
    if "*" in texts:
        return 'must be ["*"] alone, or a list of origins without "*".'
    return (
        'must be ["*"], or origins as browsers send them, such as ["https://app.example.com", "http://localhost:3000"]:'
        " in lower case, without default port, path and trailing slash."
    )


def price(text: str) -> str | None:
    """Check that a price, which matches the pattern, is above zero."""
    return None if text.strip("0.") else "must be above zero."


def has_password(text: str) -> bool:
    """Return whether a URL has a password in its user information or in a parameter."""
    try:
        parts = urlsplit(text)
        password = parts.password
    except ValueError:
        return "@" in text
    return bool(password and unquote(password)) or any(
        name.lower() in _PASSWORD_PARAMETERS for name, _ in parse_qsl(parts.query)
    )


def _split(text: str) -> SplitResult | None:
    """Return the parts of a URL in printable ASCII with a host and a valid port, or None for any other text."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    is_plain = text.isascii() and text.isprintable() and not re.search(r'[\s\\"<>]', text)
    return parts if parts.hostname and port != 0 and is_plain else None


def _is_origin(text: str) -> bool:
    """Return whether a browser sends this text as `Origin`: lower case, no default port, path or trailing slash."""
    parts = _split(text)
    if parts is None or (parts.scheme, parts.port) in {("http", 80), ("https", 443)} or re.search("[@*]", text):
        return False
    return text == f"{parts.scheme}://{parts.netloc}" == text.lower() and not text.endswith(":")
