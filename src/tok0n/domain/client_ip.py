"""Find the client IP behind trusted proxies, and the key that limits count it by. Never raises on bad input.

A proxy appends the address of its peer to `X-Forwarded-For`, so only addresses that a trusted proxy appended are
reliable. The search runs from right to left and stops at the first untrusted address.
"""

import functools
import ipaddress
from collections.abc import Iterable, Sequence

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

ADDRESS_CHARACTERS_MAX = 128
"""Longer strings are not addresses and are neither parsed nor cached."""

PORT_DIGITS_MAX = 5
CACHED_ADDRESSES_MAX = 4_096
CLIENT_PREFIX_BITS = 64
"""Providers assign an IPv6 prefix of at most this length to one customer, who can use every address in it."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class ClientAddresses:
    """Finds client IPs behind the trusted proxies of these networks. Raises `ValueError` for an invalid network."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks = [_unwrap_network(ipaddress.ip_network(network, strict=False)) for network in trusted]
        self.is_trusted = functools.lru_cache(CACHED_ADDRESSES_MAX)(self._is_trusted)

    def _is_trusted(self, address: str) -> bool:
        """Whether `address` belongs to a trusted proxy."""
        ip = parse_address(address)
        return ip is not None and any(ip in network for network in self._networks)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the client IP.

        `peer` is the address of the socket's peer, and `forwarded` has the values of all `X-Forwarded-For` lines in
        order. If an item is not an address, the result is the address of the proxy that appended it.
        """
        peer_ip = parse_address(peer)
        address = peer if peer_ip is None else str(peer_ip)
        for line in reversed(forwarded):
            for item in reversed(line.split(",")):
                if not self.is_trusted(address):
                    return address
                if not item.strip(" \t"):
                    continue
                ip = parse_address(item)
                if ip is None:
                    return address
                address = str(ip)
        return address

    def limit_key(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the key by which limits count the client. See the function `limit_key`."""
        return limit_key(self.client(peer, forwarded))


def limit_key(address: str) -> str:
    """Return the key by which limits count an address. An IPv6 /64 is one client. An invalid address is its own key."""
    if ":" not in address:
        return address
    ip = parse_address(address)
    if ip is None:
        return address
    if ip.version == 4:
        return str(ip)
    return str(ipaddress.ip_network((int(ip), CLIENT_PREFIX_BITS), strict=False))


def network_of(address: str) -> str:
    """Return the /24 network of an IPv4 address or the /48 network of an IPv6 address. Empty if it is not an address.

    Pages and emails name the network, so that the database holds no client IP.
    """
    ip = parse_address(address)
    if ip is None:
        return ""
    return str(ipaddress.ip_network((int(ip), 24 if ip.version == 4 else 48), strict=False))


def is_in(address: str, networks: Iterable[str]) -> bool:
    """Whether an address is in one of the networks. An invalid address is in none."""
    ip = parse_address(address)
    return ip is not None and any(ip in parse_network(network) for network in networks)


@functools.lru_cache(CACHED_ADDRESSES_MAX)
def parse_network(text: str) -> IpNetwork:
    """Parse a network in CIDR notation, or a single address. Unwraps IPv4-mapped IPv6. Raises `ValueError`."""
    return _unwrap_network(ipaddress.ip_network(text))


def parse_address(text: str) -> IpAddress | None:
    """Parse an address, ignoring port, brackets and zone. Unwraps IPv4-mapped IPv6. None if it is not an address."""
    return _parse(text) if len(text) <= ADDRESS_CHARACTERS_MAX else None


@functools.lru_cache(CACHED_ADDRESSES_MAX)
def _parse(text: str) -> IpAddress | None:
    host = _without_port(text.strip(" \t"))
    if host is None:
        return None
    try:
        ip = ipaddress.ip_address(host.partition("%")[0] if ":" in host else host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _without_port(text: str) -> str | None:
    """Return the address in `ADDRESS`, `IPV4:PORT`, `[IPV6]` or `[IPV6]:PORT`. None if brackets or port are invalid."""
    if text.startswith("["):
        host, bracket, suffix = text[1:].partition("]")
        is_valid = bool(bracket) and ":" in host and (not suffix or (suffix[0] == ":" and _is_port(suffix[1:])))
        return host if is_valid else None
    host, colon, port = text.partition(":")
    if not colon or ":" in port:
        return text
    return host if _is_port(port) and "." in host else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= PORT_DIGITS_MAX and int(text) <= 65_535


def _unwrap_network(network: IpNetwork) -> IpNetwork:
    """Convert an IPv4-mapped IPv6 network to IPv4, because addresses are compared unwrapped."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        start = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((start, network.prefixlen - _MAPPED.prefixlen))
    return network
