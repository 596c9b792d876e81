"""Who counts as one client for the server's own bounds, from the socket's address and raw headers."""

import pytest

from tok0n.bootstrap.app import client_key_of
from tok0n.domain.client_ip import ClientAddresses
from tok0n.http.message import Headers
from tok0n.http.request import Address

FORWARDED = b"x-forwarded-for"


@pytest.mark.parametrize(
    ("address", "headers", "key"),
    [
        (None, [], ""),
        (("127.0.0.1", 1), [], "127.0.0.1"),
        (("127.0.0.1", 1), [(b"host", b"x")], "127.0.0.1"),
        (("127.0.0.1", 1), [(FORWARDED, b"198.51.100.1"), (FORWARDED, b"203.0.113.7:4711")], "203.0.113.7"),
        (("127.0.0.1", 1), [(FORWARDED, b"[2001:db8::7]:443")], "2001:db8::/64"),
        (("127.0.0.1", 1), [(FORWARDED, b"\xff\xfe")], "127.0.0.1"),
        (("203.0.113.7", 1), [(FORWARDED, b"198.51.100.1")], "203.0.113.7"),
        (("2001:db8::7", 1), [(FORWARDED, b"198.51.100.1")], "2001:db8::/64"),
    ],
)
def test_the_servers_bounds_count_the_same_clients_as_the_pages(address: Address, headers: Headers, key: str) -> None:
    assert client_key_of(ClientAddresses(["127.0.0.1"]))(address, headers) == key
