"""Which addresses a webhook may lead to. A tenant writes the URL, our network is what it must not reach (SSRF).

The host is resolved here and the connection goes to the very addresses that were looked at: a name that is resolved a second time
could have moved to 127.0.0.1 meanwhile.
"""

import ipaddress
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(OSError):
    """The host is, or leads to, an address that is not on the public internet."""


def is_public(text: str) -> bool:
    """`93.184.215.14` is; 127.0.0.1, 10.1.2.3, 169.254.169.254, ::1, fe80::1 and what carries one of them inside are not."""
    try:
        address: Ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    inner = _inside(address)
    return address.is_global and not address.is_multicast and (inner is None or is_public(str(inner)))


def _inside(address: Ip) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a transition address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


class PublicResolver(AbstractResolver):
    """Resolves as the machine does, and refuses a name that leads anywhere private: whole, not only the address in question."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner if inner is not None else ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found: list[Any] = await self._inner.resolve(host, port, family)
        if not all(is_public(answer["host"]) for answer in found):
            raise AddressRefused("the host leads to an address that is not on the public internet")
        return found

    async def close(self) -> None:
        await self._inner.close()
