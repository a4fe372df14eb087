"""What happened to a session: kept while it runs, told by its status."""

from clarion.proto.bgp.adjin import AdjIn
from clarion.proto.bgp.adjout import AdjOut
from clarion.proto.bgp.config import (
    FamilyStatus,
    MessageCounts,
    PeerConfig,
    SessionStatus,
    State,
)
from clarion.proto.bgp.connection import Connection, Counter
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.notify import Notification, describe
from clarion.proto.bgp.update import Update


class Account:
    """The history of one session. Moments are on the clock that drives it."""

    def __init__(self, now: float) -> None:
        self.sent, self.received = Counter(), Counter()
        self.state, self.since = State.IDLE, now
        self._error: tuple[str, float | None] = ("", None)
        self._notified: tuple[str, float | None] = ("", None)
        self._heard: tuple[str, float | None] = ("", None)
        self._faults, self._last_fault = 0, ""
        self._established_count = self._flaps = 0
        self._down_since = self._up_since = now
        self._time_to_established: float | None = None

    def started(self, now: float) -> None:
        """The session may be established from now on."""
        self._down_since = now

    def moved(self, state: State, now: float) -> State:
        """The session is in another state; returns the one before."""
        before, self.state, self.since = self.state, state, now
        return before

    def error(self, reason: str, now: float) -> None:
        """Something went wrong."""
        self._error = (reason, now)

    def notified(self, notification: Notification, now: float) -> None:
        """We send a NOTIFICATION."""
        self._notified = (describe(notification), now)

    def heard(self, notification: Notification, now: float) -> None:
        """The peer sent one."""
        self._heard = (describe(notification), now)

    def update_read(self, update: Update) -> None:
        """An UPDATE arrived; its faults did not end the session (RFC 7606 §8: tell of them)."""
        if update.faults:
            self._faults += 1
            self._last_fault = "; ".join(fault.message for fault in update.faults)

    def up(self, now: float) -> None:
        """The session is established."""
        self._established_count += 1
        self._time_to_established = now - self._down_since
        self._up_since = now

    def down(self, now: float) -> float:
        """It was established; returns for how long."""
        self._flaps += 1
        self._down_since = now
        return now - self._up_since

    def status(
        self,
        config: PeerConfig,
        line: Connection,
        families: tuple[FamilyStatus, ...],
        adj_out: AdjOut,
        adj_in: AdjIn,
    ) -> SessionStatus:
        """The session as it stands; `line` is the furthest of its connections."""
        ends, ours, agreed = line.endpoints, line.our_open, line.negotiated
        return SessionStatus(
            name=config.name,
            peer_address=config.peer_address,
            peer_port=config.peer_port,
            interface=config.interface,
            vrf=config.vrf,
            state=self.state,
            since=self.since,
            last_error=self._error[0],
            last_error_at=self._error[1],
            last_notification_sent=self._notified[0],
            last_notification_sent_at=self._notified[1],
            last_notification_received=self._heard[0],
            last_notification_received_at=self._heard[1],
            faults=self._faults,
            last_fault=self._last_fault,
            established_count=self._established_count,
            flaps=self._flaps,
            time_to_established=self._time_to_established,
            local_address=ends.local if ends else None,
            local_port=ends.local_port if ends else 0,
            remote_address=ends.remote if ends else None,
            remote_port=ends.remote_port if ends else 0,
            local_router_id=ours.router_id if ours else None,
            remote_router_id=agreed.peer_router_id if agreed else None,
            remote_asn=agreed.peer_asn if agreed else None,
            internal=agreed.internal if agreed else False,
            hold_time=agreed.hold_time if agreed else None,
            keepalive_time=line.keepalive_time if agreed else None,
            our_capabilities=ours.capabilities if ours else None,
            peer_capabilities=agreed.peer_capabilities if agreed else None,
            route_refresh=agreed.route_refresh if agreed else False,
            enhanced_route_refresh=agreed.enhanced_route_refresh if agreed else False,
            extended_messages=agreed.extended_messages if agreed else False,
            restart=agreed.restart if agreed else None,
            families=families,
            inbound=adj_in.status(config.max_prefixes),
            prefixes_announced=adj_out.announced,
            prefixes_pending=adj_out.unsent,
            prefixes_refused=adj_out.refused,
            prefixes_received=adj_in.count,
            prefixes_received_more=adj_in.more,
            sent=_counts(self.sent),
            received=_counts(self.received),
        )


def _counts(counter: Counter) -> MessageCounts:
    by_type = counter.by_type
    return MessageCounts(
        opens=by_type[MessageType.OPEN],
        updates=by_type[MessageType.UPDATE],
        notifications=by_type[MessageType.NOTIFICATION],
        keepalives=by_type[MessageType.KEEPALIVE],
        route_refreshes=by_type[MessageType.ROUTE_REFRESH],
        total=sum(by_type.values()),
    )
