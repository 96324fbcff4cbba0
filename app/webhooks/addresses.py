"""Addresses that a webhook may reach: no private networks, unless the operator allows them.

A name is resolved once per connection, its addresses are checked, and the connection goes to the checked address: a
name that resolves to another address a moment later gains nothing. Each redirect is a separate connection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any
from urllib.parse import urlsplit

import httpcore

from app.webhooks.deadline import Deadline, LimitedStream

Network = IPv4Network | IPv6Network
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LONGEST_URL = 2048


class AddressRefusedError(Exception):
    """The host has no permitted address."""


def check_url(url: str, allowed: Sequence[Network]) -> None:
    """Return if ``url`` is valid for a webhook, as far as that is known without resolving its host.

    Raises:
        AddressRefusedError: not an http or https URL, or with a password, or a private address.
    """
    try:
        parts = urlsplit(url)
        port_is_known = parts.port is None or parts.port > 0
    except ValueError as error:
        raise AddressRefusedError(f"Not a URL: {error}.") from error
    plain = parts.scheme in ("http", "https") and parts.hostname and port_is_known and len(url) <= _LONGEST_URL
    if not plain or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressRefusedError("Not an http or https URL.")
    if parts.username or parts.password or parts.fragment:
        raise AddressRefusedError("It has a user, a password or a fragment.")
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost" or host.endswith(".localhost"):
            _require(IPv4Address("127.0.0.1"), allowed)
        return
    _require(address, allowed)


def is_allowed(address: IPv4Address | IPv6Address, allowed: Iterable[Network]) -> bool:
    """Whether ``address`` is public or in one of the ``allowed`` networks. An embedded IPv4 address (mapped, NAT64,
    6to4) is checked instead."""
    carried = _carried(address)
    if any(one in network for one in (address, carried) for network in allowed):
        return True
    return carried.is_global and not (carried.is_multicast or carried.is_reserved or carried.is_unspecified)


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _require(address: IPv4Address | IPv6Address, allowed: Sequence[Network]) -> None:
    if not is_allowed(address, allowed):
        raise AddressRefusedError(f"{address} is not a public address.")


class GuardedBackend(httpcore.NetworkBackend):
    """Connects to public addresses and to those in ``allowed`` networks, until ``deadline``."""

    def __init__(self, allowed: Sequence[Network], deadline: Deadline) -> None:
        self._allowed = allowed
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a checked address of ``host``. Raises :class:`AddressRefusedError`."""
        try:
            found = self._deadline.resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error.strerror}") from error
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        public = [address for address in addresses if is_allowed(address, self._allowed)]
        if not public:
            raise AddressRefusedError(f"{host} has no public address.")
        failed: Exception = httpcore.ConnectError(host)
        for address in dict.fromkeys(public):
            try:
                step = self._deadline.left(timeout)
                stream = self._backend.connect_tcp(str(address), port, step, local_address, socket_options)
                return LimitedStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed
