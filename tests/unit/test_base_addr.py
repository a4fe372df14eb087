"""Addresses, prefixes and ranges; judged by the standard library where it has the same notion."""

import ipaddress

import pytest

from clarion.base.addr import (
    Address,
    AddressRange,
    Prefix,
    covering_prefix,
    parse_address,
    parse_prefix,
    parse_range,
    summarize,
)
from clarion.base.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::", "::"),
        ("fc00:f853:0ccd:e799::1", "fc00:f853:ccd:e799::1"),
        ("255.255.255.255", "255.255.255.255"),
    ],
)
def test_address_text(text: str, canonical: str) -> None:
    address = parse_address(text)
    assert str(address) == canonical
    assert Address.from_packed(address.packed) == address
    assert address.packed == ipaddress.ip_address(text).packed


@pytest.mark.parametrize(
    "text", ["", "192.0.2", "192.0.2.256", "1.2.3.4/24", "fe80::1%eth0", "::g", "01.2.3.4"]
)
def test_not_an_address(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "canonical", "size"),
    [
        ("192.0.2.77/24", "192.0.2.0/24", 256),
        ("192.0.2.1/32", "192.0.2.1/32", 1),
        ("0.0.0.0/0", "0.0.0.0/0", 1 << 32),
        ("2001:db8::ff/124", "2001:db8::f0/124", 16),
    ],
)
def test_prefix_drops_host_bits(text: str, canonical: str, size: int) -> None:
    prefix = parse_prefix(text)
    assert str(prefix) == canonical
    assert prefix.size == size
    assert prefix.network in prefix


@pytest.mark.parametrize(
    "text", ["192.0.2.1", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/-1", "192.0.2.0/", "/24"]
)
def test_not_a_prefix(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_prefix(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20"),
        (" 192.0.2.10 - 192.0.2.20 ", "192.0.2.10-192.0.2.20"),
        ("192.0.2.9/30", "192.0.2.8-192.0.2.11"),
        ("2001:db8::1-2001:db8::ffff", "2001:db8::1-2001:db8::ffff"),
    ],
)
def test_range(text: str, expected: str) -> None:
    assert str(parse_range(text)) == expected


@pytest.mark.parametrize(
    "text", ["192.0.2.20-192.0.2.10", "192.0.2.1-2001:db8::1", "192.0.2.1", "a-b", "1.1.1.1-"]
)
def test_not_a_range(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_range(text)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("192.0.2.0", "192.0.2.255"),
        ("3.3.3.2", "3.3.3.254"),
        ("0.0.0.0", "255.255.255.255"),
        ("192.0.2.5", "192.0.2.5"),
        ("2001:db8::3", "2001:db8::1:0"),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_summarize_agrees_with_the_standard_library(first: str, last: str) -> None:
    low, high = parse_address(first), parse_address(last)
    ours = [str(p) for p in summarize(AddressRange(low.version, low.value, high.value))]
    judge = ipaddress.summarize_address_range(
        ipaddress.ip_address(first), ipaddress.ip_address(last)
    )
    assert ours == [str(p) for p in judge]


def test_membership_needs_the_same_version() -> None:
    assert Address(4, 1) not in Prefix(6, 0, 0)
    assert Address(6, 1) not in AddressRange(4, 0, 10)
    assert Address(4, 10) in AddressRange(4, 0, 10)
    assert not AddressRange(4, 0, 10).overlaps(AddressRange(6, 0, 10))
    assert AddressRange(4, 0, 10).overlaps(AddressRange(4, 10, 20))


def test_covering_prefix() -> None:
    assert str(covering_prefix(parse_address("203.0.113.202"), 30)) == "203.0.113.200/30"
    assert str(covering_prefix(parse_address("203.0.113.202"), 0)) == "0.0.0.0/0"


@pytest.mark.parametrize(
    ("text", "link_local"),
    [("169.254.1.1", True), ("169.255.0.1", False), ("fe80::1", True), ("fec0::1", False)],
)
def test_link_local(text: str, link_local: bool) -> None:
    assert parse_address(text).is_link_local is link_local
