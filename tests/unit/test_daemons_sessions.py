"""Events about BGP sessions: on the BGPPeer, told once, with the reason; and the peer label."""

import pytest

from clarion.daemons.notices import SessionNotices
from clarion.daemons.sessionsamples import peer_label
from clarion.decide.config import EMPTY, build_config
from clarion.decide.snapshot import Snapshot
from clarion.edge.events import EventRecorder, EventType
from clarion.model.meta import KubeObject, ObjectKey, ObjectReference
from clarion.proto.bgp.config import State
from clarion.proto.bgp.session import StateChanged
from clarion.testing import builders
from clarion.testing.memoryapi import MemoryClient

from .daemons_kit import SYSTEM, NoWaiting, StillClock

REFUSED = "cannot connect to 192.0.2.1 port 179: Connection refused"
NOTIFIED = 'NOTIFICATION received: Cease/Administrative Shutdown: "maintenance"'
UP = StateChanged(State.OPEN_CONFIRM, State.ESTABLISHED, "the session is established")
LOST = StateChanged(State.ESTABLISHED, State.IDLE, NOTIFIED)
FAILED = StateChanged(State.CONNECT, State.ACTIVE, REFUSED)
AGAIN = StateChanged(State.ACTIVE, State.CONNECT, "")
TOLD_UP = ("Normal", "SessionUp", 'the session of node "me" is established')
TOLD_LOST = ("Warning", "SessionDown", f'node "me" lost its session: {NOTIFIED}')
TOLD_FAILED = ("Warning", "SessionDown", f'node "me" has no session: {REFUSED}')


class Recorded(EventRecorder):
    """Keeps what is recorded, and about what."""

    def __init__(self) -> None:
        super().__init__(MemoryClient(), "metallb-speaker", StillClock(), NoWaiting())
        self.facts: list[tuple[str, str, str]] = []
        self.about: set[str] = set()

    def record(
        self, about: KubeObject | ObjectReference, type_: EventType, reason: str, message: str
    ) -> None:
        self.facts.append((type_, reason, message))
        self.about.add(f"{about.kind} {about.namespace}/{about.name}")


def played(*changes: StateChanged, peer: str = "frr") -> Recorded:
    events = Recorded()
    peers = {ObjectKey(SYSTEM, "frr"): builders.peer("frr", "192.0.2.1")}
    notices = SessionNotices(events, "me", SYSTEM, peers)
    for change in changes:
        notices.report(peer, change)
    return events


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param([AGAIN], [], id="an attempt begins"),
        pytest.param([UP], [TOLD_UP], id="up"),
        pytest.param([FAILED], [TOLD_FAILED], id="never came up"),
        pytest.param([FAILED, AGAIN, FAILED], [TOLD_FAILED], id="fails alike again"),
        pytest.param([UP, LOST], [TOLD_UP, TOLD_LOST], id="lost"),
        pytest.param(
            [UP, LOST, AGAIN, FAILED, AGAIN, UP],
            [TOLD_UP, TOLD_LOST, TOLD_FAILED, TOLD_UP],
            id="lost, refused, back",
        ),
    ],
)
def test_what_is_news(changes: list[StateChanged], told: list[tuple[str, str, str]]) -> None:
    events = played(*changes)
    assert events.facts == told
    assert events.about <= {"BGPPeer metallb-system/frr"}


def test_a_peer_that_is_gone_has_no_events() -> None:
    assert played(UP, LOST, peer="other").facts == []


@pytest.mark.parametrize(
    ("address", "label"),
    [("192.0.2.1", "192.0.2.1:179"), ("2001:db8::1", "[2001:db8::1]:179")],
)
def test_peers_are_labelled_as_metallb_labels_them(address: str, label: str) -> None:
    objects = Snapshot(peers=(builders.peer("frr", address),))
    settled = build_config(objects, EMPTY).config.peers["frr"]
    assert peer_label(settled) == label
