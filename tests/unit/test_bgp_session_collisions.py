"""Two connections with one peer: which of them stays, and when the second is not even made."""

import pytest

from clarion.base.addr import parse_address
from clarion.proto.bgp.config import Direction, DynamicAsn, Endpoints, State
from clarion.proto.bgp.iana import Cease, ErrorCode
from clarion.proto.bgp.notify import Notification, decode_notification
from clarion.proto.bgp.session import Drop, Session, collision_winner

from .bgp_kit import LEFT, RIGHT, link, peer

COLLISIONS = [
    # local (identifier, ASN), remote, the connection that stays
    (("192.0.2.1", 64512), ("192.0.2.2", 64512), Direction.INCOMING),
    (("192.0.2.2", 64512), ("192.0.2.1", 64512), Direction.OUTGOING),
    (("10.0.0.1", 64512), ("9.255.255.255", 64513), Direction.OUTGOING),
    (("192.0.2.1", 64512), ("192.0.2.1", 64513), Direction.INCOMING),  # RFC 6286 §2.3
    (("192.0.2.1", 4200000000), ("192.0.2.1", 64513), Direction.OUTGOING),
]


@pytest.mark.parametrize(("local", "remote", "stays"), COLLISIONS)
def test_which_connection_survives_a_collision(
    local: tuple[str, int], remote: tuple[str, int], stays: Direction
) -> None:
    a, b = (parse_address(local[0]), local[1]), (parse_address(remote[0]), remote[1])
    assert collision_winner(a, b) is stays
    assert collision_winner(b, a) is not stays


@pytest.mark.parametrize("held", ["left", "right", "none"])
def test_both_ends_open_at_once_and_one_session_remains(held: str) -> None:
    """RFC 4271 §8.2.1: a machine for each connection, until one is left (§6.8)."""
    joined = link(right={"passive": False})
    for session in joined.sessions.values():
        session.start(joined.now)
    joined._perform()
    assert len(joined.connections) == 2
    for connection in joined.connections:
        connection.blocked = {held}
    joined.settle()
    for connection in joined.connections:
        connection.blocked = set()
    joined.settle()
    joined.advance(60.0)
    assert [s.state for s in joined.sessions.values()] == [State.ESTABLISHED] * 2
    assert len(joined.connections) == 1


def test_the_higher_identifiers_connection_stays() -> None:
    """RFC 4271 §6.8."""
    joined = link(right={"passive": False})
    for session in joined.sessions.values():
        session.start(joined.now)
    joined._perform()
    joined.settle()
    # Right has identifier 192.0.2.2, so the connection that right opened is kept.
    (connection,) = joined.connections
    assert connection.direction_of["right"] is Direction.OUTGOING
    ceased = [decode_notification(body) for _, kind, body in joined.captured if kind == 3]
    assert {(n.code, n.subcode) for n in ceased} == {
        (ErrorCode.CEASE, Cease.CONNECTION_COLLISION_RESOLUTION)
    }


@pytest.mark.parametrize(("mine", "theirs"), [(64512, 64513), (64514, 64513)])
def test_a_collision_with_a_peer_of_any_asn_is_decided_by_the_asn_it_tells(
    mine: int, theirs: int
) -> None:
    same = {"router_id": parse_address("192.0.2.77"), "passive": False}
    joined = link(
        {"local_asn": mine, "peer_asn": DynamicAsn.EXTERNAL, **same},
        {"local_asn": theirs, "peer_asn": DynamicAsn.EXTERNAL, **same},
    )
    for session in joined.sessions.values():
        session.start(joined.now)
    joined._perform()
    joined.settle()
    (connection,) = joined.connections
    winner = "left" if mine > theirs else "right"  # RFC 6286 §2.3
    assert connection.direction_of[winner] is Direction.OUTGOING
    assert [s.state for s in joined.sessions.values()] == [State.ESTABLISHED] * 2


@pytest.mark.parametrize("silent", [False, True], ids=["waiting", "dialling"])
def test_nobody_dials_a_peer_that_came_first(silent: bool) -> None:
    joined = link(right={"passive": False})
    joined.reachable, joined.silent = silent, silent
    joined.start("left")  # fails and waits, or hears nothing
    joined.reachable, joined.silent = True, False
    dialled = len(joined.dialled)
    joined.start("right")
    assert joined.left.state is State.ESTABLISHED
    joined.advance(60.0)
    assert joined.dialled[dialled:] == ["right"]
    assert joined.left.status().established_count == 1


def test_a_new_connection_does_not_disturb_an_established_session() -> None:
    """RFC 4271 §6.8."""
    joined = link()
    joined.start()
    refusal = joined.right.admit(joined.now)
    assert refusal == Notification(ErrorCode.CEASE, Cease.CONNECTION_COLLISION_RESOLUTION)
    assert joined.right.state is State.ESTABLISHED


def test_a_peer_that_starts_over_replaces_its_unfinished_connection() -> None:
    session = Session(peer("left", LEFT, 64513, 64512), 0.0)
    session.start(0.0)
    ends = Endpoints(local=RIGHT, remote=LEFT, router_id=RIGHT)
    assert session.admit(1.0) is None
    session.connected(Direction.INCOMING, ends, 1.0)
    session.outputs()
    assert session.admit(2.0) is None
    drops = [each for each in session.outputs() if isinstance(each, Drop)]
    assert [drop.direction for drop in drops] == [Direction.INCOMING]
    session.connected(Direction.INCOMING, ends, 2.0)
    assert session.state is State.OPEN_SENT


def test_a_stopped_session_admits_nobody() -> None:
    session = Session(peer("left", LEFT, 64513, 64512), 0.0)
    assert session.admit(0.0) == Notification(ErrorCode.CEASE, Cease.CONNECTION_REJECTED)
