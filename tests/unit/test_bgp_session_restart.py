"""Graceful restart between two session machines: what OPENs say, how ends look, what is kept."""

from typing import Any

import msgspec
import pytest

from clarion.proto.bgp.config import Direction, Endpoints, PeerConfig, State
from clarion.proto.bgp.iana import IPV4_UNICAST, IPV6_UNICAST, Cease, ErrorCode, MessageType
from clarion.proto.bgp.notify import cease, describe
from clarion.proto.bgp.open import (
    Capabilities,
    GracefulRestart,
    RestartFamily,
    decode_open,
    encode_open,
    make_open,
)
from clarion.proto.bgp.session import Drop, Session
from clarion.proto.bgp.wire import KEEPALIVE
from clarion.testing.bgplink import BgpLink

from .bgp_kit import LEFT, LEFT6, RIGHT, last_notification, link, peer, routes, updates

BOTH = (IPV4_UNICAST, IPV6_UNICAST)
OFFERED = {"graceful_restart": 120.0}
ENDS = Endpoints(local=LEFT, remote=RIGHT, router_id=LEFT)


def offers(joined: BgpLink, sender: str = "left") -> list[GracefulRestart | None]:
    """The capability in each OPEN of one end."""
    bodies = joined.messages(sender, MessageType.OPEN)
    return [decode_open(body).capabilities.graceful_restart for body in bodies]


def capability(*, restarting: bool, preserved: bool) -> GracefulRestart:
    families = tuple(RestartFamily(family, preserved) for family in BOTH)
    return GracefulRestart(120, restarting, notifications=True, families=families)


def start_over(joined: BgpLink, end: str, config: PeerConfig, *, restarted: bool) -> Session:
    """The program of one end is killed, and started again later; its connections end."""
    for connection in list(joined.connections):
        joined.connections.remove(connection)
        other = "right" if end == "left" else "left"
        joined.sessions[other].lost(connection.direction_of[other], "reset by peer", joined.now)
    fresh = Session(config, joined.now, restarted_at=joined.now if restarted else None)
    joined.sessions[end] = fresh
    return fresh


def answered(
    restart: GracefulRestart | None, config: dict[str, Any], *, restarted_at: float | None = None
) -> Session:
    """A session of ours whose peer is written by hand; established at 1.0."""
    ours = msgspec.structs.replace(peer("right", RIGHT), **config)
    session = Session(ours, 0.0, restarted_at=restarted_at)
    session.set_routes(routes("203.0.113.1/32"))
    session.start(0.0)
    answer(session, restart, 1.0)
    return session


def answer(session: Session, restart: GracefulRestart | None, now: float) -> None:
    session.connected(Direction.OUTGOING, ENDS, now)
    offer = Capabilities(families=BOTH, graceful_restart=restart)
    session.receive(
        Direction.OUTGOING, encode_open(make_open(64513, 90, RIGHT, offer)) + KEEPALIVE, now
    )
    session.take(Direction.OUTGOING, 1 << 17)
    session.outputs()
    assert session.state is State.ESTABLISHED


def goodbye(session: Session) -> bytes:
    """The last words on the connection that was dropped."""
    (drop,) = (each for each in session.outputs() if isinstance(each, Drop) and each.last_words)
    return drop.last_words


HELPER = GracefulRestart(90, families=(RestartFamily(IPV4_UNICAST), RestartFamily(IPV6_UNICAST)))
NOTIFIED = msgspec.structs.replace(HELPER, notifications=True)


# -- what OPENs say --------------------------------------------------------------------------------


def test_the_capability_is_offered_only_where_it_is_configured() -> None:
    joined = link()
    joined.start()
    assert offers(joined) == [None]
    assert joined.left.status().restart is None


def test_a_first_start_claims_nothing() -> None:
    joined = link(OFFERED, OFFERED)
    joined.start()
    assert offers(joined) == [capability(restarting=False, preserved=False)]
    restart = joined.left.status().restart
    assert restart is not None
    assert (restart.restart_time, restart.notifications) == (120.0, True)
    assert (restart.restarting, restart.forwarding_preserved) == (False, ())
    assert (restart.peer_restart_time, restart.peer_families) == (120.0, BOTH)
    assert (restart.peer_restarting, restart.peer_forwarding_preserved) == (False, ())


def test_restart_time_is_what_fits_into_the_capability() -> None:
    joined = link({"graceful_restart": 86400.0}, {"graceful_restart": 0.5})
    joined.start()
    (offer,) = offers(joined)
    assert offer is not None
    assert offer.restart_time == 4095
    assert offers(joined, "right") == [None]


def test_a_restart_is_told_once_and_the_state_that_was_kept_is_too() -> None:
    joined = link(OFFERED, OFFERED)
    joined.start()
    config = joined.left.config
    start_over(joined, "left", config, restarted=True)
    joined.captured.clear()
    joined.start("left")
    assert joined.left.state is State.ESTABLISHED
    # RFC 4724 §4.1: R and F.
    assert offers(joined) == [capability(restarting=True, preserved=True)]
    told = joined.right.status().restart
    assert told is not None
    assert (told.peer_restarting, told.peer_forwarding_preserved) == (True, BOTH)
    # RFC 4724 §4.2: who did not restart does not say so, though its traffic never stopped either.
    assert offers(joined, "right") == [capability(restarting=False, preserved=True)]
    # A later loss of the session alone is no restart.
    joined.cut()
    joined.advance(9.0)
    joined.mend()
    joined.captured.clear()
    joined.advance(60.0)
    assert offers(joined)[-1] == capability(restarting=False, preserved=True)  # RFC 8538 §4


def test_a_start_of_the_whole_node_claims_nothing() -> None:
    joined = link(OFFERED, OFFERED)
    joined.start()
    start_over(joined, "left", joined.left.config, restarted=False)
    joined.captured.clear()
    joined.start("left")
    assert offers(joined) == [capability(restarting=False, preserved=False)]


def test_after_the_restart_time_it_is_a_new_start() -> None:
    joined = link(OFFERED, OFFERED)
    start_over(joined, "left", joined.left.config, restarted=True)
    joined.reachable = False
    joined.start()
    joined.advance(119.0)
    joined.reachable = True
    joined.advance(40.0)
    assert joined.left.state is State.ESTABLISHED
    assert offers(joined) == [capability(restarting=False, preserved=False)]


def test_a_stopped_session_that_is_started_again_claims_nothing() -> None:
    joined = link(OFFERED, OFFERED)
    joined.start()
    joined.left.stop(joined.now, Cease.ADMINISTRATIVE_RESET)
    joined.settle()
    joined.captured.clear()
    joined.left.start(joined.now)
    joined.settle()
    assert offers(joined) == [capability(restarting=False, preserved=False)]


def test_a_change_counts_from_the_next_session() -> None:
    joined = link(OFFERED, OFFERED)
    joined.start()
    changed = msgspec.structs.replace(joined.left.config, graceful_restart=60.0)
    joined.left.configure(changed, joined.now)
    assert joined.left.state is State.ESTABLISHED
    restart = joined.left.status().restart
    assert restart is not None
    assert restart.restart_time == 120.0


# -- the initial update ----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [(), ("203.0.113.1/32", "2001:db8:ff::1/128")])
def test_the_end_of_rib_waits_until_all_routes_are_known(known: tuple[str, ...]) -> None:
    joined = link(OFFERED, OFFERED)
    joined.extra["left"] = {"next_hop_ipv6": LEFT6}
    start_over(joined, "left", joined.left.config, restarted=True)
    joined.start()
    joined.advance(30.0)
    assert updates(joined, "left") == []  # the peer goes on with what it has kept
    joined.left.set_routes(routes(*known))
    joined.settle()
    ends = [update.end_of_rib for update in updates(joined, "left")]
    announced = len(known)
    assert ends == [None] * announced + list(BOTH)
    assert [row.complete for row in joined.right.status().inbound] == [True, True]


# -- how we leave ----------------------------------------------------------------------------------


def test_a_stop_that_keeps_routes_is_silent_towards_a_plain_helper() -> None:
    session = answered(HELPER, OFFERED)
    session.stop(2.0, Cease.ADMINISTRATIVE_SHUTDOWN, "upgrade", keep_routes=True)
    drops = [each for each in session.outputs() if isinstance(each, Drop)]
    assert {drop.last_words for drop in drops} == {b""}  # RFC 4724 §4
    assert session.status().last_notification_sent == ""
    assert session.next_deadline() is None


def test_a_stop_that_keeps_routes_may_speak_where_both_keep_them_all_the_same() -> None:
    joined = link(OFFERED, OFFERED)
    joined.start()
    joined.left.stop(joined.now, Cease.ADMINISTRATIVE_SHUTDOWN, "upgrade", keep_routes=True)
    joined.settle()
    assert last_notification(joined, "left") == cease(Cease.ADMINISTRATIVE_SHUTDOWN, "upgrade")


@pytest.mark.parametrize(
    ("theirs", "ours"), [(None, OFFERED), (NOTIFIED, {}), (None, {})], ids=["peer", "we", "both"]
)
def test_without_the_capability_on_either_side_a_stop_says_goodbye(
    theirs: GracefulRestart | None, ours: dict[str, Any]
) -> None:
    session = answered(theirs, ours)
    session.stop(2.0, Cease.ADMINISTRATIVE_SHUTDOWN, keep_routes=True)
    assert goodbye(session)[-2:] == bytes((ErrorCode.CEASE, Cease.ADMINISTRATIVE_SHUTDOWN))


def test_a_stop_that_withdraws_is_a_hard_reset_with_the_reason_inside() -> None:
    """RFC 8538 §5.1 recommends it for a shutdown that is meant to last."""
    joined = link(OFFERED, OFFERED)
    joined.start()
    joined.left.stop(joined.now, Cease.ADMINISTRATIVE_SHUTDOWN, "gone")
    joined.settle()
    said = last_notification(joined, "left")
    assert (said.code, said.subcode) == (ErrorCode.CEASE, Cease.HARD_RESET)  # RFC 8538 §3
    assert said.hard_reset == cease(Cease.ADMINISTRATIVE_SHUTDOWN, "gone")
    words = 'Cease/Hard Reset (Cease/Administrative Shutdown: "gone")'
    assert describe(said) == words
    assert joined.right.status().last_notification_received == words


def test_a_helper_that_knows_no_hard_reset_gets_none() -> None:
    session = answered(HELPER, OFFERED)
    session.stop(2.0, Cease.PEER_DE_CONFIGURED)
    assert goodbye(session)[-2:] == bytes((ErrorCode.CEASE, Cease.PEER_DE_CONFIGURED))


def test_before_the_peer_has_answered_a_stop_that_keeps_routes_is_silent() -> None:
    session = Session(msgspec.structs.replace(peer("right", RIGHT), **OFFERED), 0.0)
    session.start(0.0)
    session.connected(Direction.OUTGOING, ENDS, 1.0)
    session.take(Direction.OUTGOING, 1 << 17)
    session.outputs()
    session.stop(2.0, Cease.ADMINISTRATIVE_SHUTDOWN, keep_routes=True)
    drops = [each.last_words for each in session.outputs() if isinstance(each, Drop)]
    assert drops
    assert set(drops) == {b""}


def test_faults_are_told_plainly_so_that_the_routes_survive_them() -> None:
    joined = link(OFFERED, OFFERED)
    joined.start()
    joined.cut()
    joined.advance(9.0)
    assert joined.left.status().last_notification_sent == "Hold Timer Expired"  # RFC 8538 §4


# -- a peer that restarts --------------------------------------------------------------------------


def test_a_new_connection_of_a_peer_that_can_restart_replaces_the_old_one() -> None:
    joined = link(OFFERED, OFFERED)
    joined.left.set_routes(routes("203.0.113.1/32"))
    joined.right.set_routes(routes("198.51.100.1/32"))
    joined.start()
    (old,) = joined.connections
    # Left vanishes without a word (its node lost power, say), and comes back.
    old.cut = True
    joined.sessions["left"] = Session(joined.left.config, joined.now)
    joined.left.set_routes(routes("203.0.113.2/32"))
    joined.captured.clear()
    joined.start("left")
    assert [s.state for s in joined.sessions.values()] == [State.ESTABLISHED] * 2
    assert old not in joined.connections
    status = joined.right.status()
    assert status.flaps == 1
    assert status.prefixes_received == 1
    assert status.last_error == "the peer restarted: it opened a new connection"
    # RFC 4724 §4.2: the old connection is closed without a NOTIFICATION.
    assert joined.messages("right", MessageType.NOTIFICATION) == []


@pytest.mark.parametrize(
    "theirs", [None, GracefulRestart(90)], ids=["no capability", "no families"]
)
def test_otherwise_the_established_connection_stays(theirs: GracefulRestart | None) -> None:
    """RFC 4724 §5: only families in the capability make it a restart."""
    session = answered(theirs, OFFERED)
    assert session.admit(2.0) == cease(Cease.CONNECTION_COLLISION_RESOLUTION)
    assert session.state is State.ESTABLISHED


def test_an_old_connection_that_we_opened_gives_way_too() -> None:
    session = answered(NOTIFIED, OFFERED)
    assert session.admit(2.0) is None
    drops = [each for each in session.outputs() if isinstance(each, Drop)]
    assert [(drop.direction, drop.last_words) for drop in drops] == [(Direction.OUTGOING, b"")]
    session.connected(Direction.INCOMING, ENDS, 2.0)
    assert session.state is State.OPEN_SENT
    session.lost(Direction.INCOMING, "gone", 3.0)
    assert session.next_deadline() is not None  # it tries by itself again
