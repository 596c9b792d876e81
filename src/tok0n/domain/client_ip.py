"""Find the address of the client behind trusted proxies, and who counts as one client. Never raises on bad input.

A proxy appends the address that it sees to `X-Forwarded-For`, so only addresses that a trusted proxy appended are true:
reading goes from the right, and stops at the first address that is not trusted.
"""

import functools
import ipaddress
from collections.abc import Iterable, Sequence

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

ADDRESS_CHARACTERS_MAX = 128
"""Longer texts are no addresses; they are neither parsed nor cached."""

PORT_DIGITS_MAX = 5
CACHED_ADDRESSES_MAX = 4_096
CLIENT_PREFIX_BITS = 64
"""Providers assign at least this IPv6 prefix to one customer, who can use every address in it."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class ClientAddresses:
    """Finds client addresses, given the networks of the trusted proxies. Raises `ValueError` for an invalid network."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks = [_unwrap_network(ipaddress.ip_network(network, strict=False)) for network in trusted]
        self.is_trusted = functools.lru_cache(CACHED_ADDRESSES_MAX)(self._is_trusted)

    def _is_trusted(self, address: str) -> bool:
        """Whether an address belongs to a trusted proxy."""
        ip = parse_address(address)
        return ip is not None and any(ip in network for network in self._networks)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """The client's address, given the socket's address and the values of all `X-Forwarded-For` lines in order.

        An item that is not an address counts as the address of the proxy that appended it.
        """
        known = parse_address(peer)
        address = peer if known is None else str(known)
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
        """Who counts as one client for limits: see `limit_key`."""
        return limit_key(self.client(peer, forwarded))


def limit_key(address: str) -> str:
    """The text under which limits count an address: an IPv6 /64 is one client. A text that is no address is itself."""
    if ":" not in address:
        return address
    ip = parse_address(address)
    if ip is None:
        return address
    if ip.version == 4:
        return str(ip)
    return str(ipaddress.ip_network((int(ip), CLIENT_PREFIX_BITS), strict=False))


def parse_address(text: str) -> IpAddress | None:
    """An address without port, brackets and zone, IPv4-mapped IPv6 unwrapped; None if the text is no address."""
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
    """The address in `ADDRESS`, `IPV4:PORT`, `[IPV6]` or `[IPV6]:PORT`; None if brackets or port are wrong."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        is_right = bool(bracket) and ":" in host and (not rest or (rest[0] == ":" and _is_port(rest[1:])))
        return host if is_right else None
    host, colon, port = text.partition(":")
    if not colon or ":" in port:
        return text
    return host if _is_port(port) and "." in host else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= PORT_DIGITS_MAX and int(text) <= 65_535


def _unwrap_network(network: IpNetwork) -> IpNetwork:
    """An IPv4 network that is written as IPv4-mapped IPv6, as IPv4: addresses are compared unwrapped."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        start = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((start, network.prefixlen - _MAPPED.prefixlen))
    return network
