"""ARP for IPv4 over Ethernet: frames to packets and back (RFC 826)."""

import struct
from enum import IntEnum
from typing import Final

import msgspec

from clarion.base.addr import Address
from clarion.proto.l2.ethernet import BROADCAST, HEADER, UNKNOWN, EtherType, FrameError

_FRAME: Final = struct.Struct("!6s6sHHHBBH6sI6sI")
_ETHERNET_HARDWARE: Final = 1
_MAC_BYTES: Final = 6
_IPV4_BYTES: Final = 4


class Operation(IntEnum):
    """IANA ARP parameters: operation codes that are used here."""

    REQUEST = 1
    REPLY = 2


class ArpPacket(msgspec.Struct, frozen=True, gc=False):
    """An ARP packet in its Ethernet frame.

    Attributes:
        destination: Ethernet destination.
        source: Ethernet source.
        operation: `Operation`, or another number that IANA has given.
        sender_mac: Hardware address of the sender.
        sender: IPv4 address of the sender; 0.0.0.0 in a probe (RFC 5227 §1.1).
        target_mac: Hardware address of the target; meaningless in a request.
        target: IPv4 address of the target.
    """

    destination: bytes
    source: bytes
    operation: int
    sender_mac: bytes
    sender: Address
    target_mac: bytes
    target: Address


def decode(frame: bytes) -> ArpPacket:
    """Read a frame; bytes after the packet are padding.

    Raises:
        FrameError: it is no ARP packet for IPv4 over Ethernet.
    """
    if len(frame) < _FRAME.size:
        raise FrameError(f"an ARP frame of {len(frame)} bytes, {_FRAME.size} are needed")
    (
        destination,
        source,
        ethertype,
        hardware,
        protocol,
        hardware_bytes,
        protocol_bytes,
        operation,
        sender_mac,
        sender,
        target_mac,
        target,
    ) = _FRAME.unpack_from(frame)
    if ethertype != EtherType.ARP:
        raise FrameError(f"EtherType {ethertype:#06x} is not ARP")
    # RFC 826, packet reception: do I have the hardware type, do I speak the protocol?
    if (hardware, protocol) != (_ETHERNET_HARDWARE, EtherType.IPV4):
        raise FrameError(f"ARP for hardware {hardware} and protocol {protocol:#06x}")
    if (hardware_bytes, protocol_bytes) != (_MAC_BYTES, _IPV4_BYTES):
        raise FrameError(f"ARP with addresses of {hardware_bytes} and {protocol_bytes} bytes")
    return ArpPacket(
        destination=destination,
        source=source,
        operation=operation,
        sender_mac=sender_mac,
        sender=Address(4, sender),
        target_mac=target_mac,
        target=Address(4, target),
    )


def encode(packet: ArpPacket) -> bytes:
    """The frame of a packet, 42 bytes; the link pads it to its minimum."""
    return _FRAME.pack(
        packet.destination,
        packet.source,
        EtherType.ARP,
        _ETHERNET_HARDWARE,
        EtherType.IPV4,
        _MAC_BYTES,
        _IPV4_BYTES,
        packet.operation,
        packet.sender_mac,
        packet.sender.value,
        packet.target_mac,
        packet.target.value,
    )


def reply(request: ArpPacket, mac: bytes) -> ArpPacket:
    """The answer "`request.target` is at `mac`", to the station that asked."""
    # RFC 826, packet reception: swap hardware and protocol fields, send to the new target.
    return ArpPacket(
        destination=request.sender_mac,
        source=mac,
        operation=Operation.REPLY,
        sender_mac=mac,
        sender=request.target,
        target_mac=request.sender_mac,
        target=request.sender,
    )


def announcements(address: Address, mac: bytes) -> tuple[ArpPacket, ArpPacket]:
    """The two unsolicited frames that tell every station at once: a request and a reply.

    The request is RFC 5227's ARP Announcement. Some stations learn from replies only (RFC 5227 §3
    tells why the request is preferred). The reply's target is the sender itself: a Linux neighbour
    entry younger than a second ignores replies whose target hardware address is the broadcast one.
    """
    request = ArpPacket(
        destination=BROADCAST,
        source=mac,
        operation=Operation.REQUEST,
        sender_mac=mac,
        sender=address,
        target_mac=UNKNOWN,  # RFC 5227 §1.1: SHOULD be set to all zeroes, as in a probe
        target=address,
    )
    answer = ArpPacket(
        destination=BROADCAST,
        source=mac,
        operation=Operation.REPLY,
        sender_mac=mac,
        sender=address,
        target_mac=mac,
        target=address,
    )
    return request, answer


assert _FRAME.size == HEADER.size + 28
