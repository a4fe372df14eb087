"""The metrics of BGP sessions, alike for all back ends, under MetalLB's names and our own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from clarion.decide.sessions import why_down
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.model.sessions import BGPSessionStatus, SessionPrefixes
from clarion.proto.bgp.config import MessageCounts, State

DEFAULT_VRF: Final = "default"
"""How MetalLB's metrics, and FRR, name the VRF that has no name."""

Labels: TypeAlias = tuple[str, str]
"""The labels `peer` and `vrf`."""

_NUMBERS = {str(state): state.value for state in State}


def peer_label(peer: Peer) -> str:
    """Address and port of the peer, as MetalLB labels its metrics; or its interface."""
    if peer.address is None:
        return peer.interface
    host = f"[{peer.address}]" if peer.address.version == 6 else str(peer.address)
    return f"{host}:{peer.port}"


def session_labels(peers: Mapping[str, Peer]) -> dict[str, Labels]:
    """Peer -> the labels of its session, no two alike."""
    return distinct(
        {name: (peer_label(peer), peer.vrf or DEFAULT_VRF) for name, peer in peers.items()}
    )


def distinct(wanted: Mapping[str, Labels]) -> dict[str, Labels]:
    """BGPPeer -> labels; those that would be alike have the name of the BGPPeer besides.

    Two sessions may lead to one address, from two of ours or over two links. Of one series that
    comes twice Prometheus would refuse all that the program tells.
    """
    uses = Counter(wanted.values())
    return {
        name: (f"{peer} ({name})" if uses[peer, vrf] > 1 else peer, vrf)
        for name, (peer, vrf) in wanted.items()
    }


def session_samples(report: BGPSessionStatus, labels: Labels) -> Iterator[metrics.Sample]:
    """What the report of a session tells; what it does not know gives no sample."""
    yield metrics.BGP_SESSION_UP.sample(report.up, *labels)
    if number := _NUMBERS.get(report.state):
        yield metrics.BGP_STATE.sample(number, *labels)
    counts = report.prefixes or SessionPrefixes()
    for family, value in (
        (metrics.BGP_ESTABLISHED, report.established),
        (metrics.BGP_FLAPS, report.flaps),
        (metrics.BGP_ANNOUNCED, counts.announced),
        (metrics.BGP_PENDING, counts.pending),
        (metrics.BGP_REFUSED, counts.refused),
        (metrics.BGP_RECEIVED, counts.received),
        (metrics.BGP_NEAR_LIMIT, counts.near_limit),
    ):
        if value is not None:
            yield family.sample(value, *labels)
    if report.time_to_established is not None:
        yield metrics.BGP_ESTABLISH_SECONDS.sample(report.time_to_established / 1000, *labels)
    if why := why_down(report):
        yield metrics.BGP_WHY_DOWN.sample(1, *labels, why.code)


def message_samples(
    sent: MessageCounts, received: MessageCounts, labels: Labels
) -> Iterator[metrics.Sample]:
    """Messages of a session, by type and direction."""
    for family, value in (
        (metrics.BGP_OPENS_SENT, sent.opens),
        (metrics.BGP_OPENS_RECEIVED, received.opens),
        (metrics.BGP_NOTIFICATIONS_SENT, sent.notifications),
        (metrics.BGP_NOTIFICATIONS_RECEIVED, received.notifications),
        (metrics.BGP_UPDATES, sent.updates),
        (metrics.BGP_UPDATES_RECEIVED, received.updates),
        (metrics.BGP_KEEPALIVES_SENT, sent.keepalives),
        (metrics.BGP_KEEPALIVES_RECEIVED, received.keepalives),
        (metrics.BGP_REFRESHES_SENT, sent.route_refreshes),
        (metrics.BGP_REFRESHES_RECEIVED, received.route_refreshes),
        (metrics.BGP_TOTAL_SENT, sent.total),
        (metrics.BGP_TOTAL_RECEIVED, received.total),
    ):
        yield family.sample(value, *labels)
