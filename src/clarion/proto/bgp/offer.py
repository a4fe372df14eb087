"""What we offer to a peer, and what may be sent to it once both OPENs are known."""

from clarion.base.limits import BGP_EXTENDED_MESSAGE_BYTES, BGP_MESSAGE_BYTES
from clarion.proto.bgp.config import Endpoints, FamilyStatus, PeerConfig
from clarion.proto.bgp.iana import IPV4_UNICAST, MAX_HOLD_TIME, Afi, Family
from clarion.proto.bgp.open import (
    Capabilities,
    GracefulRestart,
    Negotiated,
    NextHopEncoding,
    Open,
    make_open,
)
from clarion.proto.bgp.routes import Terms


def our_open(config: PeerConfig, ends: Endpoints, restart: GracefulRestart | None) -> Open:
    """The OPEN for a connection between these ends."""
    next_hops: tuple[NextHopEncoding, ...] = ()
    if ends.local.version == 6 and IPV4_UNICAST in config.families:
        next_hops = (NextHopEncoding(IPV4_UNICAST, Afi.IPV6.value),)
    offer = Capabilities(
        families=config.families,
        route_refresh=True,
        extended_next_hops=next_hops,
        enhanced_route_refresh=True,
        extended_messages=True,
        graceful_restart=restart,
    )
    router_id = config.router_id or ends.router_id
    hold_time = min(int(config.hold_time), MAX_HOLD_TIME)
    return make_open(config.local_asn, hold_time, router_id, offer)


def keepalive_time(config: PeerConfig, agreed: Negotiated) -> float:
    """Seconds between KEEPALIVEs."""
    third = agreed.hold_time / 3  # RFC 4271 §4.4: not more than a third of the hold time
    wanted = config.keepalive_time
    return min(third, wanted) if wanted else third


def terms(config: PeerConfig, agreed: Negotiated, rows: tuple[FamilyStatus, ...]) -> Terms:
    """How routes are written to this peer; `rows` say which families are sent."""
    sent = ((row.family, row.next_hop) for row in rows if row.sent)
    return Terms(
        local_asn=config.local_asn,
        internal=agreed.internal,
        four_octet_asn=agreed.four_octet_asn,
        next_hops=tuple((family, hop) for family, hop in sent if hop is not None),
        # RFC 8654 §4: only to a peer that offers to take them.
        message_bytes=BGP_EXTENDED_MESSAGE_BYTES if agreed.extended_messages else BGP_MESSAGE_BYTES,
    )


def _takes_link_local(family: Family, agreed: Negotiated) -> bool:
    return family != IPV4_UNICAST or agreed.ipv4_over_ipv6_next_hop  # RFC 8950 §4


def family_status(family: Family, agreed: Negotiated, ends: Endpoints) -> FamilyStatus:
    """Can routes of a family be sent on a connection, and with which next hop?"""
    if family not in agreed.families:
        return FamilyStatus(family, sent=False, reason="the peer did not offer this family")
    local = ends.local
    if local.version == 6 and local.is_link_local and _takes_link_local(family, agreed):
        # RFC 2545 §3: the link-local address, which is all that the two ends have in common when
        # peers are unnumbered; as the only one, for a global one of ours says nothing to the peer.
        return FamilyStatus(family, sent=True, next_hop=local)
    if family == IPV4_UNICAST:
        hop = local if local.version == 4 else ends.next_hop_ipv4
        if hop is None and agreed.ipv4_over_ipv6_next_hop:  # RFC 8950 §4
            hop = ends.next_hop_ipv6
        wanted = "an IPv4 address, and the peer takes no IPv6 next hop for IPv4"
    else:
        own = local.version == 6 and not local.is_link_local
        hop = local if own else ends.next_hop_ipv6
        wanted = "a global IPv6 address"
    if hop is None:
        reason = f"no next hop: the interface of {local} lacks {wanted}"
        return FamilyStatus(family, sent=False, reason=reason)
    return FamilyStatus(family, sent=True, next_hop=hop)
