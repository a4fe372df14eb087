"""How sessions stand, in the one vocabulary of all back ends: from our own machine, and from FRR.

What a back end does not know stays empty.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from clarion.base.ports import Clock
from clarion.decide.settings import Peer
from clarion.model.sessions import (
    BGPSessionStatus,
    SessionBFD,
    SessionCapabilities,
    SessionEvent,
    SessionFamily,
    SessionPrefixes,
)
from clarion.proto.bfd.config import BfdStatus
from clarion.proto.bgp.config import MessageCounts, SessionStatus
from clarion.proto.bgp.open import Capabilities

When = Callable[[str, float | None], str]
"""A name for a moment and the moment, on the monotonic clock -> the moment as text."""


def rfc3339(moment: datetime) -> str:
    """A moment as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Moments:
    """Moments of the monotonic clock as texts. A moment keeps its text, however clocks drift."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, str]] = {}

    def of(self, peer: str) -> When:
        """The texts of one peer's moments."""

        def when(name: str, moment: float | None) -> str:
            if moment is None:
                return ""
            known = self._known.get((peer, name))
            if known is None or known[0] != moment:
                age = timedelta(seconds=self._clock.monotonic() - moment)
                known = self._known[peer, name] = moment, rfc3339(self._clock.now() - age)
            return known[1]

        return when

    def keep(self, peers: Iterable[str]) -> None:
        """Forget the moments of all other peers."""
        wanted = set(peers)
        self._known = {slot: item for slot, item in self._known.items() if slot[0] in wanted}


def _event(text: str, time: str) -> SessionEvent | None:
    return SessionEvent(text=text, time=time) if text else None


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


# --- our own sessions ---------------------------------------------------------------------------


def native_report(
    node: str, status: SessionStatus, bfd: BfdStatus | None, when: When
) -> BGPSessionStatus:
    """A session of our own machine."""
    return BGPSessionStatus(
        node=node,
        peer=status.name,
        vrf=status.vrf,
        state=str(status.state),
        since=when("since", status.since),
        local_address=str(status.local_address or ""),
        remote_address=str(status.remote_address or status.peer_address or status.interface),
        remote_asn=status.remote_asn,
        local_router_id=str(status.local_router_id or ""),
        remote_router_id=str(status.remote_router_id or ""),
        hold_time=_ms(status.hold_time),
        keepalive_time=_ms(status.keepalive_time),
        families=tuple(
            SessionFamily(
                family=str(row.family),
                sent=row.sent,
                next_hop=str(row.next_hop or ""),
                reason=row.reason,
            )
            for row in status.families
        ),
        capabilities=_capabilities(status),
        prefixes=SessionPrefixes(
            announced=status.prefixes_announced,
            pending=status.prefixes_pending,
            refused=status.prefixes_refused,
            received=status.prefixes_received,
            near_limit=any(row.warning for row in status.inbound),
        ),
        bfd=native_bfd(bfd, when),
        last_error=_event(status.last_error, when("error", status.last_error_at)),
        notification_sent=_event(
            status.last_notification_sent, when("sent", status.last_notification_sent_at)
        ),
        notification_received=_event(
            status.last_notification_received,
            when("received", status.last_notification_received_at),
        ),
        established=status.established_count,
        flaps=status.flaps,
        time_to_established=_ms(status.time_to_established),
    )


def native_bfd(status: BfdStatus | None, when: When) -> SessionBFD | None:
    """The BFD session that the pulse process runs; None: none is."""
    if status is None:
        return None
    return SessionBFD(
        state=status.state.name.lower().replace("_", "-"),
        diagnostic=status.trouble or status.diagnostic or status.remote_diagnostic,
        last_down=_event(status.last_down, when("path", status.last_down_at)),
        transmit_interval=_ms(status.transmit_interval),
        receive_interval=_ms(status.receive_interval),
        detection_time=_ms(status.detection_time),
    )


def _capabilities(status: SessionStatus) -> SessionCapabilities | None:
    ours, peer = status.our_capabilities, status.peer_capabilities
    if ours is None and peer is None:
        return None
    agreed = {
        "4-octet-asn": bool(ours and peer and ours.four_octet_asn and peer.four_octet_asn),
        "route-refresh": status.route_refresh,
        "enhanced-route-refresh": status.enhanced_route_refresh,
        "extended-messages": status.extended_messages,
        "extended-next-hop": bool(
            ours and peer and {*ours.extended_next_hops} & {*peer.extended_next_hops}
        ),
    }
    names = [str(row.family) for row in status.families if row.sent]
    names += [name for name, holds in agreed.items() if holds and peer]
    if status.restart:
        names.append(f"graceful-restart {status.restart.restart_time:.0f}s")
    return SessionCapabilities(ours=_offered(ours), peer=_offered(peer), agreed=tuple(names))


def _offered(offer: Capabilities | None) -> tuple[str, ...]:
    if offer is None:
        return ()
    restart = offer.graceful_restart
    flags = {
        "4-octet-asn": offer.four_octet_asn is not None,
        "route-refresh": offer.route_refresh,
        "enhanced-route-refresh": offer.enhanced_route_refresh,
        "extended-messages": offer.extended_messages,
        "extended-next-hop": bool(offer.extended_next_hops),
    }
    names = [str(family) for family in offer.families]
    names += [name for name, holds in flags.items() if holds]
    names += [f"graceful-restart {restart.restart_time}s"] if restart else []
    return (*names, *(f"code {item.code}" for item in offer.unknown))


# --- FRR's sessions -----------------------------------------------------------------------------


class FrrSession(msgspec.Struct, frozen=True):
    """What FRR tells of a session: its report, and what only metrics show."""

    report: BGPSessionStatus
    reason: str
    sent: MessageCounts
    received: MessageCounts


def frr_session(
    node: str, peer: Peer, entry: Mapping[str, Any], bfd: Mapping[str, Any], when: When, now: float
) -> FrrSession:
    """A session as `show bgp neighbors json` has it.

    Args:
        node: The node.
        peer: What was asked for.
        entry: FRR's words about the neighbour.
        bfd: Its entry in `show bfd peers json`; empty: none.
        when: Texts of moments.
        now: Monotonic seconds at which FRR was asked.
    """
    stats = entry.get("messageStats", {})
    why, told = entry.get("lastResetDueTo", ""), entry.get("lastNotificationReason", "")
    reason = ": ".join(filter(None, (why, told)))
    established = entry.get("connectionsEstablished", 0)
    dropped = entry.get("connectionsDropped", 0)
    up = entry.get("bgpState") == "Established"
    # FRR tells ages, whose beginnings would wander by a second at each look.
    age = entry.get("bgpTimerUpMsec" if up else "lastResetTimerMsecs")
    since = "" if age is None else when(f"{up} {established} {dropped}", _whole(now - age / 1000))
    families = entry.get("addressFamilyInfo", {})
    report = BGPSessionStatus(
        node=node,
        peer=peer.name,
        vrf=peer.vrf,
        state=entry.get("bgpState", "Idle"),
        since=since,
        local_address=_known(entry.get("hostLocal")),
        remote_address=_known(entry.get("hostForeign")) or peer.target,
        remote_asn=entry.get("remoteAs") or None,
        local_router_id=_known(entry.get("localRouterId")),
        remote_router_id=_known(entry.get("remoteRouterId")),
        hold_time=entry.get("bgpTimerHoldTimeMsecs") if up else None,
        keepalive_time=entry.get("bgpTimerKeepAliveIntervalMsecs") if up else None,
        families=_frr_families(peer, entry) if up else (),
        capabilities=_frr_capabilities(entry) if up else None,
        prefixes=SessionPrefixes(
            announced=sum(row.get("sentPrefixCounter", 0) for row in families.values()),
            received=sum(row.get("acceptedPrefixCounter", 0) for row in families.values()),
        ),
        bfd=frr_bfd(bfd),
        last_error=_event(reason, "" if up else since),
        notification_sent=_event(told if why.endswith("send") else "", ""),
        notification_received=_event(told if why.endswith("received") else "", ""),
        established=established,
        flaps=dropped,
    )
    return FrrSession(report, reason, _frr_counts(stats, "Sent"), _frr_counts(stats, "Recv"))


def _whole(moment: float) -> float:
    return float(round(moment))


_FAMILIES = {4: ("ipv4Unicast", "ipv4-unicast"), 6: ("ipv6Unicast", "ipv6-unicast")}
_FRR_CAPABILITIES = {
    "4byteAs": "4-octet-asn",
    "routeRefresh": "route-refresh",
    "enhancedRouteRefresh": "enhanced-route-refresh",
    "extendedMessage": "extended-messages",
    "extendedNexthop": "extended-next-hop",
    "gracefulRestart": "graceful-restart",
    "gracefulRestartCapability": "graceful-restart",
}


def _frr_families(peer: Peer, entry: Mapping[str, Any]) -> tuple[SessionFamily, ...]:
    """What goes over a session: what was asked for and the other side offered."""
    offers = entry.get("neighborCapabilities", {}).get("multiprotocolExtensions", {})
    received = {
        name
        for name, ways in offers.items()
        if isinstance(ways, Mapping) and (ways.get("advertisedAndReceived") or ways.get("received"))
    }
    rows = []
    for version, (key, name) in _FAMILIES.items():
        why = ""
        if version not in peer.families:
            why = "FRR carries that of the peer's address alone without dualStackAddressFamily"
        # A peer that offers no family at all takes IPv4, as every speaker did once.
        elif key not in (received or {"ipv4Unicast"}):
            why = "the peer did not offer this family"
        rows.append(SessionFamily(family=name, sent=not why, reason=why))
    return tuple(rows)


def _frr_capabilities(entry: Mapping[str, Any]) -> SessionCapabilities:
    ours, peer = [], []
    for key, value in entry.get("neighborCapabilities", {}).items():
        name = _FRR_CAPABILITIES.get(key)
        words = value.lower() if isinstance(value, str) else ""
        if name is None or not words:
            continue
        both = "advertisedandreceived" in words.replace(" ", "")
        ours += [name] if both or "advertised" in words else []
        peer += [name] if both or "received" in words else []
    agreed = tuple(name for name in ours if name in peer)
    return SessionCapabilities(ours=tuple(ours), peer=tuple(peer), agreed=agreed)


def _frr_counts(stats: Mapping[str, int], way: str) -> MessageCounts:
    return MessageCounts(
        opens=stats.get(f"opens{way}", 0),
        updates=stats.get(f"updates{way}", 0),
        notifications=stats.get(f"notifications{way}", 0),
        keepalives=stats.get(f"keepalives{way}", 0),
        route_refreshes=stats.get(f"routeRefresh{way}", 0),
        total=stats.get(f"total{way}", 0),
    )


def frr_bfd(entry: Mapping[str, Any]) -> SessionBFD | None:
    """A session of FRR's bfdd; None where there is no entry."""
    if not entry:
        return None
    state = entry.get("status", "")
    detection = entry.get("detect-multiplier", 0) * entry.get("remote-transmit-interval", 0)
    words = [entry.get("diagnostic", ""), entry.get("remote-diagnostic", "")]
    return SessionBFD(
        state="admin-down" if state == "shutdown" else state,
        diagnostic=next((word for word in words if word not in ("", "ok")), ""),
        transmit_interval=entry.get("transmit-interval"),
        receive_interval=entry.get("remote-transmit-interval"),
        detection_time=detection or None,
    )


_UNKNOWN = ("Unknown", "0.0.0.0")  # noqa: S104 - FRR's words for what it does not know


def _known(text: str | None) -> str:
    return "" if text is None or text in _UNKNOWN else text
