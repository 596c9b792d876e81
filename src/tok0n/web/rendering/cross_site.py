"""Reject cross-site requests (CSRF) by their headers alone. Forms carry no token.

Sources: Fetch Metadata Request Headers (W3C), and the Fetch Standard for `Origin`. All current browsers send
`Sec-Fetch-Site` over https and to localhost. Over plain http to another host they send only `Origin`.
"""

from urllib.parse import urlsplit

from starlette.requests import Request

_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_same_origin(request: Request, public_url: str) -> bool:
    """Whether one of our pages sent this request.

    `Sec-Fetch-Site` decides if the browser sent it. Otherwise the host and port of `Origin` must be those of the `Host`
    header or of `public_url`.
    """
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    origin = request.headers.get("origin", "")
    sender = _host_and_port(origin)
    if sender is None:
        return False
    scheme = origin.partition("://")[0]
    return sender in {_host_and_port(public_url), _host_and_port(f"{scheme}://{request.headers.get('host', '')}")}


def _host_and_port(url: str) -> tuple[str, int] | None:
    """Return the host in lower case and the port, the scheme's default port included. None if it is not a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return None if not parts.hostname or port is None else (parts.hostname, port)
