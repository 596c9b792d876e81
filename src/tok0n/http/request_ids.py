"""The request id that a client can send. The server logs it and returns it beside its own id."""

import re
from collections.abc import Mapping

from tok0n.http.message import Headers

REQUEST_ID = b"x-request-id"
CLIENT_REQUEST_ID = b"x-client-request-id"

_IDS = re.compile(rb"[!-~]{1,128}")
_NAMES = (CLIENT_REQUEST_ID, REQUEST_ID)
"""In order of preference."""


def id_headers(request_id: str, client_id: str | None) -> Headers:
    """Return the headers of a response that name its request: our id, and the client's if it sent one."""
    return [(REQUEST_ID, request_id.encode()), *client_id_headers(client_id)]


def client_id_headers(client_id: str | None) -> Headers:
    """Return the header that returns the client's id, if it sent one."""
    return [] if client_id is None else [(CLIENT_REQUEST_ID, client_id.encode())]


def client_request_id(headers_by_name: Mapping[bytes, bytes]) -> str | None:
    """Return the client's id, which is 1 to 128 visible ASCII characters. Ignores an invalid one."""
    if CLIENT_REQUEST_ID not in headers_by_name and REQUEST_ID not in headers_by_name:
        return None
    for name in _NAMES:
        value = headers_by_name.get(name)
        if value is not None and _IDS.fullmatch(value):
            return value.decode("ascii")
    return None
