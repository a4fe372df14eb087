"""What frr-k8s is asked for on one node: peers, routes and BFD profiles as an FRRConfiguration.

Order and form are MetalLB's, so that nothing is rewritten when one program replaces the other. Two
fields that MetalLB leaves out are written: `sourceaddress` and `localASN`.
"""

from collections.abc import Iterable, Mapping

import msgspec

from clarion.base.addr import Prefix
from clarion.base.duration import format_duration
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.communities import format_community
from clarion.decide.settings import Peer
from clarion.model import frrk8s
from clarion.model.annotations import LABEL_HOSTNAME
from clarion.model.meta import LabelSelector
from clarion.model.metallb import BFDProfileSpec
from clarion.model.sessions import BGPSessionStatus, SessionBFD

Routes = Mapping[Prefix, AdvertisedRoute]


def configuration_name(node: str) -> str:
    """Name of the object of a node."""
    return f"metallb-{node}"


def build_spec(
    hostname: str,
    peers: Mapping[str, Peer],
    routes: Mapping[str, Routes],
    profiles: Mapping[str, BFDProfileSpec],
    secrets: str,
) -> frrk8s.FRRConfigurationSpec:
    """The specification for one node.

    Args:
        hostname: The node's label kubernetes.io/hostname.
        peers: The peers of the node, by name.
        routes: What each of them is told, by name; peers that are told nothing may be missing.
        profiles: BFD profiles, by name.
        secrets: The namespace of the Secrets that frr-k8s can read and in which those of peers
            are, too; empty: they are elsewhere, and passwords are written in clear.
    """
    routers: dict[tuple[int, str, str], list[Peer]] = {}
    for peer in peers.values():
        key = peer.my_asn, str(peer.router_id or ""), peer.vrf
        routers.setdefault(key, []).append(peer)
    told = _Told(routes)
    found = {
        "@".join(map(str, key)): frrk8s.Router(
            asn=key[0],
            id=key[1],
            vrf=key[2],
            neighbors=tuple(_neighbor(peer, told, secrets) for peer in sorted(group, key=_order)),
            prefixes=told.prefixes(group),
        )
        for key, group in routers.items()
    }
    return frrk8s.FRRConfigurationSpec(
        node_selector=LabelSelector(match_labels={LABEL_HOSTNAME: hostname}),
        bgp=frrk8s.BGPConfig(
            routers=tuple(found[name] for name in sorted(found)),
            bfd_profiles=tuple(_profile(name, profiles[name]) for name in sorted(profiles)),
        ),
    )


class _Told:
    """What peers are told, as text; each prefix is written out once, however many hear of it."""

    def __init__(self, routes: Mapping[str, Routes]) -> None:
        self._routes = routes
        self._texts = {prefix: str(prefix) for items in routes.values() for prefix in items}

    def prefixes(self, peers: Iterable[Peer]) -> tuple[str, ...]:
        """What at least one of the peers is told."""
        found = {prefix for peer in peers for prefix in self._routes.get(peer.name, ())}
        return tuple(sorted(self._texts[prefix] for prefix in found))

    def advertise(self, peer: Peer) -> frrk8s.Advertise:
        """What a peer is told, and with which attributes."""
        by_pref: dict[int, list[str]] = {}
        by_community: dict[str, list[str]] = {}
        allowed = []
        for prefix, route in self._routes.get(peer.name, {}).items():
            text = self._texts[prefix]
            allowed.append(text)
            if route.local_pref:
                by_pref.setdefault(route.local_pref, []).append(text)
            large = (f"large:{format_community(item)}" for item in route.large_communities)
            for community in (*map(format_community, route.communities), *large):
                by_community.setdefault(community, []).append(text)
        return frrk8s.Advertise(
            allowed=frrk8s.AllowedOut(prefixes=tuple(sorted(allowed))),
            with_local_pref=tuple(
                frrk8s.LocalPrefPrefixes(local_pref=value, prefixes=tuple(sorted(by_pref[value])))
                for value in sorted(by_pref)
            ),
            with_community=tuple(
                frrk8s.CommunityPrefixes(community=text, prefixes=tuple(sorted(by_community[text])))
                for text in sorted(by_community)
            ),
        )


def _order(peer: Peer) -> str:
    """By what MetalLB sorts neighbours."""
    asn = peer.dynamic_asn or peer.peer_asn
    text = f"{asn}@{peer.target}-{peer.my_asn}@{peer.source_address or ''}"
    return f"{text}/{peer.vrf}" if peer.vrf else text


def _neighbor(peer: Peer, told: _Told, secrets: str) -> frrk8s.Neighbor:
    by_reference = bool(peer.password_secret and secrets)
    reference = frrk8s.SecretReference()
    if by_reference:
        reference = frrk8s.SecretReference(name=peer.password_secret, namespace=secrets)
    return frrk8s.Neighbor(
        asn=peer.peer_asn,
        dynamic_asn=peer.dynamic_asn,
        local_asn=peer.local_asn,
        sourceaddress=str(peer.source_address or ""),
        address=str(peer.address or ""),
        interface=peer.interface,
        port=peer.port,
        password="" if by_reference else peer.password,
        password_secret=reference,
        hold_time=_duration(peer.hold_time),
        keepalive_time=_duration(peer.keepalive_time),
        connect_time=_duration(peer.connect_time),
        ebgp_multi_hop=peer.ebgp_multihop,
        bfd_profile=peer.bfd_profile,
        enable_graceful_restart=peer.graceful_restart,
        to_advertise=told.advertise(peer),
        # Over an unnumbered session FRR carries both families anyway.
        dual_stack_address_family=peer.address is not None and len(peer.families) > 1,
    )


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else format_duration(seconds)


def _profile(name: str, spec: BFDProfileSpec) -> frrk8s.BFDProfile:
    given = msgspec.structs.asdict(spec)
    given |= {"echo_mode": bool(spec.echo_mode), "passive_mode": bool(spec.passive_mode)}
    return frrk8s.BFDProfile(name=name, **given)


# --- what frr-k8s tells -------------------------------------------------------------------------


def session_states(
    peers: Mapping[str, Peer], reported: Iterable[frrk8s.BGPSessionStateStatus]
) -> dict[str, frrk8s.BGPSessionStateStatus]:
    """Peer -> how its session stands, of the peers of which that is told.

    Args:
        peers: The peers of the node, by name.
        reported: What is told of the sessions of the node.
    """
    known = {(item.peer, item.vrf): item for item in reported if item.bgp_status}
    places = {name: (_label_form(peer), peer.vrf) for name, peer in sorted(peers.items())}
    return {name: known[place] for name, place in places.items() if place in known}


def session_report(peer: Peer, told: frrk8s.BGPSessionStateStatus) -> BGPSessionStatus:
    """The same in the words of all back ends."""
    return BGPSessionStatus(
        node=told.node,
        peer=peer.name,
        vrf=peer.vrf,
        state=told.bgp_status,
        remote_address=peer.target,
        bfd=None if told.bfd_status in _NO_BFD else SessionBFD(state=told.bfd_status.lower()),
    )


_NO_BFD = ("", "N/A")


def _label_form(peer: Peer) -> str:
    """How frr-k8s names the peer: a label cannot hold a colon, nor end with its substitute."""
    address = peer.address
    if address is None or address.version == 4:
        return peer.target
    digits = f"{address.value:032x}"
    return "-".join(digits[at : at + 4] for at in range(0, 32, 4))
