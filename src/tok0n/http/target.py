"""Request targets (RFC 9112, section 3.2)."""

import urllib.parse


def path_and_query(target: bytes) -> tuple[bytes, bytes] | None:
    """Return path and query of a target in origin or absolute form, or None for any other form."""
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in {b"http", b"https"} or not rest or rest.startswith((b"/", b"?")):
            return None
        authority, slash, path = rest.partition(b"/")
        if b"?" in authority:
            return b"/", authority.partition(b"?")[2] + slash + path
        target = slash + path or b"/"
    if b"#" in target:
        return None
    path, _, query = target.partition(b"?")
    return path, query


def decode_path(raw_path: bytes) -> str:
    """Decode the percent-encoding of a path as UTF-8."""
    path = raw_path.decode("ascii")
    return urllib.parse.unquote(path) if "%" in path else path
