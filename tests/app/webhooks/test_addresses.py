"""Addresses that webhooks may reach."""

from __future__ import annotations

import ipaddress
from ipaddress import ip_address, ip_network

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from app.webhooks.addresses import AddressRefusedError, GuardedBackend, check_url, is_allowed
from app.webhooks.deadline import Deadline

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("text", PRIVATE)
def test_a_private_address_is_refused_in_every_form(text: str) -> None:
    assert not is_allowed(ip_address(text), ())
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(AddressRefusedError):
        check_url(f"http://{host}:8080/hook", ())


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_a_public_address_is_not(text: str) -> None:
    assert is_allowed(ip_address(text), ())


@given(st.ip_addresses(v=4))
def test_an_ipv6_address_that_carries_an_ipv4_one_is_judged_by_it(address: ipaddress.IPv4Address) -> None:
    carried = [
        ip_address(f"::ffff:{address}"), ip_address(int(ip_address("64:ff9b::")) + int(address)),
        ip_address((0x2002 << 112) + (int(address) << 80)),
    ]  # fmt: skip
    if not is_allowed(address, ()):
        assert not any(is_allowed(one, ()) for one in carried)
    assert all(is_allowed(one, [ip_network(f"{address}/32")]) for one in carried)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://h/", "http://", "http://user:pw@host/", "http://h/#f", "http://h ost/", "h",
     "http://[::1", "http://h:99999/", "http://localhost/", "http://a.localhost/", "http://h/\n", "http://h\x00/",
     "http://h:0/", f"http://h/{'x' * 2048}"],
)  # fmt: skip
def test_what_is_no_url_of_a_public_host_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_url(url, ())


def test_a_name_is_judged_by_what_it_resolves_to_when_it_is_connected_to() -> None:
    check_url("https://tool.example:8443/hook?x=1", ())
    with pytest.raises(AddressRefusedError, match="localhost"):
        GuardedBackend((), Deadline(60)).connect_tcp("localhost", 80)
    with pytest.raises(httpcore.ConnectError):  # allowed, but nobody listens
        GuardedBackend([ip_network("127.0.0.0/8"), ip_network("::1/128")], Deadline(60)).connect_tcp("localhost", 1)
    with pytest.raises(httpcore.ConnectError, match="resolved"):
        GuardedBackend((), Deadline(60)).connect_tcp("no-such-host.invalid", 80)


def test_networks_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_WEBHOOK_NETWORKS", "10.0.0.0/8, 192.168.1.0/24")
    assert Settings(_env_file=None).webhook_networks == (ip_network("10.0.0.0/8"), ip_network("192.168.1.0/24"))
