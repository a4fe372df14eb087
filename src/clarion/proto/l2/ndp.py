"""Neighbor Solicitations and Advertisements over Ethernet: frames to messages and back.

RFC 4861 (neighbor discovery), RFC 4862 (address detection), RFC 2464 (IPv6 over Ethernet).
"""

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from clarion.base.addr import Address
from clarion.proto.l2.ethernet import HEADER, EtherType, FrameError, multicast_mac

_IPV6: Final = struct.Struct("!IHBB16s16s")
_ICMPV6: Final = struct.Struct("!BBHI16s")
_IP_START: Final = HEADER.size
_ICMP_START: Final = _IP_START + _IPV6.size
_VERSION_6: Final = 6 << 28
_NEXT_HEADER_ICMPV6: Final = 58
_HOP_LIMIT: Final = 255
_OPTION_UNIT: Final = 8
_MAC_OPTION_UNITS: Final = 1

UNSPECIFIED: Final = Address(6, 0)
ALL_NODES: Final = Address(6, 0xFF02 << 112 | 1)
_SOLICITED_NODE: Final = 0xFF02 << 112 | 0x1FF << 24


class IcmpType(IntEnum):
    """IANA ICMPv6 parameters: the message types used here."""

    NEIGHBOR_SOLICITATION = 135
    NEIGHBOR_ADVERTISEMENT = 136


class OptionType(IntEnum):
    """IANA IPv6 neighbor discovery options used here."""

    SOURCE_LINK_LAYER_ADDRESS = 1
    TARGET_LINK_LAYER_ADDRESS = 2


class Flag(IntFlag):
    """Flags of a Neighbor Advertisement (RFC 4861 §4.4)."""

    NONE = 0
    OVERRIDE = 1 << 29
    SOLICITED = 1 << 30
    ROUTER = 1 << 31


class Solicitation(msgspec.Struct, frozen=True, gc=False):
    """A Neighbor Solicitation in its frame.

    Attributes:
        destination_mac: Ethernet destination.
        source_mac: Ethernet source.
        source: IPv6 source; unspecified in duplicate address detection.
        destination: IPv6 destination.
        target: Address asked for.
        source_link_layer: Hardware address option of the sender, if it is there.
    """

    destination_mac: bytes
    source_mac: bytes
    source: Address
    destination: Address
    target: Address
    source_link_layer: bytes | None = None


class Advertisement(msgspec.Struct, frozen=True, gc=False):
    """A Neighbor Advertisement in its frame.

    Attributes:
        destination_mac: Ethernet destination.
        source_mac: Ethernet source.
        source: IPv6 source.
        destination: IPv6 destination.
        target: Address told about.
        flags: Router, solicited, override.
        target_link_layer: Hardware address of the target, if it is there.
    """

    destination_mac: bytes
    source_mac: bytes
    source: Address
    destination: Address
    target: Address
    flags: Flag
    target_link_layer: bytes | None = None


def solicited_node(address: Address) -> Address:
    """The multicast group in which an address is asked for (RFC 4291 §2.7.1)."""
    return Address(6, _SOLICITED_NODE | address.value & 0xFFFFFF)


def is_multicast(address: Address) -> bool:
    """Whether an IPv6 address is a multicast one: ff00::/8."""
    return address.value >> 120 == 0xFF


def decode_solicitation(frame: bytes) -> Solicitation:
    """Read a Neighbor Solicitation.

    Raises:
        FrameError: it is none, or one that must be discarded (RFC 4861 §7.1.1).
    """
    message = _decode(frame, IcmpType.NEIGHBOR_SOLICITATION)
    option = message.option(OptionType.SOURCE_LINK_LAYER_ADDRESS)
    if message.source == UNSPECIFIED:
        # RFC 4861 §7.1.1: from the unspecified address it goes to the solicited-node group ...
        if message.destination != solicited_node(message.target):
            raise FrameError("a solicitation from :: outside the solicited-node group")
        # ... and has no source link-layer address option.
        if option is not None:
            raise FrameError("a solicitation from :: with a source link-layer address")
    return Solicitation(
        destination_mac=message.destination_mac,
        source_mac=message.source_mac,
        source=message.source,
        destination=message.destination,
        target=message.target,
        source_link_layer=option,
    )


def decode_advertisement(frame: bytes) -> Advertisement:
    """Read a Neighbor Advertisement.

    Raises:
        FrameError: it is none, or one that must be discarded (RFC 4861 §7.1.2).
    """
    message = _decode(frame, IcmpType.NEIGHBOR_ADVERTISEMENT)
    flags = Flag(message.flags & (Flag.ROUTER | Flag.SOLICITED | Flag.OVERRIDE))
    if is_multicast(message.destination) and flags & Flag.SOLICITED:  # RFC 4861 §7.1.2
        raise FrameError("a solicited advertisement to a multicast group")
    return Advertisement(
        destination_mac=message.destination_mac,
        source_mac=message.source_mac,
        source=message.source,
        destination=message.destination,
        target=message.target,
        flags=flags,
        target_link_layer=message.option(OptionType.TARGET_LINK_LAYER_ADDRESS),
    )


def encode_solicitation(message: Solicitation) -> bytes:
    """The frame of a solicitation."""
    option = _encode_option(OptionType.SOURCE_LINK_LAYER_ADDRESS, message.source_link_layer)
    return _encode(message, IcmpType.NEIGHBOR_SOLICITATION, 0, option)


def encode_advertisement(message: Advertisement) -> bytes:
    """The frame of an advertisement."""
    option = _encode_option(OptionType.TARGET_LINK_LAYER_ADDRESS, message.target_link_layer)
    return _encode(message, IcmpType.NEIGHBOR_ADVERTISEMENT, message.flags, option)


def answer(question: Solicitation, mac: bytes) -> Advertisement:
    """The advertisement "`question.target` is at `mac`" for who asked.

    Args:
        question: A solicitation for an address that is announced here.
        mac: Hardware address of the interface.
    """
    # RFC 4861 §7.2.4: Override SHOULD be 1 except for anycast addresses and proxies. An announced
    # address has one owner, which is no proxy: after a take-over its answer must replace what the
    # asking station holds. Router stays 0: nobody routes through a service's address.
    flags = Flag.OVERRIDE
    if question.source == UNSPECIFIED:
        # RFC 4861 §7.2.4: to the unspecified address the answer goes to all nodes, Solicited = 0.
        # RFC 4862 §5.4.4: the station that tests the address thus learns that it is taken.
        destination, destination_mac = ALL_NODES, multicast_mac(ALL_NODES)
    else:
        flags |= Flag.SOLICITED  # RFC 4861 §7.2.4
        destination = question.source
        # RFC 4861 §7.2.4: a unicast solicitation may lack the option; its frame tells the same.
        destination_mac = question.source_link_layer or question.source_mac
    return Advertisement(
        destination_mac=destination_mac,
        source_mac=mac,
        # RFC 4861 §4.4: an address of the interface. The owner speaks from the address itself, as
        # an operating system does for its own; ndisc6 takes no other source for a global address.
        source=question.target,
        destination=destination,
        target=question.target,
        flags=flags,
        target_link_layer=mac,  # RFC 4861 §7.2.4: MUST, when the solicitation was a multicast
    )


def announcement(address: Address, mac: bytes) -> Advertisement:
    """The unsolicited advertisement that tells every station at once (RFC 4861 §7.2.6)."""
    return Advertisement(
        destination_mac=multicast_mac(ALL_NODES),
        source_mac=mac,
        source=address,
        destination=ALL_NODES,
        target=address,
        flags=Flag.OVERRIDE,  # RFC 4861 §7.2.6: MAY be set, to update entries that exist
        target_link_layer=mac,
    )


def checksum(source: bytes, destination: bytes, payload: bytes) -> int:
    """The ICMPv6 checksum (RFC 4443 §2.3) of a payload; over a valid one it gives 0."""
    pseudo = source + destination + struct.pack("!II", len(payload), _NEXT_HEADER_ICMPV6)
    data = pseudo + payload + b"\0" * (len(payload) % 2)
    # The one's complement sum of 16-bit words is the number itself modulo 0xFFFF (RFC 1071 §2);
    # the pseudo-header makes the number positive, so a residue of 0 stands for 0xFFFF.
    return 0xFFFF - (int.from_bytes(data, "big") % 0xFFFF or 0xFFFF)


class _Message(msgspec.Struct, frozen=True, gc=False):
    """What both messages have in common."""

    destination_mac: bytes
    source_mac: bytes
    source: Address
    destination: Address
    target: Address
    flags: int
    options: bytes

    def option(self, wanted: OptionType) -> bytes | None:
        """The hardware address in the first such option.

        Raises:
            FrameError: the options are malformed.
        """
        found = None
        for kind, body in _options(self.options):
            # RFC 2464 §6: on Ethernet the option has one unit, six bytes of them the address.
            if kind == wanted and found is None and len(body) == _OPTION_UNIT - 2:
                found = body
        return found


def _decode(frame: bytes, wanted: IcmpType) -> _Message:
    if len(frame) < _ICMP_START + _ICMPV6.size:
        raise FrameError(f"a frame of {len(frame)} bytes is too short for neighbor discovery")
    destination_mac, source_mac, ethertype = HEADER.unpack_from(frame)
    first, length, next_header, hop_limit, source, destination = _IPV6.unpack_from(frame, _IP_START)
    if ethertype != EtherType.IPV6 or first >> 28 != 6 or next_header != _NEXT_HEADER_ICMPV6:
        raise FrameError("no ICMPv6 in IPv6 on Ethernet")
    if hop_limit != _HOP_LIMIT:  # RFC 4861 §7.1.1: it has not passed a router
        raise FrameError(f"hop limit {hop_limit}")
    payload = frame[_ICMP_START : _ICMP_START + length]
    if length < _ICMPV6.size or len(payload) < length:  # RFC 4861 §7.1.1: 24 bytes or more
        raise FrameError(f"ICMPv6 of {len(payload)} bytes where {length} are said to be")
    kind, code, _, flags, target = _ICMPV6.unpack_from(payload)
    if kind != wanted or code != 0:  # RFC 4861 §7.1.1: ICMP code is 0
        raise FrameError(f"ICMPv6 type {kind} code {code}")
    if checksum(source, destination, payload):  # RFC 4861 §7.1.1: the checksum is valid
        raise FrameError("wrong ICMPv6 checksum")
    message = _Message(
        destination_mac=destination_mac,
        source_mac=source_mac,
        source=Address.from_packed(source),
        destination=Address.from_packed(destination),
        target=Address.from_packed(target),
        flags=flags,
        options=payload[_ICMPV6.size :],
    )
    if is_multicast(message.target):  # RFC 4861 §7.1.1
        raise FrameError("the target is a multicast address")
    return message


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        units = data[start + 1] if start + 1 < len(data) else 0
        end = start + units * _OPTION_UNIT
        if units == 0 or end > len(data):  # RFC 4861 §7.1.1: every option is longer than zero
            raise FrameError("an option of no length, or longer than the message")
        yield data[start], data[start + 2 : end]
        start = end


def _encode_option(kind: OptionType, mac: bytes | None) -> bytes:
    return b"" if mac is None else bytes((kind, _MAC_OPTION_UNITS)) + mac


def _encode(
    message: Solicitation | Advertisement, kind: IcmpType, flags: int, options: bytes
) -> bytes:
    source, destination = message.source.packed, message.destination.packed
    payload = _ICMPV6.pack(kind, 0, 0, flags, message.target.packed) + options
    sum_ = checksum(source, destination, payload)
    payload = payload[:2] + sum_.to_bytes(2, "big") + payload[4:]
    header = _IPV6.pack(
        _VERSION_6, len(payload), _NEXT_HEADER_ICMPV6, _HOP_LIMIT, source, destination
    )
    ethernet = HEADER.pack(message.destination_mac, message.source_mac, EtherType.IPV6)
    return ethernet + header + payload
