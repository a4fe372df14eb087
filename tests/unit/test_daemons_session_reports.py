"""Reports of sessions: of our own machine, of a recorded FRR, of frr-k8s; and what is news."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.daemons.sessionobjects import news_of, session_name
from clarion.daemons.sessionreports import FrrSession, Moments, frr_session, native_report
from clarion.daemons.sessionsamples import message_samples, session_samples
from clarion.decide.config import EMPTY, build_config
from clarion.decide.frrk8s import session_report
from clarion.decide.sessions import why_down
from clarion.decide.settings import Peer
from clarion.decide.snapshot import Snapshot
from clarion.model.frrk8s import BGPSessionStateStatus
from clarion.model.sessions import BGPSessionStatus, SessionEvent, SessionPrefixes
from clarion.proto.bfd.config import BfdStatus
from clarion.proto.bfd.packet import State as BfdState
from clarion.proto.bgp.config import MessageCounts, SessionStatus, State
from clarion.testing import builders

from .daemons_kit import StillClock

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "frr" / "neighbors.json").read_text()
)
"""From FRR 8.4: one neighbour whose password is wrong, and an internal one that is up."""
BFD = {
    "peer": "192.0.2.2",
    "status": "down",
    "diagnostic": "control detection time expired",
    "remote-diagnostic": "ok",
    "transmit-interval": 200,
    "remote-transmit-interval": 300,
    "detect-multiplier": 3,
}


def settled(name: str, address: str) -> Peer:
    return build_config(Snapshot(peers=(builders.peer(name, address),)), EMPTY).config.peers[name]


def recorded(address: str, bfd: dict[str, Any] | None = None) -> FrrSession:
    when = Moments(StillClock()).of("r")
    return frr_session("n1", settled("r", address), RECORDED[address], bfd or {}, when, 1000.0)


def test_a_session_that_frr_has_up() -> None:
    seen = recorded("192.0.2.2", BFD)
    told = seen.report
    assert (told.state, told.up, told.hold_time) == ("Established", True, 9000)
    assert (told.local_address, told.remote_router_id) == ("192.0.2.12", "192.0.2.2")
    assert told.prefixes == SessionPrefixes(announced=1, received=0)
    assert told.capabilities is not None
    assert told.capabilities.agreed == (
        "4-octet-asn",
        "route-refresh",
        "enhanced-route-refresh",
        "graceful-restart",
    )
    assert "extended-messages" in told.capabilities.ours
    assert told.bfd is not None
    assert (told.bfd.state, told.bfd.detection_time) == ("down", 900)
    assert told.bfd.diagnostic == "control detection time expired"
    assert why_down(told) is None
    assert seen.sent.keepalives == RECORDED["192.0.2.2"]["messageStats"]["keepalivesSent"]


def test_families_that_frr_does_not_send_have_their_reason() -> None:
    (four, six) = recorded("192.0.2.2").report.families
    assert (four.family, four.sent, four.reason) == ("ipv4-unicast", True, "")
    assert (six.family, six.sent) == ("ipv6-unicast", False)
    assert six.reason == "the peer did not offer this family"
    alone = msgspec.structs.replace(settled("r", "192.0.2.2"), families=frozenset((4,)))
    when = Moments(StillClock()).of("r")
    entry = RECORDED["192.0.2.2"]
    told = frr_session("n1", alone, entry, {}, when, 1000.0).report
    assert "dualStackAddressFamily" in told.families[1].reason
    old = {**entry, "neighborCapabilities": {}}  # a peer from before RFC 4760 takes IPv4
    told = frr_session("n1", alone, old, {}, when, 1000.0).report
    assert [row.sent for row in told.families] == [True, False]
    assert recorded("192.0.2.1").report.families == ()


def test_a_session_that_frr_has_down() -> None:
    told = recorded("192.0.2.1").report
    assert (told.state, told.established, told.flaps) == ("Connect", 1, 1)
    assert (told.local_address, told.remote_address) == ("", "192.0.2.1")
    assert (told.remote_router_id, told.hold_time, told.bfd) == ("", None, None)
    assert told.notification_sent == SessionEvent(text="Cease/Other Configuration Change")
    assert told.notification_received is None


def test_a_moment_keeps_its_text_between_two_looks() -> None:
    clock = StillClock()
    moments = Moments(clock)
    first = moments.of("r")("since", 990.0)
    clock.at += 0.7
    assert moments.of("r")("since", 990.0) == first == "2026-01-01T00:16:30Z"
    moments.keep(())
    assert moments.of("r")("since", None) == ""


def native(**fields: Any) -> BGPSessionStatus:
    peer = parse_address("192.0.2.1")
    status = SessionStatus(
        name="r", peer_address=peer, peer_port=179, since=990.0, **{"state": State.ACTIVE, **fields}
    )
    bfd = BfdStatus(remote="192.0.2.1", state=BfdState.ADMIN_DOWN, detection_time=0.6)
    return native_report("n1", status, bfd, Moments(StillClock()).of("r"))


def test_our_own_session() -> None:
    told = native(last_error="it broke", last_error_at=995.0, time_to_established=0.25)
    assert (told.node, told.peer, told.state) == ("n1", "r", "Active")
    assert told.since == "2026-01-01T00:16:30Z"
    assert told.last_error == SessionEvent(text="it broke", time="2026-01-01T00:16:35Z")
    assert told.time_to_established == 250
    assert told.bfd is not None
    assert (told.bfd.state, told.bfd.detection_time) == ("admin-down", 600)


@pytest.mark.parametrize(("word", "bfd"), [("N/A", None), ("Up", "up")])
def test_what_frr_k8s_tells(word: str, bfd: str | None) -> None:
    status = BGPSessionStateStatus(
        node="n1", peer="192.0.2.1", bgp_status="Established", bfd_status=word
    )
    told = session_report(settled("r", "192.0.2.1"), status)
    assert (told.peer, told.up, told.bfd and told.bfd.state) == ("r", True, bfd)
    assert (told.prefixes, told.flaps, told.since) == (None, None, "")


LABELS = ("192.0.2.1:179", "default")
DOWN = native(last_error="refused", last_error_at=995.0)
UP = native(state=State.ESTABLISHED)


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        pytest.param(DOWN, {"state": "Connect", "since": "x"}, False, id="another attempt"),
        pytest.param(
            DOWN, {"last_error": SessionEvent(text="refused", time="x")}, False, id="fails alike"
        ),
        pytest.param(DOWN, {"last_error": SessionEvent(text="other")}, True, id="fails otherwise"),
        pytest.param(DOWN, {"state": "Established"}, True, id="comes up"),
        pytest.param(UP, {"state": "Idle"}, True, id="is lost"),
        pytest.param(UP, {"prefixes": SessionPrefixes(announced=9)}, False, id="counts"),
        pytest.param(UP, {"bfd": None}, True, id="BFD"),
    ],
)
def test_what_is_written_at_once(
    before: BGPSessionStatus, after: dict[str, Any], *, news: bool
) -> None:
    assert (news_of(before) != news_of(msgspec.structs.replace(before, **after))) is news


def test_names_are_readable_and_differ() -> None:
    name = session_name("node-a", "frr")
    assert name.startswith("node-a-frr-")
    assert len({name, session_name("node", "a-frr"), session_name("node-b", "frr")}) == 3
    assert len(session_name("n" * 253, "p" * 253)) <= 253


def test_what_is_unknown_has_no_sample() -> None:
    known = {item.family.name for item in session_samples(DOWN, LABELS)}
    assert {"metallb_bgp_session_up", "clarion_bgp_session_down_reason"} <= known
    bare = BGPSessionStatus(peer="r", state="Established")
    assert [(item.family.name, item.value) for item in session_samples(bare, LABELS)] == [
        ("metallb_bgp_session_up", 1.0),
        ("clarion_bgp_session_state", 6.0),
    ]


def test_metrics_of_messages_have_metallbs_names() -> None:
    counts = MessageCounts(1, 2, 3, 4, 5, 15)
    names = {item.family.name for item in message_samples(counts, counts, LABELS)}
    wanted = {
        *("opens_sent", "opens_received", "notifications_sent", "updates_total"),
        *("updates_total_received", "keepalives_sent", "keepalives_received"),
        *("route_refresh_sent", "total_sent", "total_received"),
    }
    assert {f"metallb_bgp_{name}" for name in wanted} <= names
