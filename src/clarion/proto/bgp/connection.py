"""One side of a session: a state machine, its timers, and the messages of its TCP connection.

A session has two: one for connections it opens, one for those it accepts. The connection does what
concerns itself; what concerns the peer as a whole (collisions, routes, waiting) `session` does.
"""

import enum
from typing import Final

from clarion.base.errors import DecodeError
from clarion.base.limits import (
    BGP_CONNECT_SECONDS,
    BGP_EXTENDED_MESSAGE_BYTES,
    BGP_OPEN_HOLD_SECONDS,
    BGP_SEND_HOLD_SECONDS_MIN,
)
from clarion.proto.bgp.config import Direction, Endpoints, State
from clarion.proto.bgp.fsm import Action, Event, Machine
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.notify import Notification, decode_notification, encode_notification
from clarion.proto.bgp.open import Negotiated, Open, decode_open, encode_open
from clarion.proto.bgp.update import Update, decode_update
from clarion.proto.bgp.wire import KEEPALIVE, Framer, RouteRefresh, decode_route_refresh

JITTER_LEAST: Final = 0.75
"""Timers run for 75 to 100 % of their value (RFC 4271 §10)."""


class Timer(enum.Enum):
    """What a connection waits for."""

    RETRY = "retry"
    CONNECT_RETRY = "connect retry"
    HOLD = "hold"
    KEEPALIVE = "keepalive"
    SEND_HOLD = "send hold"


_ON_THE_LINE = (State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED)
RUNS_IN: Final[dict[Timer, tuple[State, ...]]] = {
    Timer.RETRY: (State.IDLE,),
    Timer.CONNECT_RETRY: (State.CONNECT,),
    Timer.HOLD: _ON_THE_LINE,
    Timer.KEEPALIVE: (State.OPEN_CONFIRM, State.ESTABLISHED),
    Timer.SEND_HOLD: (State.ESTABLISHED,),
}
"""The states in which each timer may run."""

_EVENT_OF: Final = {
    Timer.RETRY: Event.START,
    Timer.CONNECT_RETRY: Event.CONNECT_RETRY_EXPIRES,
    Timer.HOLD: Event.HOLD_EXPIRES,
    Timer.KEEPALIVE: Event.KEEPALIVE_EXPIRES,
    Timer.SEND_HOLD: Event.SEND_HOLD_EXPIRES,
}


def event_of(timer: Timer, direction: Direction) -> Event:
    """What the end of a timer means to the machine of a connection."""
    if timer is Timer.RETRY and direction is Direction.INCOMING:
        return Event.START_PASSIVE
    return _EVENT_OF[timer]


Message = Open | Update | Notification | RouteRefresh | None
"""A decoded message; None is a KEEPALIVE."""


def jittered(seconds: float, jitter: float) -> float:
    """A delay shortened by up to a quarter; `jitter` is in [0, 1) (RFC 4271 §10)."""
    return seconds * (JITTER_LEAST + (1 - JITTER_LEAST) * jitter)


class Counter:
    """Messages by type."""

    def __init__(self) -> None:
        self.by_type = dict.fromkeys(MessageType, 0)

    def count(self, kind: MessageType, number: int = 1) -> None:
        """Add `number` messages."""
        self.by_type[kind] += number


class Connection:
    """See the module. `sent` and `received` are counters shared with the other direction."""

    def __init__(self, direction: Direction, sent: Counter, received: Counter) -> None:
        self.direction = direction
        self._machine = Machine()
        self._sent, self._received = sent, received
        self._deadlines: dict[Timer, float] = {}
        self._reset()

    def _reset(self) -> None:
        self.endpoints: Endpoints | None = None
        self.our_open: Open | None = None
        self.negotiated: Negotiated | None = None
        self.keepalive_time = 0.0
        self._framer = Framer()
        self._outbox = bytearray()
        self._keepalive_due = False

    @property
    def state(self) -> State:
        """State of the machine."""
        return self._machine.state

    @property
    def deadline(self) -> float | None:
        """When the next timer is due."""
        return min(self._deadlines.values(), default=None)

    @property
    def wants_write(self) -> bool:
        """Are there messages besides routes to send?"""
        return bool(self._outbox) or self._keepalive_due

    def step(self, event: Event) -> tuple[Action, ...]:
        """Move the machine; timers that have no place in the new state stop."""
        transition = self._machine.step(event)
        for timer in list(self._deadlines):
            if transition.state not in RUNS_IN[timer]:
                del self._deadlines[timer]
        return transition.actions

    def expired(self, now: float) -> Timer | None:
        """Disarm and return the first timer that is due."""
        for timer in Timer:
            deadline = self._deadlines.get(timer)
            if deadline is not None and deadline <= now:
                del self._deadlines[timer]
                return timer
        return None

    def expects(self, event: Event) -> bool:
        """Is this event in place in the present state?"""
        return self._machine.expects(event)

    def armed(self, timer: Timer) -> bool:
        """Is this timer running?"""
        return timer in self._deadlines

    def disarm(self) -> None:
        """Stop all timers."""
        self._deadlines.clear()

    def arm(self, timer: Timer, deadline: float) -> None:
        """Start a timer, or move it."""
        self._deadlines[timer] = deadline

    def arm_for(self, action: Action, now: float, jitter: float) -> None:
        """Start the timer that an action names, with its value (RFC 4271 §10)."""
        if action is Action.ARM_CONNECT_RETRY:
            self.arm(Timer.CONNECT_RETRY, now + jittered(BGP_CONNECT_SECONDS, jitter))
        elif action is Action.ARM_OPEN_HOLD:
            self.arm(Timer.HOLD, now + BGP_OPEN_HOLD_SECONDS)
        elif action is Action.ARM_HOLD and not self.hold_time:
            self._deadlines.pop(Timer.HOLD, None)  # RFC 4271 §4.2: 0 is for ever
        elif action is Action.ARM_HOLD:
            self.arm(Timer.HOLD, now + self.hold_time)
        elif action is Action.ARM_KEEPALIVE and self.hold_time:
            # RFC 4271 §4.4: hold time 0 means no keepalives.
            self.arm(Timer.KEEPALIVE, now + jittered(self.keepalive_time, jitter))

    @property
    def hold_time(self) -> float:
        """The negotiated hold time in seconds; 0 is for ever."""
        return self.negotiated.hold_time if self.negotiated else 0.0

    def send_open(self, message: Open) -> None:
        """Queue our OPEN."""
        self.our_open = message
        if message.capabilities.extended_messages:
            # RFC 8654 §4: the peer may use what we offer, even if it offers nothing itself.
            self._framer.message_bytes = BGP_EXTENDED_MESSAGE_BYTES
        self._outbox += encode_open(message)
        self._sent.count(MessageType.OPEN)

    def send_keepalive(self, now: float) -> None:
        """A KEEPALIVE is due. One that was not taken yet serves, and the peer is being slow."""
        self._keepalive_due = True
        if self.state is State.ESTABLISHED and Timer.SEND_HOLD not in self._deadlines:
            # RFC 9687 §3.2: the larger of 8 minutes and twice the hold time.
            limit = max(BGP_SEND_HOLD_SECONDS_MIN, 2 * self.hold_time)
            self.arm(Timer.SEND_HOLD, now + limit)

    def send_notification(self, notification: Notification) -> None:
        """Queue the last message."""
        self._outbox += encode_notification(notification)
        self._sent.count(MessageType.NOTIFICATION)

    def take_messages(self) -> bytes:
        """The queued messages, a few hundred octets at most."""
        out = bytes(self._outbox)
        self._outbox.clear()
        if self._keepalive_due:
            self._keepalive_due = False
            out += KEEPALIVE
            self._sent.count(MessageType.KEEPALIVE)
        self._deadlines.pop(Timer.SEND_HOLD, None)
        return out

    def close(self) -> bytes:
        """Forget the TCP connection; returns the last words to write before it is closed."""
        words = bytes(self._outbox)
        self._reset()
        return words

    def feed(self, data: bytes) -> None:
        """Bytes arrived."""
        self._framer.feed(data)

    def next_message(self) -> tuple[MessageType, Message] | None:
        """Decode one message that has arrived whole.

        Raises:
            DecodeError: what arrived cannot be read and ends the connection.
        """
        frame = self._framer.next_frame()
        if frame is None:
            return None
        self._received.count(frame.type)
        if frame.type is MessageType.OPEN and self.state is State.OPEN_SENT:
            return frame.type, decode_open(frame.body)
        if frame.type is MessageType.NOTIFICATION:
            return frame.type, _read_notification(frame.body)
        if self.state is State.ESTABLISHED and self.negotiated is not None:
            if frame.type is MessageType.UPDATE:
                return frame.type, decode_update(
                    frame.body,
                    four_octet_asn=self.negotiated.four_octet_asn,
                    internal=self.negotiated.internal,
                )
            if frame.type is MessageType.ROUTE_REFRESH:
                return frame.type, decode_route_refresh(
                    frame.body, enhanced=self.negotiated.enhanced_route_refresh
                )
        return frame.type, None


def _read_notification(body: bytes) -> Notification:
    """A NOTIFICATION that cannot be read still ends the connection, unanswered (RFC 4271 §6.4)."""
    try:
        return decode_notification(body)
    except DecodeError:
        return Notification(0)
