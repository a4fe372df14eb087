"""Router Solicitations and Router Advertisements (RFC 4861 §4.1, §4.2) as ICMPv6 payloads.

The kernel writes and verifies the checksum of a raw ICMPv6 socket (RFC 3542 §3.1), so it is left
zero here and not looked at.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec

from clarion.base.addr import Address
from clarion.base.errors import DecodeError

ALL_NODES: Final = Address(6, 0xFF02 << 112 | 1)
ALL_ROUTERS: Final = Address(6, 0xFF02 << 112 | 2)

_UNSPECIFIED: Final = Address(6, 0)
_HOP_LIMIT: Final = 255
_HEADER: Final = struct.Struct("!BBH")
_ADVERTISEMENT: Final = struct.Struct("!BBHBBHII")
_SOLICITATION: Final = struct.Struct("!BBHI")
_OPTION_UNIT: Final = 8
_MAC_BYTES: Final = 6


class RouterType(IntEnum):
    """IANA ICMPv6 parameters: the message types used here."""

    SOLICITATION = 133
    ADVERTISEMENT = 134


_SOURCE_LINK_LAYER_ADDRESS: Final = 1
_LEAST_BYTES: Final = {
    RouterType.SOLICITATION: _SOLICITATION.size,
    RouterType.ADVERTISEMENT: _ADVERTISEMENT.size,
}


class NdError(DecodeError):
    """The message must be dropped (RFC 4861 §6.1)."""


class Solicitation(msgspec.Struct, frozen=True):
    """Somebody asks the routers of a link to advertise."""

    source: Address


class Advertisement(msgspec.Struct, frozen=True):
    """A router of a link.

    Attributes:
        source: Its link-local address there.
        lifetime: Seconds for which it offers to be a default router; 0 for not at all.
        link_layer: Its hardware address, 6 bytes, if told; other lengths are passed over.
    """

    source: Address
    lifetime: int
    link_layer: bytes = b""


def decode(payload: bytes, source: Address, hop_limit: int) -> Solicitation | Advertisement:
    """Read a message with a valid checksum.

    Args:
        payload: From the ICMPv6 type on.
        source: IPv6 source of the packet.
        hop_limit: Hop limit with which it arrived.

    Raises:
        NdError: it is neither message, or one that must be discarded (RFC 4861 §6.1.1, §6.1.2).
    """
    if len(payload) < _HEADER.size:
        raise NdError(f"ICMPv6 of {len(payload)} bytes")
    kind, code, _ = _HEADER.unpack_from(payload)
    if kind not in _LEAST_BYTES:
        raise NdError(f"ICMPv6 type {kind}")
    if hop_limit != _HOP_LIMIT:  # RFC 4861 §6.1.1, §6.1.2: no router has passed it on
        raise NdError(f"hop limit {hop_limit}")
    if code != 0:  # RFC 4861 §6.1.1, §6.1.2
        raise NdError(f"ICMPv6 code {code}")
    least = _LEAST_BYTES[RouterType(kind)]
    if len(payload) < least:  # RFC 4861 §6.1.1: 8 octets or more; §6.1.2: 16
        raise NdError(f"ICMPv6 of {len(payload)} bytes, {least} at least")
    link_layer = None
    for option, body in _options(payload[least:]):
        if option == _SOURCE_LINK_LAYER_ADDRESS and link_layer is None:
            link_layer = body
    if kind == RouterType.SOLICITATION:
        if source == _UNSPECIFIED and link_layer is not None:  # RFC 4861 §6.1.1
            raise NdError("a solicitation from :: with a source link-layer address")
        return Solicitation(source)
    if source.version != 6 or not source.is_link_local:  # RFC 4861 §6.1.2
        raise NdError(f"an advertisement from {source}, which is no link-local address")
    _, _, _, _, _, lifetime, _, _ = _ADVERTISEMENT.unpack_from(payload)
    told = link_layer if link_layer is not None and len(link_layer) == _MAC_BYTES else b""
    return Advertisement(source, lifetime, told)


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        units = data[start + 1] if start + 1 < len(data) else 0
        end = start + units * _OPTION_UNIT
        if units == 0 or end > len(data):  # RFC 4861 §6.1.1, §6.1.2: longer than zero
            raise NdError("an option of no length, or longer than the message")
        yield data[start], data[start + 2 : end]
        start = end


def encode_advertisement(link_layer: bytes) -> bytes:
    """Our advertisement.

    It says where we are and nothing else: Router Lifetime 0, for no host shall route through us
    (RFC 4861 §4.2), and no hop limit, timer or prefix.

    Args:
        link_layer: Hardware address of the interface, 6 bytes; empty where it has none.
    """
    head = _ADVERTISEMENT.pack(RouterType.ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0)
    return head + _encode_link_layer(link_layer)


def encode_solicitation(link_layer: bytes) -> bytes:
    """Our question to the routers of the link; `link_layer` is that of `encode_advertisement`."""
    head = _SOLICITATION.pack(RouterType.SOLICITATION, 0, 0, 0)
    return head + _encode_link_layer(link_layer)


def _encode_link_layer(link_layer: bytes) -> bytes:
    if len(link_layer) != _MAC_BYTES:
        return b""
    return bytes((_SOURCE_LINK_LAYER_ADDRESS, 1)) + link_layer
