"""The state machine of a BFD session as a table (RFC 5880 §6.2, §6.8.6 and what else moves it).

`step` is the only way from one state to another, and it knows nothing but this table; a pair that
is not in it changes nothing.
"""

import enum
from typing import Final, NamedTuple

from clarion.proto.bfd.packet import Diagnostic, State


class Event(enum.Enum):
    """What can move a session."""

    HEARD_ADMIN_DOWN = "the other side is AdminDown"
    HEARD_DOWN = "the other side is Down"
    HEARD_INIT = "the other side is Init"
    HEARD_UP = "the other side is Up"
    DETECTION_TIME_EXPIRED = "silence for the detection time"
    ECHO_FAILED = "echo packets stay away"
    DISABLE = "switched off"


class Transition(NamedTuple):
    """The state after an event; the diagnostic that says why, None to keep the last one."""

    state: State
    diagnostic: Diagnostic | None = None


_S, _E, _D = State, Event, Diagnostic
_DISABLED = Transition(_S.ADMIN_DOWN, _D.ADMINISTRATIVELY_DOWN)
_SIGNALED = Transition(_S.DOWN, _D.NEIGHBOR_SIGNALED_DOWN)
_EXPIRED = Transition(_S.DOWN, _D.DETECTION_TIME_EXPIRED)
_UP = Transition(_S.UP, _D.NONE)

TABLE: Final[dict[tuple[State, Event], Transition]] = {
    # RFC 5880 §6.8.6, the state machine of received states. Down takes no Up: the three-way
    # handshake cannot be shortened (§6.2).
    (_S.DOWN, _E.HEARD_DOWN): Transition(_S.INIT),
    (_S.DOWN, _E.HEARD_INIT): _UP,
    (_S.INIT, _E.HEARD_ADMIN_DOWN): _SIGNALED,
    (_S.INIT, _E.HEARD_INIT): _UP,
    (_S.INIT, _E.HEARD_UP): _UP,
    (_S.UP, _E.HEARD_ADMIN_DOWN): _SIGNALED,
    (_S.UP, _E.HEARD_DOWN): _SIGNALED,
    # RFC 5880 §6.8.4
    (_S.INIT, _E.DETECTION_TIME_EXPIRED): _EXPIRED,
    (_S.UP, _E.DETECTION_TIME_EXPIRED): _EXPIRED,
    # RFC 5880 §6.8.5
    (_S.UP, _E.ECHO_FAILED): Transition(_S.DOWN, _D.ECHO_FAILED),
    # RFC 5880 §6.8.16; a session that is wanted again is a new one.
    (_S.DOWN, _E.DISABLE): _DISABLED,
    (_S.INIT, _E.DISABLE): _DISABLED,
    (_S.UP, _E.DISABLE): _DISABLED,
}

HEARD: Final = {
    _S.ADMIN_DOWN: _E.HEARD_ADMIN_DOWN,
    _S.DOWN: _E.HEARD_DOWN,
    _S.INIT: _E.HEARD_INIT,
    _S.UP: _E.HEARD_UP,
}
"""The event that is a received state."""


def step(state: State, event: Event) -> Transition:
    """The transition of an event; to the same state where the table has none."""
    return TABLE.get((state, event), Transition(state))
