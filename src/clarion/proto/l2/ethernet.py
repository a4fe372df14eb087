"""Ethernet II framing (IEEE 802.3), just what ARP and NDP need."""

import struct
from enum import IntEnum
from typing import Final

from clarion.base.addr import Address
from clarion.base.errors import DecodeError

BROADCAST: Final = b"\xff" * 6
UNKNOWN: Final = bytes(6)
"""The hardware address written where none is known yet (RFC 5227 §1.1)."""

HEADER: Final = struct.Struct("!6s6sH")
_GROUP_BIT: Final = 0x01


class EtherType(IntEnum):
    """IEEE 802 numbers: EtherTypes."""

    IPV4 = 0x0800
    ARP = 0x0806
    IPV6 = 0x86DD


class FrameError(DecodeError):
    """A frame is not a well-formed message of the protocol it was taken for."""


def is_station(mac: bytes) -> bool:
    """Whether a hardware address can belong to one station: neither a group nor all zero."""
    return not mac[0] & _GROUP_BIT and mac != UNKNOWN


def multicast_mac(group: Address) -> bytes:
    """The Ethernet destination of an IPv6 multicast group: 33:33 and its last four bytes."""
    return b"\x33\x33" + (group.value & 0xFFFFFFFF).to_bytes(4, "big")  # RFC 2464 §7


def mac_text(mac: bytes) -> str:
    """A hardware address as people write it: 02:00:5e:10:00:01."""
    return mac.hex(":")
