"""From decisions to what the BGP sessions take: settled peers and advertised routes."""

import msgspec

from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.settings import Peer
from clarion.proto.bgp.attrs import LargeCommunity
from clarion.proto.bgp.config import DynamicAsn, PeerConfig
from clarion.proto.bgp.iana import IPV4_UNICAST, IPV6_UNICAST
from clarion.proto.bgp.routes import Route

WEIGHT_OCTETS_PER_SECOND = 125_000
"""The bandwidth that stands for one endpoint: 1 Mbit/s, the unit in which FRR counts it."""

RESTART_SECONDS = 120.0
"""For so long peers are asked to keep the routes of a speaker that restarts, as FRR asks them."""

_FAMILIES = ((4, IPV4_UNICAST), (6, IPV6_UNICAST))


def peer_config(peer: Peer) -> PeerConfig:
    """A peer as a session takes it; what the user left open gets the session's default."""
    config = PeerConfig(
        name=peer.name,
        local_asn=peer.local_asn or peer.my_asn,
        peer_asn=DynamicAsn(peer.dynamic_asn) if peer.dynamic_asn else peer.peer_asn,
        peer_address=peer.address,
        peer_port=peer.port,
        source_address=peer.source_address,
        interface=peer.interface,
        vrf=peer.vrf,
        router_id=peer.router_id,
        keepalive_time=peer.keepalive_time,
        password=peer.password,
        ebgp_multihop=peer.ebgp_multihop,
        ttl_security=peer.ttl_security,
        max_prefixes=peer.max_prefixes,
        graceful_restart=RESTART_SECONDS if peer.graceful_restart else 0.0,
        passive=peer.passive,
        families=tuple(family for version, family in _FAMILIES if version in peer.families),
    )
    if peer.hold_time is not None:
        config = msgspec.structs.replace(config, hold_time=peer.hold_time)
    if peer.connect_time is not None:
        config = msgspec.structs.replace(config, connect_time=peer.connect_time)
    return config


def bgp_route(route: AdvertisedRoute) -> Route:
    """A route as a session takes it."""
    large = tuple(LargeCommunity(*parts) for parts in route.large_communities)
    return Route(
        route.prefix,
        route.local_pref,
        route.communities,
        large,
        route.extended_communities,
        float(route.weight * WEIGHT_OCTETS_PER_SECOND),
    )
