"""BGP communities as users write them: `a:b`, `large:a:b:c`, `extended:rt:a:b`, or a known name."""

from functools import partial

import msgspec

from clarion.base.addr import parse_address
from clarion.base.errors import InvalidInputError, quoted

LargeCommunity = tuple[int, int, int]


class ExtendedCommunity(msgspec.Struct, frozen=True, order=True):
    """Eight octets (RFC 4360 §2): a type of one or two, then the value."""

    value: int

    @property
    def kind(self) -> str:
        """`rt` or `soo` where routers have words for it that mean no other; else empty."""
        administrator, subtype = self.value >> 56, self.value >> 48 & 0xFF
        # The words for a small ASN mean the form of two octets.
        small = administrator == _FOUR_OCTET and not self.value >> 32 & 0xFFFF
        known = administrator in _ADMINISTRATORS and not small
        return _NAMES.get(subtype, "") if known else ""


CommunityValue = int | LargeCommunity | ExtendedCommunity

Aliases = dict[str, CommunityValue]

GRACEFUL_SHUTDOWN = 0xFFFF0000  # RFC 8326

WELL_KNOWN: dict[str, int] = {
    "graceful-shutdown": GRACEFUL_SHUTDOWN,
    "accept-own": 0xFFFF0001,  # RFC 7611
    "llgr-stale": 0xFFFF0006,  # RFC 9494
    "no-llgr": 0xFFFF0007,  # RFC 9494
    "blackhole": 0xFFFF029A,  # RFC 7999
    "no-export": 0xFFFFFF01,  # RFC 1997
    "no-advertise": 0xFFFFFF02,  # RFC 1997
    "no-export-subconfed": 0xFFFFFF03,  # RFC 1997
    "local-as": 0xFFFFFF03,  # the name that routers give no-export-subconfed
    "no-peer": 0xFFFFFF04,  # RFC 3765
}
"""Names that need no Community object; `NO_EXPORT` and `no-export` are the same."""

_TWO_OCTET, _IPV4, _FOUR_OCTET = 0x00, 0x01, 0x02
_ADMINISTRATORS = (_TWO_OCTET, _IPV4, _FOUR_OCTET)
"""Who gives a number: an AS (RFC 4360 §3.1), an address (§3.2), a 4-octet AS (RFC 5668 §2)."""

SUBTYPES = {"rt": 0x02, "soo": 0x03}  # route target, route origin (RFC 4360 §4, §5)
_NAMES = {number: name for name, number in SUBTYPES.items()}
_HEX_DIGITS = 16


def well_known(name: str) -> int | None:
    """The value of a well-known name, None if it is not one."""
    return WELL_KNOWN.get(name.lower().replace("_", "-"))


def parse_community(text: str) -> CommunityValue:
    """Read a community.

    Args:
        text: `a:b` (16 bits each, RFC 1997); `large:a:b:c` (32 bits each, RFC 8092);
            `extended:rt:a:b` or `extended:soo:a:b`, where `a` is an ASN or an IPv4 address; or
            `extended:0x` and 16 hexadecimal digits for any other (RFC 4360).

    Raises:
        InvalidInputError: none of these forms, or a part out of range.
    """
    parts = text.split(":")
    if len(parts) == 2 and parts[0] != "extended":
        high, low = (_number(part, 16, text) for part in parts)
        return high << 16 | low
    if len(parts) == 4 and parts[0] == "large":
        first, second, third = (_number(part, 32, text) for part in parts[1:])
        return first, second, third
    if len(parts) == 4 and parts[0] == "extended" and parts[1] in SUBTYPES:
        return ExtendedCommunity(_specific(SUBTYPES[parts[1]], parts[2], parts[3], text))
    if len(parts) == 2 and parts[0] == "extended":
        return ExtendedCommunity(_hexadecimal(parts[1], text))
    raise InvalidInputError(f"{quoted(text)} is none of a:b, large:a:b:c, extended:rt:a:b")


def _specific(subtype: int, administrator: str, local: str, text: str) -> int:
    """An extended community of which an AS or an address is the administrator."""
    number = partial(_number, text=text)
    if "." in administrator:
        address = parse_address(administrator)
        kind, value = _IPV4, address.value << 16 | number(local, 16)
    elif (asn := number(administrator, 32)) >> 16:
        kind, value = _FOUR_OCTET, asn << 16 | number(local, 16)
    else:
        kind, value = _TWO_OCTET, asn << 32 | number(local, 32)
    return kind << 56 | subtype << 48 | value


def _hexadecimal(part: str, text: str) -> int:
    digits = part.removeprefix("0x")
    if (
        part == digits
        or len(digits) != _HEX_DIGITS
        or set(digits.lower()) - set("0123456789abcdef")
    ):
        raise InvalidInputError(
            f"{quoted(part)} in {quoted(text)} is not 0x and {_HEX_DIGITS} digits"
        )
    return int(digits, 16)


_DIGITS = 20
"""More are no number of a community; Python itself refuses to read thousands of them."""


def _number(part: str, bits: int, text: str) -> int:
    # int() would also take signs, spaces, underscores and digits of other scripts.
    digits = part.isascii() and part.isdigit() and len(part) <= _DIGITS
    if not digits or int(part) >> bits:
        raise InvalidInputError(f"{quoted(part)} in {quoted(text)} is not a number of {bits} bits")
    return int(part)


def format_community(value: CommunityValue) -> str:
    """The community as routers print it: `65535:65281`, `1:2:3`, `rt:64500:1` or `0x...`."""
    if isinstance(value, int):
        return f"{value >> 16}:{value & 0xFFFF}"
    if isinstance(value, ExtendedCommunity):
        return _extended_text(value)
    return ":".join(map(str, value))


def _extended_text(community: ExtendedCommunity) -> str:
    value = community.value
    if not community.kind:
        return f"0x{value:0{_HEX_DIGITS}x}"
    kind = value >> 56
    if kind == _TWO_OCTET:
        return f"{community.kind}:{value >> 32 & 0xFFFF}:{value & 0xFFFFFFFF}"
    high = value >> 16 & 0xFFFFFFFF
    administrator = (
        str(high) if kind == _FOUR_OCTET else ".".join(map(str, high.to_bytes(4, "big")))
    )
    return f"{community.kind}:{administrator}:{value & 0xFFFF}"
