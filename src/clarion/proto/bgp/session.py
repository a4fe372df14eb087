"""A BGP session as a machine without I/O (RFC 4271 §8).

The driver calls `connected`, `lost`, `receive`, `timers` with the time, performs what `outputs`
returns, and writes what `take` hands out. Two `Connection`s stand inside: the one we open and the
one the peer opens; when both live, one is chosen (RFC 4271 §6.8, RFC 6286 §2.3).
"""

from collections.abc import Collection, Mapping

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.errors import DecodeError
from clarion.base.limits import BGP_PREFIX_REST_SECONDS
from clarion.proto.bgp.account import Account
from clarion.proto.bgp.adjin import AdjIn
from clarion.proto.bgp.adjout import AdjOut
from clarion.proto.bgp.config import (
    ChangeEffect,
    Direction,
    Endpoints,
    FamilyStatus,
    PeerConfig,
    SessionStatus,
    State,
    change_effect,
)
from clarion.proto.bgp.connection import Connection, Message, Timer, event_of, jittered
from clarion.proto.bgp.encoder import Encoder
from clarion.proto.bgp.fsm import Action, Event
from clarion.proto.bgp.iana import (
    Cease,
    ErrorCode,
    FsmError,
    MessageType,
    RefreshSubtype,
)
from clarion.proto.bgp.notify import (
    Notification,
    cease,
    describe,
    from_error,
    too_many_prefixes,
)
from clarion.proto.bgp.offer import family_status, keepalive_time, our_open, terms
from clarion.proto.bgp.open import Open, bad_peer_asn, negotiate
from clarion.proto.bgp.pace import Pace
from clarion.proto.bgp.restart import Restart, last_words, parting_words, starts_anew
from clarion.proto.bgp.routes import Route
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
    """One peer. `jitter` is a number in [0, 1) that the driver may renew before each call.

    Args:
        config: The peer.
        now: The time.
        jitter: Spreads timers.
        restarted_at: When this program started again, while the traffic of what it announces never
            stopped (RFC 4724 §4.1); None after a start of the whole node, and after a reset.
        encoder: Shared by sessions that should share the bytes of equal messages.
    """

    def __init__(
        self,
        config: PeerConfig,
        now: float,
        jitter: float = 0.0,
        *,
        restarted_at: float | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self.jitter = jitter
        self._config = config
        self._account = Account(now)
        self._lines = {
            direction: Connection(direction, self._account.sent, self._account.received)
            for direction in Direction
        }
        self._adj_out, self._adj_in = AdjOut(encoder), AdjIn()
        self._restart = Restart(restarted_at)
        self._pace = Pace()
        self._outputs: list[Output] = []
        self._started = False
        self._reason = ""
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
        self._account.started(now)
        self._pace = Pace()
        self._step(self._lines[Direction.INCOMING], Event.START_PASSIVE, now)
        if not self._config.passive:
            self._step(self._lines[Direction.OUTGOING], Event.START, now)
        self._settle(now)

    def stop(
        self, now: float, subcode: Cease, communication: str = "", *, keep_routes: bool = False
    ) -> None:
        """End the session, with a NOTIFICATION where a peer is on the line (RFC 4486, 9003).

        Args:
            now: The time.
            subcode: Why.
            communication: Words for the operators of the peer, where the subcode allows them.
            keep_routes: We are coming back soon: the peer is to keep our routes meanwhile, if
                graceful restart was agreed on. Otherwise it drops them at once.
        """
        self._started = False
        self._restart.stopped()
        farewell = cease(subcode, communication)
        self._reason = f"stopped: {farewell}"
        for line in self._lines.values():
            words = parting_words(farewell, line.our_open, line.negotiated, keep_routes=keep_routes)
            self._step(line, Event.STOP if words else Event.ABANDON, now, words)
            line.disarm()
        self._settle(now)

    def bfd_down(self, now: float, why: str) -> None:
        """BFD no longer sees the peer: a session that is established ends at once (RFC 5882 §4.1).

        It is tried again as after any other failure.
        """
        for line in self._lines.values():
            if line.state is State.ESTABLISHED:
                self._blame(why, now)
                self._step(line, Event.AUTOMATIC_STOP, now, cease(Cease.BFD_DOWN))  # RFC 9384 §3
        self._settle(now)

    def retry(self, now: float) -> None:
        """What kept us from connecting may be over: try at once, and not only when it is time."""
        if self._lines[Direction.OUTGOING].armed(Timer.RETRY) and not self._pace.resting(now):
            self._redial(now, now)

    def configure(self, config: PeerConfig, now: float) -> None:
        """Take over a configuration that needs no reset; `change_effect` tells which does."""
        assert change_effect(self._config, config) < ChangeEffect.RESET
        was_passive, self._config = self._config.passive, config
        outgoing = self._lines[Direction.OUTGOING]
        for line in self._lines.values():
            if line.negotiated:
                line.keepalive_time = keepalive_time(config, line.negotiated)
        if config.passive and outgoing.state <= State.ACTIVE:
            self._step(outgoing, Event.STOP, now)
            outgoing.disarm()
        elif was_passive and not config.passive and self._started and not self._pace.resting(now):
            self._redial(now, now)
        self._check_prefixes(now)
        self._settle(now)

    def set_routes(self, routes: Collection[Route]) -> None:
        """Replace the routes that the peer should have."""
        self._adj_out.set_routes(routes)

    def change_routes(self, changes: Mapping[Prefix, Route | None]) -> None:
        """Change the routes of these prefixes only; None: the peer should have none."""
        self._adj_out.change_routes(changes)

    @property
    def routes(self) -> list[Route] | None:
        """The routes that the peer should have; None: nobody has said yet."""
        return self._adj_out.routes

    # -- what the driver says --------------------------------------------------------------------

    def admit(self, now: float) -> Notification | None:
        """The peer opens a connection: None to go on with `connected`, or the refusal to send.

        A connection that the peer opened earlier and that is not Established yields to the new one:
        the peer has no use for two.
        """
        line = self._lines[Direction.INCOMING]
        if not self._started or self._pace.resting(now):
            return cease(Cease.CONNECTION_REJECTED)
        for old in self._lines.values():
            if old.state is not State.ESTABLISHED:
                continue
            if not starts_anew(old.negotiated):  # RFC 4271 §6.8: the old one stays
                return cease(Cease.CONNECTION_COLLISION_RESOLUTION)
            self._blame("the peer restarted: it opened a new connection", now)
            self._step(old, Event.ABANDON, now)  # RFC 4724 §4.2: without a NOTIFICATION
            self._settle(now)
        if line.state is not State.ACTIVE:
            farewell = cease(Cease.CONNECTION_COLLISION_RESOLUTION)
            self._step(line, Event.COLLISION, now, farewell)
            self._settle(now)
        return None

    def connected(self, direction: Direction, endpoints: Endpoints, now: float) -> None:
        """A TCP connection is there: asked for by `Dial`, or admitted."""
        line = self._lines[direction]
        if line.state is State.IDLE:  # nobody waits for it any longer
            self._outputs.append(Drop(direction, b""))
            return
        line.endpoints = endpoints
        self._step(line, Event.TCP_CONNECTED, now)
        self._settle(now)

    def lost(self, direction: Direction, reason: str, now: float) -> None:
        """The TCP connection failed, or could not be made."""
        self._blame(reason, now)
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
                self._blame(error.message, now)
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
        if line.state is not State.ESTABLISHED:
            return out
        before = self._adj_out.updates_built
        out += self._adj_out.take(limit - len(out))
        self._account.sent.count(MessageType.UPDATE, self._adj_out.updates_built - before)
        return out

    def status(self) -> SessionStatus:
        """The session as it stands."""
        best = max(self._lines.values(), key=lambda line: line.state)
        return self._account.status(self._config, best, self._families, self._adj_out, self._adj_in)

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
                self._notify(line, farewell or _fault_of(before, event), now)
            elif action is Action.DROP:
                self._outputs.append(Drop(line.direction, line.close()))
            elif action is Action.BACK_OFF:
                self._back_off(now)
            elif action is Action.SEND_OPEN:
                assert line.endpoints is not None
                offer = self._restart.offer(self._config, now)
                line.send_open(our_open(self._config, line.endpoints, offer))
            elif action is Action.SEND_KEEPALIVE:
                line.send_keepalive(now)
            elif action is Action.UP:
                self._up(line, now)
            else:
                line.arm_for(action, now, self.jitter)

    def _settle(self, now: float) -> None:
        """After a call: listen again where a connection ended, and tell of a new state."""
        incoming = self._lines[Direction.INCOMING]
        if self._started and incoming.state is State.IDLE and not self._pace.resting(now):
            self._step(incoming, Event.START_PASSIVE, now)
        state = self._visible_state()
        if state is not self._account.state:
            old = self._account.moved(state, now)
            self._outputs.append(StateChanged(old, state, self._reason))
        self._reason = ""

    def _visible_state(self) -> State:
        """The listener's Active shows only where nothing else is going on (RFC 4271 §8.2.2)."""
        outgoing = self._lines[Direction.OUTGOING].state
        incoming = self._lines[Direction.INCOMING].state
        if incoming is State.ACTIVE and outgoing is State.CONNECT:
            return State.CONNECT
        return max(outgoing, incoming)

    def _blame(self, reason: str, now: float) -> None:
        self._reason = reason
        self._account.error(reason, now)

    def _notify(self, line: Connection, reason: Notification, now: float) -> None:
        words = last_words(reason, line.negotiated)
        line.send_notification(words)
        self._account.notified(words, now)

    def _back_off(self, now: float) -> None:
        """After a failure: wait, unless waiting already."""
        if not self._lines[Direction.OUTGOING].armed(Timer.RETRY):
            delay = self._pace.failed(self._config.connect_time)
            self._redial(now, now + jittered(delay, self.jitter))

    def _redial(self, now: float, when: float) -> None:
        outgoing = self._lines[Direction.OUTGOING]
        idle = outgoing.state is State.IDLE and self.state <= State.ACTIVE
        if self._started and idle and not self._config.passive:
            outgoing.arm(Timer.RETRY, max(now, when))

    def _expire(self, line: Connection, timer: Timer, now: float) -> None:
        if timer is Timer.RETRY and self.state >= State.OPEN_CONFIRM:
            return  # the peer came first; if that fails, there is a new wait
        if timer is Timer.HOLD:
            wait = line.hold_time
            what = f"in the hold time of {wait:g} s" if wait else "as OPEN"
            self._blame(f"the peer sent nothing {what}", now)
        elif timer is Timer.SEND_HOLD:
            self._blame("the peer does not take what is sent (send hold timer)", now)
        elif timer is Timer.CONNECT_RETRY:
            hint = " (a wrong password looks the same)" if self._config.password else ""
            self._blame(f"the peer does not answer the attempt to connect{hint}", now)
        self._step(line, event_of(timer, line.direction), now)

    # -- messages --------------------------------------------------------------------------------

    def _take_message(
        self, line: Connection, kind: MessageType, message: Message, now: float
    ) -> None:
        event = _EVENT_OF_MESSAGE[kind]
        if not line.expects(event):
            self._blame(f"the peer sent {kind.name} in state {line.state}", now)
            # RFC 6608 §4: the data is the type of the message.
            subcode = _FSM_SUBCODES[line.state]
            farewell = Notification(ErrorCode.FINITE_STATE_MACHINE, subcode, bytes((kind,)))
            self._step(line, event, now, farewell)
            return
        if isinstance(message, Open):
            self._take_open(line, message, now)
            return
        if isinstance(message, Notification):
            self._account.heard(message, now)
            self._blame(f"the peer sent {describe(message)}", now)
        self._step(line, event, now)
        if line.state is not State.ESTABLISHED:
            return
        if isinstance(message, Update):
            self._take_update(message, now)
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
        # decide, and the first OPEN tells that of the peer. Waiting for the second would let one
        # side finish a connection that the other is about to close.
        loser = None
        if other.state is State.ESTABLISHED:
            loser = line
        elif other.state in (State.OPEN_SENT, State.OPEN_CONFIRM):
            winner = collision_winner(
                (ours.router_id, config.local_asn), (message.router_id, message.true_asn)
            )
            loser = other if winner is line.direction else line
        if loser is not None:
            self._collide(loser, now)
        if loser is not line:
            line.negotiated = negotiated
            line.keepalive_time = keepalive_time(config, negotiated)
            self._step(line, Event.OPEN_RECEIVED, now)
        if loser is None and other.state is State.CONNECT:
            # RFC 4724 §4.2: a connection that comes after this one would look like a restart.
            self._step(other, Event.STOP, now)

    def _collide(self, loser: Connection, now: float) -> None:
        self._step(loser, Event.COLLISION, now, cease(Cease.CONNECTION_COLLISION_RESOLUTION))

    def _take_update(self, update: Update, now: float) -> None:
        self._account.update_read(update)
        self._adj_in.update(update, self._config.max_prefixes)
        self._check_prefixes(now)

    def _check_prefixes(self, now: float) -> None:
        """End the session if the peer announces too much (RFC 4271 §6.7)."""
        limit = self._config.max_prefixes
        family = self._adj_in.exceeding(limit)
        if family is None:
            return
        self._blame(f"the peer announces more than {limit} {family} prefixes", now)
        for line in self._lines.values():
            self._step(line, Event.AUTOMATIC_STOP, now, too_many_prefixes(family, limit))
        # Coming back at once would only bring the same again (RFC 4271 §8, IdleHoldTimer).
        until = now + BGP_PREFIX_REST_SECONDS
        self._pace.rest(until)
        self._lines[Direction.INCOMING].arm(Timer.RETRY, until)
        self._redial(now, until)

    def _take_refresh(self, line: Connection, message: RouteRefresh) -> None:
        agreed = line.negotiated
        assert agreed is not None
        if message.subtype == RefreshSubtype.REQUEST:
            self._adj_out.refresh(message.family, enhanced=agreed.enhanced_route_refresh)
        else:
            restarts = agreed.peer_capabilities.graceful_restart is not None
            self._adj_in.refresh(message.family, message.subtype, restarts=restarts)

    # -- up and down -----------------------------------------------------------------------------

    def _up(self, line: Connection, now: float) -> None:
        agreed, ends = line.negotiated, line.endpoints
        assert agreed is not None
        assert ends is not None
        self._reason = "the session is established"
        self._account.up(now)
        self._restart.established()
        self._families = tuple(
            family_status(family, agreed, ends) for family in self._config.families
        )
        self._adj_in.start(agreed.families)
        self._adj_out.start(terms(self._config, agreed, self._families))

    def _down(self, now: float) -> None:
        self._adj_out.stop()
        self._adj_in.clear()
        self._families = ()
        self._pace.lived(self._account.down(now))


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
