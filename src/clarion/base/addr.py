"""IP addresses, prefixes and ranges as plain integers, with canonical text.

Decisions count, compare and subtract addresses by the million; integers do that directly. Text is
parsed and written by the standard library, so a user reads the canonical form (RFC 5952 for IPv6).
"""

import ipaddress
from collections.abc import Iterator
from typing import Self

import msgspec

from clarion.base.errors import InvalidInputError, quoted

BITS = {4: 32, 6: 128}
"""Width of an address in bits, by IP version."""

_DIGITS = 20
"""More digits are no number of an address, however many zeros they begin with."""


class Address(msgspec.Struct, frozen=True, order=True, gc=False):
    """One IP address. Orders by version, then by value."""

    version: int
    value: int

    def __str__(self) -> str:
        if self.version == 4:
            value = self.value
            return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
        return str(ipaddress.IPv6Address(self.value))

    @property
    def packed(self) -> bytes:
        """Network-order bytes: 4 or 16 of them."""
        return self.value.to_bytes(BITS[self.version] // 8, "big")

    @property
    def host_prefix(self) -> "Prefix":
        """The /32 or /128 that holds just this address."""
        return Prefix(self.version, self.value, BITS[self.version])

    @property
    def is_link_local(self) -> bool:
        """True for 169.254.0.0/16 (RFC 3927) and fe80::/10 (RFC 4291 §2.5.6)."""
        return self.value >> 16 == 0xA9FE if self.version == 4 else self.value >> 118 == 0x3FA

    @classmethod
    def from_packed(cls, data: bytes) -> Self:
        """Read network-order bytes.

        Raises:
            InvalidInputError: `data` is neither 4 nor 16 bytes long.
        """
        if len(data) not in (4, 16):
            raise InvalidInputError(f"an address has 4 or 16 bytes, not {len(data)}")
        return cls(4 if len(data) == 4 else 6, int.from_bytes(data, "big"))


class Prefix(msgspec.Struct, frozen=True, order=True, gc=False):
    """A CIDR prefix. `value` is the network address: host bits are always zero."""

    version: int
    value: int
    length: int

    def __str__(self) -> str:
        return f"{self.network}/{self.length}"

    @property
    def network(self) -> Address:
        """The lowest address inside."""
        return Address(self.version, self.value)

    @property
    def size(self) -> int:
        """How many addresses are inside."""
        return 1 << (BITS[self.version] - self.length)

    @property
    def range(self) -> "AddressRange":
        """The same addresses as a range."""
        return AddressRange(self.version, self.value, self.value + self.size - 1)

    def __contains__(self, address: Address) -> bool:
        shift = BITS[self.version] - self.length
        return address.version == self.version and address.value >> shift == self.value >> shift


class AddressRange(msgspec.Struct, frozen=True, order=True, gc=False):
    """Addresses from `first` to `last`, both inside, of one IP version."""

    version: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{Address(self.version, self.first)}-{Address(self.version, self.last)}"

    @property
    def size(self) -> int:
        """How many addresses are inside."""
        return self.last - self.first + 1

    def __contains__(self, address: Address) -> bool:
        return address.version == self.version and self.first <= address.value <= self.last

    def overlaps(self, other: "AddressRange") -> bool:
        """True if at least one address is in both."""
        return (
            self.version == other.version and self.first <= other.last and other.first <= self.last
        )


def parse_address(text: str) -> Address:
    """Read one address.

    Raises:
        InvalidInputError: not an IPv4 or IPv6 address; zone identifiers (`%eth0`) are refused.
    """
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInputError(f"{quoted(text)} is not an IP address{_why_not(text)}") from None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id:
        raise InvalidInputError(f"{quoted(text)} has a zone; give the address without it")
    return Address(parsed.version, int(parsed))


def _why_not(text: str) -> str:
    """`: ` and what is wrong with a text that all but is an address; empty if there is no telling.

    A leading zero is refused because programs disagree: some read `010` as ten, some as eight.
    """
    if text != text.strip():
        return ": there is white space around it"
    if "/" in text:
        return ": it has a prefix length"
    numbers = text.split(".")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        return ""
    if len(numbers) != 4:
        return f": it has {len(numbers)} numbers, not 4" if len(numbers) > 1 else ""
    for number in numbers:
        # Python itself refuses to read thousands of digits.
        if len(number) > _DIGITS or int(number) > 255:
            return f": {number[:_DIGITS]} is more than 255"
    plain = ".".join(str(int(number)) for number in numbers)
    zero = next(number for number in numbers if str(int(number)) != number)
    return f": {zero} has a leading zero, which some programs read as octal; write {plain}"


def parse_prefix(text: str) -> Prefix:
    """Read `address/length`; host bits are dropped, as MetalLB and routers do.

    Raises:
        InvalidInputError: no length, a length out of range, or not an address.
    """
    head, slash, tail = text.partition("/")
    if not slash:
        address = parse_address(text)
        length = BITS[address.version]
        raise InvalidInputError(f"{quoted(text)} has no prefix length; write {address}/{length}")
    address = parse_address(head)
    digits = tail.isascii() and tail.isdigit() and len(tail) <= _DIGITS
    if not digits or int(tail) > BITS[address.version]:
        limit = BITS[address.version]
        raise InvalidInputError(f"/{tail[:_DIGITS]} is not a prefix length between /0 and /{limit}")
    return covering_prefix(address, int(tail))


def parse_range(text: str) -> AddressRange:
    """Read a pool entry: `address/length`, or `start-end` with optional spaces around the dash.

    Raises:
        InvalidInputError: neither form, mixed IP versions, or start after end.
    """
    start, dash, end = text.partition("-")
    if not dash:
        return parse_prefix(text.strip()).range
    first, last = parse_address(start.strip()), parse_address(end.strip())
    if first.version != last.version:
        raise InvalidInputError(
            f"{quoted(text)} starts in IPv{first.version}, ends in IPv{last.version}"
        )
    if first > last:
        raise InvalidInputError(f"{quoted(text)} ends before it starts; swap the two addresses")
    return AddressRange(first.version, first.value, last.value)


def covering_prefix(address: Address, length: int) -> Prefix:
    """The prefix of this length that holds the address."""
    host_bits = BITS[address.version] - length
    return Prefix(address.version, address.value >> host_bits << host_bits, length)


def summarize(span: AddressRange) -> Iterator[Prefix]:
    """Split a range into the fewest prefixes, ascending."""
    bits, first = BITS[span.version], span.first
    while first <= span.last:
        aligned = (first & -first).bit_length() - 1 if first else bits
        host_bits = min(aligned, (span.last - first + 1).bit_length() - 1)
        yield Prefix(span.version, first, bits - host_bits)
        first += 1 << host_bits
