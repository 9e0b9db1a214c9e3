"""Which addresses the HTTP tool may reach: public ones. Pure.

An address that carries another (IPv4 in IPv6, a tunnel, a translation) is judged by both.
"""

import ipaddress
from collections.abc import Iterator
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64: the last 32 bits are an IPv4 address
_TRANSLATED_LOCALLY: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_SERVICES: Final = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by number, but answered by the cloud's own host: Azure's."""


def is_public(address: IPAddress) -> bool:
    """Whether the address, and every one that it carries, belongs to the public internet."""
    return all(_is_public(each) for each in (address, *_carried(address)))


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped or address in _TRANSLATED:
            return True  # as public as the address that it carries
        if address.is_site_local or address in _TRANSLATED_LOCALLY:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _SERVICES


def _carried(address: IPAddress) -> Iterator[IPAddress]:
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address in _TRANSLATED:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
