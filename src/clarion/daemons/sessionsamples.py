"""The metrics of BGP sessions, alike for all back ends, under MetalLB's names and our own."""

from collections.abc import Iterator

from clarion.decide.sessions import why_down
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.model.sessions import BGPSessionStatus, SessionPrefixes
from clarion.proto.bgp.config import MessageCounts, State

_NUMBERS = {str(state): state.value for state in State}


def peer_label(peer: Peer) -> str:
    """Address and port of the peer, as MetalLB labels its metrics; or its interface."""
    if peer.address is None:
        return peer.interface
    host = f"[{peer.address}]" if peer.address.version == 6 else str(peer.address)
    return f"{host}:{peer.port}"


def session_samples(report: BGPSessionStatus, label: str) -> Iterator[metrics.Sample]:
    """What the report of a session tells; what it does not know gives no sample."""
    yield metrics.BGP_SESSION_UP.sample(report.up, label)
    if number := _NUMBERS.get(report.state):
        yield metrics.BGP_STATE.sample(number, label)
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
            yield family.sample(value, label)
    if report.time_to_established is not None:
        yield metrics.BGP_ESTABLISH_SECONDS.sample(report.time_to_established / 1000, label)
    if why := why_down(report):
        yield metrics.BGP_WHY_DOWN.sample(1, label, why.code)


def message_samples(
    sent: MessageCounts, received: MessageCounts, label: str
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
        yield family.sample(value, label)
