"""The table of the state machine, held against RFC 4271 §8.2.2."""

from itertools import product

import pytest

from clarion.proto.bgp.config import State
from clarion.proto.bgp.fsm import OTHERWISE, TABLE, Action, Event, Machine

ON_THE_LINE = (State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED)

PATHS = [
    ([Event.START, Event.TCP_CONNECTED], State.OPEN_SENT),
    ([Event.START_PASSIVE, Event.TCP_CONNECTED], State.OPEN_SENT),
    ([Event.START, Event.TCP_CONNECTED, Event.OPEN_RECEIVED], State.OPEN_CONFIRM),
    (
        [Event.START, Event.TCP_CONNECTED, Event.OPEN_RECEIVED, Event.KEEPALIVE_RECEIVED],
        State.ESTABLISHED,
    ),
    ([Event.START, Event.CONNECT_RETRY_EXPIRES], State.CONNECT),
    ([Event.START, Event.TCP_FAILED], State.IDLE),
    # An UPDATE or KEEPALIVE before its time is a fault.
    ([Event.START, Event.TCP_CONNECTED, Event.KEEPALIVE_RECEIVED], State.IDLE),
    ([Event.START, Event.TCP_CONNECTED, Event.UPDATE_RECEIVED], State.IDLE),
    ([Event.START, Event.TCP_CONNECTED, Event.OPEN_RECEIVED, Event.UPDATE_RECEIVED], State.IDLE),
]


@pytest.mark.parametrize(("events", "end"), PATHS)
def test_paths(events: list[Event], end: State) -> None:
    machine = Machine()
    for event in events:
        machine.step(event)
    assert machine.state is end


def test_every_pair_of_state_and_event_has_an_outcome() -> None:
    """RFC 4271 §8.1, §8.2.2."""
    for state, event in product(State, Event):
        transition = TABLE.get((state, event)) or OTHERWISE[state]
        if state is not State.IDLE and transition.state is State.IDLE:
            assert Action.DROP in transition.actions, (state, event)


def test_established_is_reached_by_a_keepalive_only() -> None:
    arrivals = {
        key
        for key, transition in TABLE.items()
        if transition.state is State.ESTABLISHED and key[0] is not State.ESTABLISHED
    }
    assert arrivals == {(State.OPEN_CONFIRM, Event.KEEPALIVE_RECEIVED)}
    assert Action.UP in TABLE[State.OPEN_CONFIRM, Event.KEEPALIVE_RECEIVED].actions


def test_who_is_on_the_line_is_told_why_it_ends() -> None:
    # RFC 4271 §6.4: a NOTIFICATION is never answered. RFC 4724 §4: a restart is not announced.
    silent = {Event.TCP_FAILED, Event.NOTIFICATION_RECEIVED, Event.ABANDON}
    for state, event in product(ON_THE_LINE, Event):
        transition = TABLE.get((state, event)) or OTHERWISE[state]
        if transition.state is State.IDLE:
            assert (Action.NOTIFY in transition.actions) is (event not in silent), (state, event)


def test_failures_wait_and_orders_do_not() -> None:
    orders = {Event.STOP, Event.COLLISION, Event.ABANDON}
    for (state, event), transition in TABLE.items():
        if state is not State.IDLE and transition.state is State.IDLE:
            assert (Action.BACK_OFF in transition.actions) is (event not in orders), (state, event)
