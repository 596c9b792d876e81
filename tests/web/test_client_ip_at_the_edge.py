"""Who counts as one client for the server's own bounds, from the socket's address and raw headers."""

import pytest

from tok0n.bootstrap.app import client_key_of, find_client_ip
from tok0n.domain.client_ip import ClientAddresses, is_in
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


@pytest.mark.parametrize(
    ("address", "headers", "client_ip"),
    [
        (None, [], ""),
        (("127.0.0.1", 1), [(FORWARDED, b"198.51.100.1"), (FORWARDED, b"203.0.113.7:4711")], "203.0.113.7"),
        (("127.0.0.1", 1), [(FORWARDED, b"[2001:db8::7]:443")], "2001:db8::7"),
        (("203.0.113.7", 1), [(FORWARDED, b"198.51.100.1")], "203.0.113.7"),
        (("::ffff:203.0.113.7", 1), [], "203.0.113.7"),
    ],
)
def test_the_networks_of_keys_are_compared_with_the_whole_client_ip(
    address: Address, headers: Headers, client_ip: str
) -> None:
    assert find_client_ip(ClientAddresses(["127.0.0.1"]), address, headers) == client_ip


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        ("203.0.113.7", ["203.0.113.0/24"], True),
        ("203.0.113.7", ["203.0.113.8/32", "203.0.113.7/32"], True),
        ("203.0.114.7", ["203.0.113.0/24"], False),
        ("::ffff:203.0.113.7", ["203.0.113.0/24"], True),
        ("2001:db8::7", ["2001:db8::/48"], True),
        ("2001:db8::7", ["203.0.113.0/24"], False),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("unix:", ["0.0.0.0/0"], False),
        ("203.0.113.7", [], False),
    ],
)
def test_an_address_is_in_a_network_or_not_and_what_is_no_address_is_in_none(
    address: str, networks: list[str], *, expected: bool
) -> None:
    assert is_in(address, networks) == expected
