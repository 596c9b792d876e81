"""Which requests count as sent by a page of ours, by their headers alone."""

import pytest
from starlette.requests import Request

from tok0n.web.rendering.cross_site import is_same_origin

URL = "https://example.com"


@pytest.mark.parametrize(
    ("headers", "public_url", "outcome"),
    [
        ({"sec-fetch-site": "same-origin"}, URL, "accepted"),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}, URL, "accepted"),
        ({"sec-fetch-site": "same-site"}, URL, "rejected"),
        ({"sec-fetch-site": "cross-site"}, URL, "rejected"),
        ({"sec-fetch-site": "none"}, URL, "rejected"),
        ({"sec-fetch-site": ""}, URL, "rejected"),
        ({"sec-fetch-site": "cross-site", "origin": URL}, URL, "rejected"),
        ({}, URL, "rejected"),
        ({"origin": "null"}, URL, "rejected"),
        ({"origin": ""}, URL, "rejected"),
        ({"origin": "https://[::1"}, URL, "rejected"),
        ({"origin": "https://example.com:x"}, URL, "rejected"),
        ({"origin": "https://example.com"}, URL, "accepted"),
        ({"origin": "https://EXAMPLE.com:443"}, URL, "accepted"),
        ({"origin": "https://example.com"}, "https://example.com:443/tok0n", "accepted"),
        ({"origin": "https://example.com:8443"}, URL, "rejected"),
        ({"origin": "http://example.com"}, URL, "rejected"),
        ({"origin": "https://example.com.evil.example"}, URL, "rejected"),
        ({"origin": "http://10.0.0.7:8000", "host": "10.0.0.7:8000"}, URL, "accepted"),
        ({"origin": "http://10.0.0.7", "host": "10.0.0.7:80"}, URL, "accepted"),
        ({"origin": "http://10.0.0.7:8001", "host": "10.0.0.7:8000"}, URL, "rejected"),
        ({"origin": "http://[::1]:8000", "host": "[::1]:8000"}, URL, "accepted"),
        ({"origin": "https://other.example", "host": "other.example"}, URL, "accepted"),
        ({"origin": "https://other.example", "host": "backend:8000"}, URL, "rejected"),
    ],
)
def test_a_request_is_accepted_from_our_own_origin_only(headers: dict[str, str], public_url: str, outcome: str) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "headers": raw})
    assert is_same_origin(request, public_url) is (outcome == "accepted")
