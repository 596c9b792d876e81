"""The client's address behind trusted proxies, in every form that proxies write, and who counts as one client."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.client_ip import ClientAddresses, limit_key, parse_address

TRUSTED = ("127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8")
ADDRESSES = ClientAddresses(TRUSTED)
CLIENT = "203.0.113.7"
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # without a trusted peer the header counts for nothing
        (CLIENT, [], CLIENT),
        (CLIENT, ["198.51.100.1"], CLIENT),
        ("", ["198.51.100.1"], ""),
        # the right-most address that is not trusted
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"198.51.100.1, {CLIENT}"], CLIENT),
        (PROXY, [f"198.51.100.1, {CLIENT}, 10.2.3.4"], CLIENT),
        (PROXY, ["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        # over all field lines
        (PROXY, ["198.51.100.1", CLIENT], CLIENT),
        (PROXY, [f"198.51.100.1,{CLIENT}", "10.2.3.4"], CLIENT),
        (PROXY, [CLIENT, "10.2.3.4", "127.0.0.1"], CLIENT),
        # ports, brackets, zones and spaces
        (PROXY, ["203.0.113.7:4711"], CLIENT),
        (PROXY, ["[2001:db8::1]:443"], "2001:db8::1"),
        (PROXY, ["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, ["2001:DB8:0::1"], "2001:db8::1"),
        (PROXY, ["fe80::1%eth0"], "fe80::1"),
        (PROXY, ["[fe80::1%25eth0]:80"], "fe80::1"),
        (PROXY, [f" \t{CLIENT}\t "], CLIENT),
        (PROXY, [f"{CLIENT}, 10.2.3.4:80, [fd00::2]:443"], CLIENT),
        # empty items are none
        (PROXY, ["", f"{CLIENT},, ,"], CLIENT),
        (PROXY, ["", " , "], PROXY),
        # IPv4-mapped IPv6
        ("::ffff:10.0.0.1", [CLIENT], CLIENT),
        (PROXY, ["::ffff:203.0.113.7"], CLIENT),
        (PROXY, ["[::ffff:203.0.113.7]:443"], CLIENT),
        ("::ffff:203.0.113.7", [], CLIENT),
        # an item that is no address counts as the proxy that appended it
        (PROXY, ["198.51.100.1, unknown"], PROXY),
        (PROXY, ["198.51.100.1, _hidden"], PROXY),
        (PROXY, ["198.51.100.1, unknown, 10.2.3.4"], "10.2.3.4"),
        (PROXY, ["198.51.100.1, 203.0.113.7:port"], PROXY),
        (PROXY, ["198.51.100.1, 203.0.113.7:70000"], PROXY),
        (PROXY, ["198.51.100.1, [2001:db8::1"], PROXY),
        (PROXY, ["198.51.100.1, [203.0.113.7]"], PROXY),
        (PROXY, ["198.51.100.1, [2001:db8::1]443"], PROXY),
        (PROXY, ["198.51.100.1, 203.0.113.007"], PROXY),
        (PROXY, ["198.51.100.1, " + "1" * 100_000], PROXY),
        # an unparsable item to the left of the client's address changes nothing
        (PROXY, [f"unknown, {CLIENT}"], CLIENT),
    ],
)
def test_the_client_is_the_right_most_address_that_is_not_trusted(
    peer: str, forwarded: list[str], expected: str
) -> None:
    assert ADDRESSES.client(peer, forwarded) == expected


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (CLIENT, CLIENT),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", CLIENT),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_an_ipv6_64_counts_as_one_client(address: str, key: str) -> None:
    assert limit_key(address) == key


@pytest.mark.parametrize("network", ["::ffff:192.0.2.0/120", "192.0.2.0/24", "192.0.2.77/24"])
def test_a_trusted_network_may_be_written_in_any_form(network: str) -> None:
    addresses = ClientAddresses([network])
    assert addresses.is_trusted("192.0.2.1")
    assert addresses.is_trusted("::ffff:192.0.2.1")
    assert not addresses.is_trusted("192.0.3.1")
    assert not addresses.is_trusted("nonsense")


@given(peer=st.text(max_size=40), forwarded=st.lists(st.text(max_size=60), max_size=4))
def test_any_text_has_a_client_and_a_limit_key(peer: str, forwarded: list[str]) -> None:
    client = ADDRESSES.client(peer, forwarded)
    assert client == peer or parse_address(client) is not None
    assert isinstance(ADDRESSES.limit_key(peer, forwarded), str)


@given(
    client=st.ip_addresses().filter(lambda ip: not ADDRESSES.is_trusted(str(ip))),
    port=st.none() | st.integers(min_value=0, max_value=65_535),
    before=st.lists(st.text(max_size=40), max_size=3),
    proxies=st.lists(st.sampled_from(["127.0.0.1", "10.1.2.3", "[fd00::7]:1", "::1"]), max_size=3),
    separate_lines=st.booleans(),
)
def test_no_text_that_a_client_sends_changes_its_address(
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int | None,
    before: list[str],
    proxies: list[str],
    *,
    separate_lines: bool,
) -> None:
    written = f"[{client}]" if client.version == 6 and port is not None else str(client)
    items = [*before, written if port is None else f"{written}:{port}", *proxies]
    forwarded = items if separate_lines else [",".join(items)]
    expected = parse_address(str(client))
    assert ADDRESSES.client(PROXY, forwarded) == str(expected)
