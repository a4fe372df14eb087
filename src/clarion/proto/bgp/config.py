"""What a session is told and what it tells: peer configuration, addresses, status.

These values cross the border of the package; `session` and `edge` exchange nothing else.
"""

import enum
from typing import Final

import msgspec

from clarion.base.addr import Address
from clarion.base.limits import BGP_HOLD_SECONDS, BGP_RECONNECT_SECONDS_MAX
from clarion.proto.bgp.iana import BGP_PORT, IPV4_UNICAST, IPV6_UNICAST, Family
from clarion.proto.bgp.open import AgreedRestart, Capabilities


class DynamicAsn(enum.Enum):
    """Peers accepted without naming their ASN."""

    INTERNAL = "internal"
    EXTERNAL = "external"


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One configured peer. All durations are seconds.

    Attributes:
        name: Names the peer in status and routes; unique in a speaker.
        peer_asn: The ASN the peer must have, or the kind of ASN it may have.
        peer_address: None when the peer is unnumbered: whoever is at the other end of `interface`.
        peer_port: Where the peer listens.
        source_address: Local address to speak from; None lets the kernel choose.
        interface: Device towards the peer, to which sockets are bound; empty for none. Needed where
            `peer_address` is None or a link-local one.
        vrf: VRF device to which sockets are bound, listening ones too; empty for none. With
            `interface`, that is a device inside it.
        router_id: Our BGP identifier, an IPv4 address; None takes the speaker's.
        hold_time: Offered in the OPEN, whole seconds; 0 switches keepalives off.
        keepalive_time: Between KEEPALIVEs; None is a third of the negotiated hold time. Never
            longer than that third.
        connect_time: Longest wait between two attempts to connect.
        password: TCP MD5 key (RFC 2385); empty for none.
        ebgp_multihop: An external peer may be more than one hop away.
        ttl_security: Hops that an arriving packet may have travelled (RFC 5082); 0 for any.
        passive: Wait for the peer to connect.
        families: Offered to the peer.
        max_prefixes: More than so many inbound prefixes of one family end the session; 0 for any
            number.
        graceful_restart: Seconds for which the peer is asked to keep our routes while this program
            restarts (RFC 4724); 0 does not offer the capability.
    """

    name: str
    local_asn: int
    peer_asn: int | DynamicAsn
    peer_address: Address | None
    peer_port: int = BGP_PORT
    source_address: Address | None = None
    interface: str = ""
    vrf: str = ""
    router_id: Address | None = None
    hold_time: float = BGP_HOLD_SECONDS
    keepalive_time: float | None = None
    connect_time: float = BGP_RECONNECT_SECONDS_MAX
    password: str = ""
    ebgp_multihop: bool = False
    ttl_security: int = 0
    passive: bool = False
    families: tuple[Family, ...] = (IPV4_UNICAST, IPV6_UNICAST)
    max_prefixes: int = 0
    graceful_restart: float = 0.0

    def __repr__(self) -> str:
        """Never shows the password."""
        shown = (
            f"{name}={'***' if name == 'password' and value else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"PeerConfig({', '.join(shown)})"

    __str__ = __repr__

    @property
    def device(self) -> str:
        """Where our connections to the peer are bound; empty for nowhere."""
        return self.interface or self.vrf

    @property
    def listening_device(self) -> str:
        """Where the socket is bound that the peer's connections come to; empty for nowhere.

        The peers of one VRF share a listener, whatever their interface.
        """
        return self.vrf or self.interface

    @property
    def asn_wanted(self) -> str:
        """The peer's ASN in words."""
        return self.peer_asn.value if isinstance(self.peer_asn, DynamicAsn) else str(self.peer_asn)

    def accepts_asn(self, asn: int) -> bool:
        """May a peer of this ASN be the one configured?"""
        if self.peer_asn is DynamicAsn.INTERNAL:
            return asn == self.local_asn
        if self.peer_asn is DynamicAsn.EXTERNAL:
            return asn != self.local_asn
        return asn == self.peer_asn

    @property
    def maybe_external(self) -> bool:
        """True unless the peer can only be internal."""
        return self.peer_asn is not DynamicAsn.INTERNAL and self.peer_asn != self.local_asn


class ChangeEffect(enum.IntEnum):
    """What a changed configuration does to the session, from nothing to a reset."""

    NONE = 0
    LIVE = 1
    NEXT_SESSION = 2
    RESET = 3


CHANGE_EFFECTS: Final[dict[str, ChangeEffect]] = {
    "name": ChangeEffect.RESET,
    "local_asn": ChangeEffect.RESET,
    "peer_asn": ChangeEffect.RESET,
    "peer_address": ChangeEffect.RESET,
    "peer_port": ChangeEffect.RESET,
    "source_address": ChangeEffect.RESET,
    "interface": ChangeEffect.RESET,
    "vrf": ChangeEffect.RESET,
    "router_id": ChangeEffect.RESET,
    # The hold time is agreed in the OPENs; a new one is offered when a session next comes up.
    "hold_time": ChangeEffect.NEXT_SESSION,
    "keepalive_time": ChangeEffect.LIVE,
    "connect_time": ChangeEffect.LIVE,
    "password": ChangeEffect.RESET,
    "ebgp_multihop": ChangeEffect.RESET,
    "ttl_security": ChangeEffect.RESET,
    "passive": ChangeEffect.LIVE,
    "families": ChangeEffect.RESET,
    "max_prefixes": ChangeEffect.LIVE,
    # A capability, offered like the hold time.
    "graceful_restart": ChangeEffect.NEXT_SESSION,
}
"""What a change of each field does; `plan` shows it to the user before it happens."""


def change_effect(old: PeerConfig, new: PeerConfig) -> ChangeEffect:
    """The strongest effect among the fields that differ."""
    return max(
        (
            effect
            for field, effect in CHANGE_EFFECTS.items()
            if getattr(old, field) != getattr(new, field)
        ),
        default=ChangeEffect.NONE,
    )


class Direction(enum.Enum):
    """Who opened a connection."""

    OUTGOING = "outgoing"
    INCOMING = "incoming"


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of a connection, and what this host can offer as next hops on its link.

    `router_id` is the identifier to use when the peer's configuration names none.
    """

    local: Address
    remote: Address
    local_port: int = 0
    remote_port: int = 0
    next_hop_ipv4: Address | None = None
    next_hop_ipv6: Address | None = None
    router_id: Address


class MessageCounts(msgspec.Struct, frozen=True):
    """Messages by type, and prefixes inside UPDATEs, since the peer was configured."""

    opens: int = 0
    updates: int = 0
    notifications: int = 0
    keepalives: int = 0
    route_refreshes: int = 0
    total: int = 0


class FamilyStatus(msgspec.Struct, frozen=True):
    """Whether routes of a family are sent, and if not, why. `next_hop` is what they carry."""

    family: Family
    sent: bool
    reason: str = ""
    next_hop: Address | None = None


class InboundStatus(msgspec.Struct, frozen=True):
    """What the peer announces of a family; nothing of it is used.

    Attributes:
        prefixes: Announced now; `more` when they are no longer counted one by one.
        limit: More than so many end the session; 0 for any number.
        warning: Three quarters of the limit are reached.
        complete: The peer has said that its first transfer is over (End-of-RIB, RFC 4724 §2).
    """

    family: Family
    prefixes: int = 0
    more: bool = False
    limit: int = 0
    warning: bool = False
    complete: bool = False


class State(enum.IntEnum):
    """States of RFC 4271 §8.2.2, numbered as in the BGP MIB."""

    IDLE = 1
    CONNECT = 2
    ACTIVE = 3
    OPEN_SENT = 4
    OPEN_CONFIRM = 5
    ESTABLISHED = 6

    def __str__(self) -> str:
        """As operators know it, for example `OpenConfirm`."""
        return self.name.title().replace("_", "")


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One session at one moment. Moments (`since`, `..._at`) are on the clock that drives it.

    Attributes:
        peer_address: As configured; None for an unnumbered peer, which is named by `interface`.
        last_error: Why there is no session now, or why the last one ended.
        last_notification_sent: The last one in words, as is `last_notification_received`.
        faults: UPDATEs whose faults did not end the session (RFC 7606), `last_fault` the last ones.
        established_count: How often the session was established.
        flaps: How often it was lost again, for whatever reason.
        time_to_established: Seconds from the start, or from the last loss, until the session was
            established the last time.
        our_capabilities: What our OPEN on the present connection offers.
        peer_capabilities: What the peer's OPEN offered.
        route_refresh: The peer may ask for all routes again (RFC 2918).
        enhanced_route_refresh: They then come between markers (RFC 7313).
        extended_messages: Messages to the peer may be longer than 4,096 octets (RFC 8654).
        restart: Graceful restart as agreed; None when one side does not offer it.
        families: What is sent, and `inbound` what is received.
    """

    name: str
    peer_address: Address | None
    peer_port: int
    interface: str = ""
    vrf: str = ""
    state: State
    since: float
    last_error: str = ""
    last_error_at: float | None = None
    last_notification_sent: str = ""
    last_notification_sent_at: float | None = None
    last_notification_received: str = ""
    last_notification_received_at: float | None = None
    faults: int = 0
    last_fault: str = ""
    established_count: int = 0
    flaps: int = 0
    time_to_established: float | None = None
    local_address: Address | None = None
    local_port: int = 0
    remote_address: Address | None = None
    remote_port: int = 0
    local_router_id: Address | None = None
    remote_router_id: Address | None = None
    remote_asn: int | None = None
    internal: bool = False
    hold_time: float | None = None
    keepalive_time: float | None = None
    our_capabilities: Capabilities | None = None
    peer_capabilities: Capabilities | None = None
    route_refresh: bool = False
    enhanced_route_refresh: bool = False
    extended_messages: bool = False
    restart: AgreedRestart | None = None
    families: tuple[FamilyStatus, ...] = ()
    inbound: tuple[InboundStatus, ...] = ()
    prefixes_announced: int = 0
    prefixes_pending: int = 0
    prefixes_refused: int = 0
    prefixes_received: int = 0
    prefixes_received_more: bool = False
    sent: MessageCounts = MessageCounts()
    received: MessageCounts = MessageCounts()
