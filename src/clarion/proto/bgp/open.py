"""OPEN messages and capabilities, and what two OPENs together allow.

RFC 4271 §4.2 and §6.2; capabilities RFC 5492; extended optional parameters RFC 9072; 4-octet ASN
RFC 6793; identifiers RFC 6286; graceful restart RFC 4724 and 8538; extended messages RFC 8654. A
capability without a meaning here is kept as it came.
"""

from typing import Final

import msgspec

from clarion.base.addr import Address
from clarion.base.errors import DecodeError
from clarion.proto.bgp.iana import (
    AS_TRANS,
    BGP_VERSION,
    IPV4_UNICAST,
    MAX_TWO_OCTET_ASN,
    Afi,
    CapabilityCode,
    ErrorCode,
    Family,
    MessageType,
    OpenError,
    OptionalParameter,
)
from clarion.proto.bgp.wire import encode_frame

_FIXED_BYTES: Final = 10
# RFC 4724 §3, RFC 8538 §2: two flags before 12 bits of seconds, one flag in each family's octet.
_RESTARTING: Final = 0x8000
_NOTIFICATIONS: Final = 0x4000
_RESTART_TIME: Final = 0x0FFF
_FORWARDING_PRESERVED: Final = 0x80


_BARE: Final = frozenset(
    (
        CapabilityCode.ROUTE_REFRESH,
        CapabilityCode.EXTENDED_MESSAGE,
        CapabilityCode.ENHANCED_ROUTE_REFRESH,
    )
)
"""Capabilities that say all by being there (RFC 2918 §2, RFC 8654 §3, RFC 7313 §3.1)."""


class NextHopEncoding(msgspec.Struct, frozen=True, order=True):
    """Routes of `family` may carry a next hop of `next_hop_afi` (RFC 8950 §4)."""

    family: Family
    next_hop_afi: int


class RawCapability(msgspec.Struct, frozen=True, order=True):
    """A capability that is not interpreted."""

    code: int
    data: bytes = b""


class RestartFamily(msgspec.Struct, frozen=True, order=True):
    """A family whose routes survive a restart; did its traffic in the last one (the F bit)?"""

    family: Family
    forwarding_preserved: bool = False


class GracefulRestart(msgspec.Struct, frozen=True):
    """The graceful restart capability (RFC 4724 §3).

    Attributes:
        restart_time: Whole seconds from the loss of a session until it should be back.
        restarting: The R bit: the speaker comes back from a restart.
        notifications: The N bit: routes are kept after a NOTIFICATION too (RFC 8538 §2).
        families: Empty from a speaker that only helps others to restart (RFC 4724 §4).
    """

    restart_time: int = 0
    restarting: bool = False
    notifications: bool = False
    families: tuple[RestartFamily, ...] = ()


class Capabilities(msgspec.Struct, frozen=True):
    """What a speaker offers. `four_octet_asn` is its ASN, or None when it knows two octets only."""

    families: tuple[Family, ...] = ()
    route_refresh: bool = False
    extended_next_hops: tuple[NextHopEncoding, ...] = ()
    four_octet_asn: int | None = None
    enhanced_route_refresh: bool = False
    extended_messages: bool = False
    graceful_restart: GracefulRestart | None = None
    unknown: tuple[RawCapability, ...] = ()


class Open(msgspec.Struct, frozen=True):
    """An OPEN. `hold_time` in whole seconds; `asn` is the 16-bit field (AS_TRANS if larger)."""

    asn: int
    hold_time: int
    router_id: Address
    capabilities: Capabilities = Capabilities()

    @property
    def true_asn(self) -> int:
        """The speaker's ASN, from the capability where there is one (RFC 6793 §3)."""
        four = self.capabilities.four_octet_asn
        return self.asn if four is None else four

    @property
    def families(self) -> tuple[Family, ...]:
        """Families offered; a speaker without the capability means IPv4 unicast (RFC 4760 §8)."""
        return self.capabilities.families or (IPV4_UNICAST,)


def make_open(asn: int, hold_time: int, router_id: Address, capabilities: Capabilities) -> Open:
    """An OPEN of ours: the 4-octet capability always, AS_TRANS where the field is too small."""
    capabilities = msgspec.structs.replace(capabilities, four_octet_asn=asn)
    return Open(asn if asn <= MAX_TWO_OCTET_ASN else AS_TRANS, hold_time, router_id, capabilities)


def encode_open(message: Open) -> bytes:
    """The whole OPEN, each capability in a parameter of its own as old speakers expect."""
    items = _capability_items(message.capabilities)
    parameters = b"".join(
        bytes((OptionalParameter.CAPABILITIES, min(2 + len(data), 255), code, len(data))) + data
        for code, data in items
    )
    fixed = (
        bytes((BGP_VERSION,))
        + message.asn.to_bytes(2, "big")
        + message.hold_time.to_bytes(2, "big")
        + message.router_id.packed
    )
    if len(parameters) > 255:
        parameters = _extended_parameters(items)
        marker = OptionalParameter.EXTENDED_LENGTH  # RFC 9072 §2
        tail = bytes((marker, marker)) + len(parameters).to_bytes(2, "big") + parameters
        return encode_frame(MessageType.OPEN, fixed + tail)
    return encode_frame(MessageType.OPEN, fixed + bytes((len(parameters),)) + parameters)


def _extended_parameters(items: list[tuple[int, bytes]]) -> bytes:
    value = b"".join(bytes((code, len(data))) + data for code, data in items)
    return bytes((OptionalParameter.CAPABILITIES,)) + len(value).to_bytes(2, "big") + value


def _capability_items(offer: Capabilities) -> list[tuple[int, bytes]]:
    items: list[tuple[int, bytes]] = [
        (CapabilityCode.MULTIPROTOCOL, family.afi.to_bytes(2, "big") + bytes((0, family.safi)))
        for family in offer.families
    ]
    if offer.route_refresh:
        items.append((CapabilityCode.ROUTE_REFRESH, b""))
    if offer.extended_next_hops:
        rows = (
            row.family.afi.to_bytes(2, "big")
            + row.family.safi.to_bytes(2, "big")
            + row.next_hop_afi.to_bytes(2, "big")
            for row in offer.extended_next_hops
        )
        items.append((CapabilityCode.EXTENDED_NEXT_HOP, b"".join(rows)))
    if offer.extended_messages:
        items.append((CapabilityCode.EXTENDED_MESSAGE, b""))
    if offer.graceful_restart is not None:
        items.append((CapabilityCode.GRACEFUL_RESTART, _restart_value(offer.graceful_restart)))
    if offer.four_octet_asn is not None:
        items.append((CapabilityCode.FOUR_OCTET_ASN, offer.four_octet_asn.to_bytes(4, "big")))
    if offer.enhanced_route_refresh:
        items.append((CapabilityCode.ENHANCED_ROUTE_REFRESH, b""))
    items.extend((raw.code, raw.data) for raw in offer.unknown)
    return items


def _restart_value(offer: GracefulRestart) -> bytes:
    flags = offer.restarting * _RESTARTING | offer.notifications * _NOTIFICATIONS
    rows = (
        row.family.afi.to_bytes(2, "big")
        + bytes((row.family.safi, row.forwarding_preserved * _FORWARDING_PRESERVED))
        for row in offer.families
    )
    return (flags | offer.restart_time).to_bytes(2, "big") + b"".join(rows)


def decode_open(body: bytes) -> Open:
    """Read the body of an OPEN. Who the peer is meant to be is checked by `negotiate`.

    Raises:
        DecodeError: an OPEN Message Error with its subcode.
    """
    if len(body) < _FIXED_BYTES:  # the framer guarantees it on a connection
        raise _open_error("an OPEN shorter than its fixed part", OpenError.UNSPECIFIC)
    if body[0] != BGP_VERSION:  # RFC 4271 §6.2: data is the largest version we speak
        raise _open_error(
            f"BGP version {body[0]} is not spoken here",
            OpenError.UNSUPPORTED_VERSION_NUMBER,
            BGP_VERSION.to_bytes(2, "big"),
        )
    hold_time = int.from_bytes(body[3:5], "big")
    if hold_time in (1, 2):  # RFC 4271 §6.2
        raise _open_error(
            f"a hold time of {hold_time} s is not acceptable", OpenError.UNACCEPTABLE_HOLD_TIME
        )
    router_id = Address.from_packed(body[5:9])
    if router_id.value == 0:  # RFC 6286 §2.1
        raise _open_error("the BGP identifier is 0.0.0.0", OpenError.BAD_BGP_IDENTIFIER)
    capabilities = _decode_parameters(body[9:])
    asn = int.from_bytes(body[1:3], "big")
    if asn == 0 or capabilities.four_octet_asn == 0:  # RFC 7607 §2
        raise _open_error("the ASN is 0", OpenError.BAD_PEER_AS)
    return Open(asn, hold_time, router_id, capabilities)


def _decode_parameters(data: bytes) -> Capabilities:
    """Read optional parameters, `data` beginning at their length octet."""
    extended = len(data) >= 4 and data[0] != 0 and data[1] == OptionalParameter.EXTENDED_LENGTH
    if extended:  # RFC 9072 §2
        total, rest, width = int.from_bytes(data[2:4], "big"), data[4:], 2
    else:
        total, rest, width = data[0], data[1:], 1
    if total != len(rest):
        raise _open_error("the length of the optional parameters is wrong", OpenError.UNSPECIFIC)
    found: list[RawCapability] = []
    while rest:
        if len(rest) < 1 + width:
            raise _open_error("an optional parameter is cut short", OpenError.UNSPECIFIC)
        kind, size = rest[0], int.from_bytes(rest[1 : 1 + width], "big")
        value, rest = rest[1 + width : 1 + width + size], rest[1 + width + size :]
        if len(value) != size:
            raise _open_error("an optional parameter is cut short", OpenError.UNSPECIFIC)
        if kind != OptionalParameter.CAPABILITIES:  # RFC 4271 §6.2
            raise _open_error(
                f"optional parameter {kind} is not supported",
                OpenError.UNSUPPORTED_OPTIONAL_PARAMETER,
            )
        found.extend(_split_capabilities(value))
    return _interpret(found)


def _split_capabilities(data: bytes) -> list[RawCapability]:
    found: list[RawCapability] = []
    while data:
        if len(data) < 2 or len(data) < 2 + data[1]:
            raise _open_error("a capability is cut short", OpenError.UNSPECIFIC)
        found.append(RawCapability(data[0], data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return found


def _interpret(raw: list[RawCapability]) -> Capabilities:
    """Give known capabilities their fields; one of a wrong length counts as unknown."""
    families: dict[Family, None] = {}
    next_hops: dict[NextHopEncoding, None] = {}
    unknown: list[RawCapability] = []
    bare: set[int] = set()
    asn: int | None = None
    restart: GracefulRestart | None = None
    for item in raw:
        data = item.data
        if item.code == CapabilityCode.MULTIPROTOCOL and len(data) == 4:
            families[Family(int.from_bytes(data[:2], "big"), data[3])] = None
        elif item.code in _BARE and not data:
            bare.add(item.code)
        elif item.code == CapabilityCode.EXTENDED_NEXT_HOP and data and len(data) % 6 == 0:
            next_hops.update(dict.fromkeys(_next_hop_rows(data)))
        elif item.code == CapabilityCode.FOUR_OCTET_ASN and len(data) == 4:
            asn = int.from_bytes(data, "big")
        elif item.code == CapabilityCode.GRACEFUL_RESTART and len(data) % 4 == 2:
            restart = _read_restart(data)  # RFC 4724 §3: of several the last one counts
        else:
            unknown.append(item)
    return Capabilities(
        families=tuple(families),
        route_refresh=CapabilityCode.ROUTE_REFRESH in bare,
        extended_next_hops=tuple(next_hops),
        four_octet_asn=asn,
        enhanced_route_refresh=CapabilityCode.ENHANCED_ROUTE_REFRESH in bare,
        extended_messages=CapabilityCode.EXTENDED_MESSAGE in bare,
        graceful_restart=restart,
        unknown=tuple(unknown),
    )


def _read_restart(data: bytes) -> GracefulRestart:
    head = int.from_bytes(data[:2], "big")
    return GracefulRestart(
        restart_time=head & _RESTART_TIME,
        restarting=bool(head & _RESTARTING),
        notifications=bool(head & _NOTIFICATIONS),
        families=tuple(
            RestartFamily(
                Family(int.from_bytes(data[i : i + 2], "big"), data[i + 2]),
                bool(data[i + 3] & _FORWARDING_PRESERVED),
            )
            for i in range(2, len(data), 4)
        ),
    )


def _next_hop_rows(data: bytes) -> list[NextHopEncoding]:
    words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
    return [
        NextHopEncoding(Family(words[i], words[i + 1]), words[i + 2])
        for i in range(0, len(words), 3)
    ]


class AgreedRestart(msgspec.Struct, frozen=True, kw_only=True):
    """Graceful restart as agreed with the peer: both offered it (RFC 4724 §3). Times are seconds.

    Attributes:
        restart_time: How long the peer keeps our routes when we are gone.
        restarting: We said that we come back from a restart.
        forwarding_preserved: Families of which we said that traffic never stopped.
        notifications: Both keep routes after a NOTIFICATION too (RFC 8538 §2).
        peer_restart_time: How long the peer says that its own restart may take.
        peer_restarting: The peer said that it comes back from a restart.
        peer_families: Families whose routes the peer can keep through its own restart.
        peer_forwarding_preserved: Those of them whose traffic it says never stopped.
    """

    restart_time: float
    restarting: bool = False
    forwarding_preserved: tuple[Family, ...] = ()
    notifications: bool = False
    peer_restart_time: float = 0.0
    peer_restarting: bool = False
    peer_families: tuple[Family, ...] = ()
    peer_forwarding_preserved: tuple[Family, ...] = ()


class Negotiated(msgspec.Struct, frozen=True):
    """What holds on a connection once both OPENs are known. Times are seconds; hold 0 is never."""

    peer_asn: int
    peer_router_id: Address
    internal: bool
    four_octet_asn: bool
    hold_time: float
    families: tuple[Family, ...]
    route_refresh: bool
    enhanced_route_refresh: bool
    ipv4_over_ipv6_next_hop: bool
    extended_messages: bool
    restart: AgreedRestart | None
    peer_capabilities: Capabilities


def negotiate(ours: Open, theirs: Open) -> Negotiated:
    """Join two OPENs.

    Raises:
        DecodeError: the peer's identifier is ours on an internal session (RFC 6286 §2.1).
    """
    internal = ours.true_asn == theirs.true_asn
    if internal and theirs.router_id == ours.router_id:  # RFC 6286 §2.1
        raise _open_error(
            f"the peer uses our BGP identifier {ours.router_id}; give one of the two another",
            OpenError.BAD_BGP_IDENTIFIER,
        )
    mine, other = ours.capabilities, theirs.capabilities
    extended = NextHopEncoding(IPV4_UNICAST, Afi.IPV6.value)
    return Negotiated(
        peer_asn=theirs.true_asn,
        peer_router_id=theirs.router_id,
        internal=internal,
        four_octet_asn=mine.four_octet_asn is not None and other.four_octet_asn is not None,
        # RFC 4271 §4.2: the smaller of the two; 0 from either side means no keepalives.
        hold_time=float(min(ours.hold_time, theirs.hold_time)),
        families=tuple(family for family in ours.families if family in theirs.families),
        route_refresh=mine.route_refresh and other.route_refresh,
        enhanced_route_refresh=mine.enhanced_route_refresh and other.enhanced_route_refresh,
        ipv4_over_ipv6_next_hop=extended in mine.extended_next_hops
        and extended in other.extended_next_hops,
        # RFC 8654 §4: who offers it can take long messages, whatever the other side offers.
        extended_messages=other.extended_messages,
        restart=_agree_restart(mine.graceful_restart, other.graceful_restart),
        peer_capabilities=other,
    )


def _agree_restart(
    mine: GracefulRestart | None, other: GracefulRestart | None
) -> AgreedRestart | None:
    if mine is None or other is None:  # RFC 4724 §3: only between two that know the procedures
        return None
    return AgreedRestart(
        restart_time=float(mine.restart_time),
        restarting=mine.restarting,
        forwarding_preserved=_preserved(mine),
        notifications=mine.notifications and other.notifications,  # RFC 8538 §2
        peer_restart_time=float(other.restart_time),
        peer_restarting=other.restarting,
        peer_families=tuple(row.family for row in other.families),
        peer_forwarding_preserved=_preserved(other),
    )


def _preserved(restart: GracefulRestart) -> tuple[Family, ...]:
    return tuple(row.family for row in restart.families if row.forwarding_preserved)


def bad_peer_asn(found: int, wanted: str) -> DecodeError:
    """The peer is another AS than configured (RFC 4271 §6.2)."""
    return _open_error(f"the peer says AS {found}, we expect {wanted}", OpenError.BAD_PEER_AS)


def _open_error(message: str, subcode: OpenError, data: bytes = b"") -> DecodeError:
    return DecodeError(message, ErrorCode.OPEN_MESSAGE, subcode, data)
