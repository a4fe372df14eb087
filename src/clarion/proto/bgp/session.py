"""A BGP session as a machine without I/O (RFC 4271 §8).

The driver calls `connected`, `lost`, `receive`, `timers` with the time, performs what `outputs`
returns, and writes what `take` hands out. Two `Connection`s stand inside: the one we open and the
one the peer opens; when both live, one is chosen (RFC 4271 §6.8, RFC 6286 §2.3).
"""

from collections.abc import Collection, Mapping

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.errors import DecodeError
from clarion.base.limits import (
    BGP_MESSAGE_BYTES,
    BGP_RECONNECT_SECONDS_MIN,
    BGP_STABLE_SECONDS,
)
from clarion.proto.bgp.adjin import AdjIn
from clarion.proto.bgp.adjout import AdjOut, Route, Terms
from clarion.proto.bgp.config import (
    ChangeEffect,
    Direction,
    Endpoints,
    FamilyStatus,
    MessageCounts,
    PeerConfig,
    SessionStatus,
    State,
    change_effect,
)
from clarion.proto.bgp.connection import (
    EVENT_OF,
    Connection,
    Counter,
    Message,
    Timer,
    jittered,
)
from clarion.proto.bgp.fsm import Action, Event
from clarion.proto.bgp.iana import (
    IPV4_UNICAST,
    MAX_HOLD_TIME,
    Afi,
    Cease,
    ErrorCode,
    Family,
    FsmError,
    MessageType,
    RefreshSubtype,
)
from clarion.proto.bgp.notify import Notification, cease, describe, from_error
from clarion.proto.bgp.open import (
    Capabilities,
    Negotiated,
    NextHopEncoding,
    Open,
    bad_peer_asn,
    make_open,
    negotiate,
)
from clarion.proto.bgp.update import Update
from clarion.proto.bgp.wire import RouteRefresh


class Dial(msgspec.Struct, frozen=True, tag=True):
    """Open a TCP connection to the peer; answer with `connected` or `lost`."""


class Drop(msgspec.Struct, frozen=True, tag=True):
    """Write the last words, as far as they go, and close the connection of this direction."""

    direction: Direction
    last_words: bytes


class StateChanged(msgspec.Struct, frozen=True, tag=True):
    """The session as a whole is in another state."""

    old: State
    new: State
    reason: str


Output = Dial | Drop | StateChanged

_FSM_SUBCODES = {
    State.OPEN_SENT: FsmError.UNEXPECTED_IN_OPEN_SENT,
    State.OPEN_CONFIRM: FsmError.UNEXPECTED_IN_OPEN_CONFIRM,
    State.ESTABLISHED: FsmError.UNEXPECTED_IN_ESTABLISHED,
}
_EVENT_OF_MESSAGE = {
    MessageType.OPEN: Event.OPEN_RECEIVED,
    MessageType.UPDATE: Event.UPDATE_RECEIVED,
    MessageType.NOTIFICATION: Event.NOTIFICATION_RECEIVED,
    MessageType.KEEPALIVE: Event.KEEPALIVE_RECEIVED,
    MessageType.ROUTE_REFRESH: Event.REFRESH_RECEIVED,
}


def collision_winner(local: tuple[Address, int], remote: tuple[Address, int]) -> Direction:
    """Which of two connections stays; each side is given as (identifier, ASN).

    The higher identifier's own connection does (RFC 4271 §6.8); the larger ASN decides between
    equal identifiers (RFC 6286 §2.3).
    """
    return Direction.INCOMING if local < remote else Direction.OUTGOING


class Session:
    """One peer. `jitter` is a number in [0, 1) that the driver may renew before each call."""

    def __init__(self, config: PeerConfig, now: float, jitter: float = 0.0) -> None:
        self.jitter = jitter
        self._config = config
        self._sent, self._received = Counter(), Counter()
        self._lines = {
            direction: Connection(direction, self._sent, self._received) for direction in Direction
        }
        self._adj_out, self._adj_in = AdjOut(), AdjIn()
        self._outputs: list[Output] = []
        self._started = False
        self._failures = 0
        self._state, self._since = State.IDLE, now
        self._reason = ""
        self._last_error = ""
        self._last_sent = self._last_received = ""
        self._established_count = 0
        self._up_since = now
        self._families: tuple[FamilyStatus, ...] = ()

    # -- what the owner of the session says ------------------------------------------------------

    @property
    def config(self) -> PeerConfig:
        """The configuration in force."""
        return self._config

    @property
    def state(self) -> State:
        """The furthest of the two connections."""
        return max(line.state for line in self._lines.values())

    def start(self, now: float) -> None:
        """Accept connections, and open one unless the peer is to do that. Twice is once."""
        if self._started:
            return
        self._started = True
        self._step(self._lines[Direction.INCOMING], Event.START_PASSIVE, now)
        if not self._config.passive:
            self._step(self._lines[Direction.OUTGOING], Event.START, now)
        self._settle(now)

    def stop(self, now: float, subcode: Cease, communication: str = "") -> None:
        """End the session, with a NOTIFICATION where a peer is on the line (RFC 4486, 9003)."""
        self._started = False
        farewell = cease(subcode, communication)
        self._reason = f"stopped: {farewell}"
        for line in self._lines.values():
            self._step(line, Event.STOP, now, farewell)
            line.disarm()
        self._settle(now)

    def configure(self, config: PeerConfig, now: float) -> None:
        """Take over a configuration that needs no reset; `change_effect` tells which does."""
        assert change_effect(self._config, config) < ChangeEffect.RESET
        was_passive, self._config = self._config.passive, config
        outgoing = self._lines[Direction.OUTGOING]
        for line in self._lines.values():
            if line.negotiated:
                line.keepalive_time = self._keepalive_time(line.negotiated)
        if config.passive and outgoing.state <= State.ACTIVE:
            self._step(outgoing, Event.STOP, now)
            outgoing.disarm()
        elif was_passive and not config.passive and self._started:
            self._redial(now, now)
        self._settle(now)

    def set_routes(self, routes: Collection[Route]) -> None:
        """Replace the routes that the peer should have."""
        self._adj_out.set_routes(routes)

    def change_routes(self, changes: Mapping[Prefix, Route | None]) -> None:
        """Change the routes of these prefixes only; None: the peer should have none."""
        self._adj_out.change_routes(changes)

    @property
    def routes(self) -> list[Route]:
        """The routes that the peer should have."""
        return self._adj_out.routes

    # -- what the driver says --------------------------------------------------------------------

    def admit(self, now: float) -> Notification | None:
        """The peer opens a connection: None to go on with `connected`, or the refusal to send.

        A connection that the peer opened earlier and that is not Established yields to the new one:
        the peer has no use for two.
        """
        line = self._lines[Direction.INCOMING]
        if not self._started:
            return cease(Cease.CONNECTION_REJECTED)
        if self.state is State.ESTABLISHED:  # RFC 4271 §6.8: the existing one stays
            return cease(Cease.CONNECTION_COLLISION_RESOLUTION)
        if line.state is not State.ACTIVE:
            farewell = cease(Cease.CONNECTION_COLLISION_RESOLUTION)
            self._step(line, Event.COLLISION, now, farewell)
            self._settle(now)
        return None

    def connected(self, direction: Direction, endpoints: Endpoints, now: float) -> None:
        """A TCP connection is there: asked for by `Dial`, or admitted."""
        line = self._lines[direction]
        line.endpoints = endpoints
        self._step(line, Event.TCP_CONNECTED, now)
        self._settle(now)

    def lost(self, direction: Direction, reason: str, now: float) -> None:
        """The TCP connection failed, or could not be made."""
        self._blame(reason)
        self._step(self._lines[direction], Event.TCP_FAILED, now)
        self._settle(now)

    def receive(self, direction: Direction, data: bytes, now: float) -> None:
        """Bytes arrived. Everything that is wrong with them becomes a NOTIFICATION."""
        line = self._lines[direction]
        if line.endpoints is None:  # late bytes of a connection that was dropped
            return
        line.feed(data)
        while line.endpoints is not None:
            try:
                item = line.next_message()
                if item is None:
                    break
                self._take_message(line, *item, now)
            except DecodeError as error:
                self._blame(error.message)
                self._step(line, Event.MESSAGE_ERROR, now, from_error(error))
        self._settle(now)

    def timers(self, now: float) -> None:
        """Let timers expire that are due."""
        for line in self._lines.values():
            while (timer := line.expired(now)) is not None:
                self._expire(line, timer, now)
        self._settle(now)

    def next_deadline(self) -> float | None:
        """When `timers` is to be called, at the latest."""
        deadlines = (line.deadline for line in self._lines.values())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def outputs(self) -> list[Output]:
        """What is to be done, in order; each is returned once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def wants_write(self, direction: Direction) -> bool:
        """Has `take` anything for this connection?"""
        line = self._lines[direction]
        return line.wants_write or (line.state is State.ESTABLISHED and self._adj_out.pending)

    def take(self, direction: Direction, limit: int) -> bytes:
        """Up to `limit` octets to write (at least two messages): first what keeps the session."""
        line = self._lines[direction]
        out = line.take_messages()
        if line.state is not State.ESTABLISHED or limit - len(out) < BGP_MESSAGE_BYTES:
            return out
        before = self._adj_out.updates_built
        out += self._adj_out.take(limit - len(out))
        self._sent.count(MessageType.UPDATE, self._adj_out.updates_built - before)
        return out

    def status(self) -> SessionStatus:
        """The session as it stands."""
        best = max(self._lines.values(), key=lambda line: line.state)
        ends, agreed = best.endpoints, best.negotiated
        return SessionStatus(
            name=self._config.name,
            peer_address=self._config.peer_address,
            peer_port=self._config.peer_port,
            state=self._state,
            since=self._since,
            last_error=self._last_error,
            last_notification_sent=self._last_sent,
            last_notification_received=self._last_received,
            established_count=self._established_count,
            local_address=ends.local if ends else None,
            local_port=ends.local_port if ends else 0,
            remote_address=ends.remote if ends else None,
            remote_port=ends.remote_port if ends else 0,
            local_router_id=best.our_open.router_id if best.our_open else None,
            remote_router_id=agreed.peer_router_id if agreed else None,
            remote_asn=agreed.peer_asn if agreed else None,
            internal=agreed.internal if agreed else False,
            hold_time=agreed.hold_time if agreed else None,
            keepalive_time=best.keepalive_time if agreed else None,
            peer_capabilities=agreed.peer_capabilities if agreed else None,
            families=self._families,
            prefixes_announced=self._adj_out.announced,
            prefixes_pending=self._adj_out.unsent,
            prefixes_refused=self._adj_out.refused,
            prefixes_received=self._adj_in.count,
            prefixes_received_more=self._adj_in.more,
            sent=_counts(self._sent),
            received=_counts(self._received),
        )

    # -- one step --------------------------------------------------------------------------------

    def _step(
        self, line: Connection, event: Event, now: float, farewell: Notification | None = None
    ) -> None:
        """Move one connection and do what its table asks."""
        before = line.state
        actions = line.step(event)
        if before is State.ESTABLISHED and line.state is not State.ESTABLISHED:
            self._down(now)
        for action in actions:
            if action is Action.DIAL:
                self._outputs.append(Dial())
            elif action is Action.NOTIFY:
                self._notify(line, farewell or _fault_of(before, event))
            elif action is Action.DROP:
                self._outputs.append(Drop(line.direction, line.close()))
            elif action is Action.BACK_OFF:
                self._back_off(now)
            elif action is Action.SEND_OPEN:
                line.send_open(self._make_open(line))
            elif action is Action.SEND_KEEPALIVE:
                line.send_keepalive(now)
            elif action is Action.UP:
                self._up(line, now)
            else:
                line.arm_for(action, now, self.jitter)

    def _settle(self, now: float) -> None:
        """After a call: listen again where a connection ended, and tell of a new state."""
        incoming = self._lines[Direction.INCOMING]
        if self._started and incoming.state is State.IDLE:
            self._step(incoming, Event.START_PASSIVE, now)
        state = self._visible_state()
        if state is not self._state:
            old, self._state, self._since = self._state, state, now
            self._outputs.append(StateChanged(old, state, self._reason))
        self._reason = ""

    def _visible_state(self) -> State:
        """The listener's Active shows only where nothing else is going on (RFC 4271 §8.2.2)."""
        outgoing = self._lines[Direction.OUTGOING].state
        incoming = self._lines[Direction.INCOMING].state
        if incoming is State.ACTIVE and outgoing is State.CONNECT:
            return State.CONNECT
        return max(outgoing, incoming)

    def _blame(self, reason: str) -> None:
        self._reason = self._last_error = reason

    def _notify(self, line: Connection, notification: Notification) -> None:
        line.send_notification(notification)
        self._last_sent = describe(notification)

    def _back_off(self, now: float) -> None:
        """After a failure: wait twice as long as after the one before, unless waiting already."""
        if self._lines[Direction.OUTGOING].armed(Timer.RETRY):
            return
        delay = BGP_RECONNECT_SECONDS_MIN * 2.0 ** min(self._failures, 16)
        self._failures += 1
        self._redial(now, now + jittered(min(delay, self._config.connect_time), self.jitter))

    def _redial(self, now: float, when: float) -> None:
        outgoing = self._lines[Direction.OUTGOING]
        idle = outgoing.state is State.IDLE and self.state <= State.ACTIVE
        if self._started and idle and not self._config.passive:
            outgoing.arm(Timer.RETRY, max(now, when))

    def _expire(self, line: Connection, timer: Timer, now: float) -> None:
        if timer is Timer.HOLD:
            wait = line.hold_time
            what = f"in the hold time of {wait:g} s" if wait else "as OPEN"
            self._blame(f"the peer sent nothing {what}")
        elif timer is Timer.SEND_HOLD:
            self._blame("the peer does not take what is sent (send hold timer)")
        elif timer is Timer.CONNECT_RETRY:
            hint = " (a wrong password looks the same)" if self._config.password else ""
            self._blame(f"the peer does not answer the attempt to connect{hint}")
        self._step(line, EVENT_OF[timer], now)

    # -- messages --------------------------------------------------------------------------------

    def _take_message(
        self, line: Connection, kind: MessageType, message: Message, now: float
    ) -> None:
        event = _EVENT_OF_MESSAGE[kind]
        if not line.expects(event):
            self._blame(f"the peer sent {kind.name} in state {line.state}")
        elif isinstance(message, Open):
            self._take_open(line, message, now)
            return
        elif isinstance(message, Notification):
            self._last_received = describe(message)
            self._blame(f"the peer sent {describe(message)}")
        self._step(line, event, now)
        if line.state is not State.ESTABLISHED:
            return
        if isinstance(message, Update):
            self._take_update(line, message, now)
        elif isinstance(message, RouteRefresh):
            self._take_refresh(line, message)

    def _take_open(self, line: Connection, message: Open, now: float) -> None:
        config, ours = self._config, line.our_open
        assert ours is not None
        if not config.accepts_asn(message.true_asn):  # RFC 4271 §6.2
            raise bad_peer_asn(message.true_asn, config.asn_wanted)
        negotiated = negotiate(ours, message)
        other = self._lines[_OTHER[line.direction]]
        # RFC 4271 §6.8: an Established connection stays; between two unfinished ones, identifiers
        # decide as soon as the second OPEN is here.
        loser = None
        if other.state is State.ESTABLISHED:
            loser = line
        elif other.state is State.OPEN_CONFIRM:
            winner = collision_winner(
                (ours.router_id, config.local_asn), (message.router_id, message.true_asn)
            )
            loser = other if winner is line.direction else line
        if loser is not None:
            self._collide(loser, now)
        if loser is not line:
            line.negotiated = negotiated
            line.keepalive_time = self._keepalive_time(negotiated)
            self._step(line, Event.OPEN_RECEIVED, now)

    def _collide(self, loser: Connection, now: float) -> None:
        self._step(loser, Event.COLLISION, now, cease(Cease.CONNECTION_COLLISION_RESOLUTION))

    def _take_update(self, line: Connection, update: Update, now: float) -> None:
        limit = self._config.max_prefixes
        self._adj_in.update(update, limit + 1)
        if limit and self._adj_in.count > limit:
            self._blame(f"the peer announces more than {limit} prefixes")
            self._step(line, Event.STOP, now, cease(Cease.MAXIMUM_NUMBER_OF_PREFIXES_REACHED))
            self._back_off(now)

    def _take_refresh(self, line: Connection, message: RouteRefresh) -> None:
        # RFC 7313 §4.2: only a plain request is answered; BoRR and EoRR tell of routes that we
        # drop, and unknown subtypes are ignored (RFC 7313 §5).
        if message.subtype == RefreshSubtype.REQUEST and line.negotiated is not None:
            enhanced = line.negotiated.enhanced_route_refresh
            self._adj_out.refresh(message.family, enhanced=enhanced)

    # -- up and down -----------------------------------------------------------------------------

    def _make_open(self, line: Connection) -> Open:
        config, ends = self._config, line.endpoints
        assert ends is not None
        next_hops: tuple[NextHopEncoding, ...] = ()
        if ends.local.version == 6 and IPV4_UNICAST in config.families:
            next_hops = (NextHopEncoding(IPV4_UNICAST, Afi.IPV6.value),)
        offer = Capabilities(
            families=config.families,
            route_refresh=True,
            extended_next_hops=next_hops,
            enhanced_route_refresh=True,
        )
        router_id = config.router_id or ends.router_id
        hold_time = min(int(config.hold_time), MAX_HOLD_TIME)
        return make_open(config.local_asn, hold_time, router_id, offer)

    def _keepalive_time(self, negotiated: Negotiated) -> float:
        third = negotiated.hold_time / 3  # RFC 4271 §4.4: not more than a third of the hold time
        wanted = self._config.keepalive_time
        return min(third, wanted) if wanted else third

    def _up(self, line: Connection, now: float) -> None:
        agreed, ends = line.negotiated, line.endpoints
        assert agreed is not None
        assert ends is not None
        outgoing = self._lines[Direction.OUTGOING]
        if line is not outgoing and outgoing.state is State.CONNECT:
            self._step(outgoing, Event.STOP, now)
        self._reason = "the session is established"
        self._established_count += 1
        self._up_since = now
        self._families = tuple(
            family_status(family, agreed, ends) for family in self._config.families
        )
        sent = ((row.family, row.next_hop) for row in self._families if row.sent)
        self._adj_out.start(
            Terms(
                local_asn=self._config.local_asn,
                internal=agreed.internal,
                four_octet_asn=agreed.four_octet_asn,
                next_hops=tuple((family, hop) for family, hop in sent if hop is not None),
            )
        )

    def _down(self, now: float) -> None:
        self._adj_out.stop()
        self._adj_in.clear()
        self._families = ()
        if now - self._up_since >= BGP_STABLE_SECONDS:
            self._failures = 0


_OTHER = {
    Direction.OUTGOING: Direction.INCOMING,
    Direction.INCOMING: Direction.OUTGOING,
}


def _fault_of(state: State, event: Event) -> Notification:
    """The NOTIFICATION for an event that brings none along (RFC 4271 §6.5, §6.6; RFC 9687)."""
    if event is Event.HOLD_EXPIRES:
        return Notification(ErrorCode.HOLD_TIMER_EXPIRED)
    if event is Event.SEND_HOLD_EXPIRES:
        return Notification(ErrorCode.SEND_HOLD_TIMER_EXPIRED)
    return Notification(ErrorCode.FINITE_STATE_MACHINE, _FSM_SUBCODES.get(state, 0))


def family_status(family: Family, agreed: Negotiated, ends: Endpoints) -> FamilyStatus:
    """Can routes of a family be sent on a connection, and with which next hop?"""
    if family not in agreed.families:
        return FamilyStatus(family, sent=False, reason="the peer did not offer this family")
    local = ends.local
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
