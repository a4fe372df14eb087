"""The finite state machine of a connection (RFC 4271 §8) as a table.

`Machine.step` is the only way to change a state, and it knows nothing but this table. A session has
one machine for the connections it opens and one for those it accepts (RFC 4271 §8.2.1: an FSM per
connection); the second waits in Active, which is where a listener stands.

What is not in the table falls to `OTHERWISE`: an event that must not happen in a state ends the
attempt, and with a peer on the line says so (RFC 4271 §8.2.2, RFC 6608).
"""

import enum
from typing import Final

import msgspec

from clarion.proto.bgp.config import State


class Event(enum.Enum):
    """Events of RFC 4271 §8.1; the numbers in brackets are those it merges."""

    START = "start"  # [1, 3, 6] and, after a failure, [13]
    START_PASSIVE = "start passive"  # [4, 5, 7]
    STOP = "stop"  # [2]
    AUTOMATIC_STOP = "automatic stop"  # [8]
    ABANDON = "left without a word"  # RFC 4724 §4, §4.2
    CONNECT_RETRY_EXPIRES = "connect retry timer"  # [9]
    HOLD_EXPIRES = "hold timer"  # [10]
    KEEPALIVE_EXPIRES = "keepalive timer"  # [11]
    SEND_HOLD_EXPIRES = "send hold timer"  # [29], RFC 9687 §3
    TCP_CONNECTED = "connected"  # [16, 17]
    TCP_FAILED = "connection lost"  # [18]
    OPEN_RECEIVED = "OPEN"  # [19]
    MESSAGE_ERROR = "malformed message"  # [21, 22, 28]
    COLLISION = "collision"  # [23]
    NOTIFICATION_RECEIVED = "NOTIFICATION"  # [24, 25]
    KEEPALIVE_RECEIVED = "KEEPALIVE"  # [26]
    UPDATE_RECEIVED = "UPDATE"  # [27]
    REFRESH_RECEIVED = "ROUTE-REFRESH"  # RFC 2918 §4


class Action(enum.Enum):
    """What a transition asks of its connection, in the order given."""

    DIAL = "open a TCP connection"
    DROP = "close the TCP connection"
    BACK_OFF = "wait before the next attempt"
    SEND_OPEN = "send OPEN"
    SEND_KEEPALIVE = "send KEEPALIVE"
    NOTIFY = "send NOTIFICATION"
    ARM_CONNECT_RETRY = "start the connect retry timer"
    ARM_OPEN_HOLD = "start the hold timer with its large value"
    ARM_HOLD = "start the hold timer with the negotiated value"
    ARM_KEEPALIVE = "start the keepalive timer"
    UP = "begin to exchange routes"
    ROUTES = "take in routes"
    REFRESH = "send all routes again"


class Transition(msgspec.Struct, frozen=True):
    """The state after an event, and what happens on the way."""

    state: State
    actions: tuple[Action, ...] = ()


_A = Action
_DIAL = Transition(State.CONNECT, (_A.ARM_CONNECT_RETRY, _A.DIAL))
_REDIAL = Transition(State.CONNECT, (_A.DROP, _A.ARM_CONNECT_RETRY, _A.DIAL))
_GREET = Transition(State.OPEN_SENT, (_A.SEND_OPEN, _A.ARM_OPEN_HOLD))
_GIVE_UP = Transition(State.IDLE, (_A.DROP, _A.BACK_OFF))
_REJECT = Transition(State.IDLE, (_A.NOTIFY, _A.DROP, _A.BACK_OFF))
_LEAVE = Transition(State.IDLE, (_A.NOTIFY, _A.DROP))
_QUIET = Transition(State.IDLE, (_A.DROP,))

_S, _E = State, Event
TABLE: Final[dict[tuple[State, Event], Transition]] = {
    (_S.IDLE, _E.START): _DIAL,
    (_S.IDLE, _E.START_PASSIVE): Transition(_S.ACTIVE),
    (_S.CONNECT, _E.STOP): _QUIET,
    (_S.CONNECT, _E.CONNECT_RETRY_EXPIRES): _REDIAL,
    (_S.CONNECT, _E.TCP_CONNECTED): _GREET,
    (_S.CONNECT, _E.TCP_FAILED): _GIVE_UP,
    (_S.ACTIVE, _E.STOP): _QUIET,
    (_S.ACTIVE, _E.TCP_CONNECTED): _GREET,
    (_S.OPEN_SENT, _E.STOP): _LEAVE,
    (_S.OPEN_SENT, _E.AUTOMATIC_STOP): _REJECT,
    (_S.OPEN_SENT, _E.ABANDON): _QUIET,
    (_S.OPEN_SENT, _E.HOLD_EXPIRES): _REJECT,
    (_S.OPEN_SENT, _E.TCP_FAILED): _GIVE_UP,
    (_S.OPEN_SENT, _E.OPEN_RECEIVED): Transition(
        _S.OPEN_CONFIRM, (_A.SEND_KEEPALIVE, _A.ARM_KEEPALIVE, _A.ARM_HOLD)
    ),
    (_S.OPEN_SENT, _E.MESSAGE_ERROR): _REJECT,
    (_S.OPEN_SENT, _E.COLLISION): _LEAVE,
    (_S.OPEN_SENT, _E.NOTIFICATION_RECEIVED): _GIVE_UP,
    (_S.OPEN_CONFIRM, _E.STOP): _LEAVE,
    (_S.OPEN_CONFIRM, _E.AUTOMATIC_STOP): _REJECT,
    (_S.OPEN_CONFIRM, _E.ABANDON): _QUIET,
    (_S.OPEN_CONFIRM, _E.HOLD_EXPIRES): _REJECT,
    (_S.OPEN_CONFIRM, _E.KEEPALIVE_EXPIRES): Transition(
        _S.OPEN_CONFIRM, (_A.SEND_KEEPALIVE, _A.ARM_KEEPALIVE)
    ),
    (_S.OPEN_CONFIRM, _E.TCP_FAILED): _GIVE_UP,
    (_S.OPEN_CONFIRM, _E.MESSAGE_ERROR): _REJECT,
    (_S.OPEN_CONFIRM, _E.COLLISION): _LEAVE,
    (_S.OPEN_CONFIRM, _E.NOTIFICATION_RECEIVED): _GIVE_UP,
    (_S.OPEN_CONFIRM, _E.KEEPALIVE_RECEIVED): Transition(_S.ESTABLISHED, (_A.ARM_HOLD, _A.UP)),
    (_S.ESTABLISHED, _E.STOP): _LEAVE,
    (_S.ESTABLISHED, _E.AUTOMATIC_STOP): _REJECT,
    (_S.ESTABLISHED, _E.ABANDON): _QUIET,
    (_S.ESTABLISHED, _E.HOLD_EXPIRES): _REJECT,
    (_S.ESTABLISHED, _E.SEND_HOLD_EXPIRES): _REJECT,
    (_S.ESTABLISHED, _E.KEEPALIVE_EXPIRES): Transition(
        _S.ESTABLISHED, (_A.SEND_KEEPALIVE, _A.ARM_KEEPALIVE)
    ),
    (_S.ESTABLISHED, _E.TCP_FAILED): _GIVE_UP,
    (_S.ESTABLISHED, _E.MESSAGE_ERROR): _REJECT,
    (_S.ESTABLISHED, _E.NOTIFICATION_RECEIVED): _GIVE_UP,
    (_S.ESTABLISHED, _E.KEEPALIVE_RECEIVED): Transition(_S.ESTABLISHED, (_A.ARM_HOLD,)),
    (_S.ESTABLISHED, _E.UPDATE_RECEIVED): Transition(_S.ESTABLISHED, (_A.ARM_HOLD, _A.ROUTES)),
    (_S.ESTABLISHED, _E.REFRESH_RECEIVED): Transition(_S.ESTABLISHED, (_A.REFRESH,)),
}

OTHERWISE: Final[dict[State, Transition]] = {
    # RFC 4271 §8.2.2 "any other event": Idle stays, the two states without a peer on the line
    # give up, the others answer with a Finite State Machine Error.
    _S.IDLE: Transition(_S.IDLE),
    _S.CONNECT: _GIVE_UP,
    _S.ACTIVE: _GIVE_UP,
    _S.OPEN_SENT: _REJECT,
    _S.OPEN_CONFIRM: _REJECT,
    _S.ESTABLISHED: _REJECT,
}


class Machine:
    """Holds one state and moves it by the table."""

    def __init__(self) -> None:
        self._state = State.IDLE

    @property
    def state(self) -> State:
        """Where the machine stands."""
        return self._state

    def expects(self, event: Event) -> bool:
        """Has the table a row for this event here? If not, it is a fault of the peer or ours."""
        return (self._state, event) in TABLE

    def step(self, event: Event) -> Transition:
        """Move, and say what to do."""
        transition = TABLE.get((self._state, event)) or OTHERWISE[self._state]
        self._state = transition.state
        return transition
