"""What BGP peers ask of BFD, and what its ups and downs do to them."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from clarion.base import limits
from clarion.base.addr import Address, parse_address
from clarion.daemons.bfd import BfdWatch, bfd_config
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.edge.logs import Log
from clarion.edge.pulse import PulseClient
from clarion.model.metallb import BFDProfileSpec
from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.bfd.packet import State
from clarion.proto.pulse.messages import BfdReport, WatchedSession

HERE, THERE = parse_address("192.0.2.1"), parse_address("198.51.100.1")
LOCAL = parse_address("fe80::1")
PROFILES = {"fast": BFDProfileSpec(transmit_interval=100, receive_interval=50)}
PEER = Peer(name="r", my_asn=64513, peer_asn=64512, address=HERE, bfd_profile="fast")


class Recorder(PulseClient):
    """Keeps the list of sessions that is asked for."""

    def __init__(self) -> None:
        self.wanted: list[tuple[WatchedSession, ...]] = []
        self.complete = asyncio.Event()
        self.on_bfd: Callable[[BfdReport | None], None] = lambda _: None

    def watch_bfd(self, sessions: tuple[WatchedSession, ...]) -> None:
        self.wanted.append(sessions)
        if len(sessions) == 2:
            self.complete.set()


class World:
    """A watch with a recorded pulse process and recorded failures."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []
        self.pulse = Recorder()
        self.changes = 0
        self.watch = BfdWatch(
            Log("test"),
            lambda peer, why: self.failed.append((peer, why)),
            self.on_link,
            self.changed,
        )
        self.watch.attach(self.pulse)

    def changed(self) -> None:
        self.changes += 1

    def on_link(self, address: Address, _device: str) -> bool:
        return address == HERE

    def peers(self, *peers: Peer) -> tuple[WatchedSession, ...]:
        self.watch.set_peers({peer.name: peer for peer in peers}, PROFILES)
        return self.pulse.wanted[-1]

    def report(self, state: State, remote: State = State.DOWN, **fields: object) -> None:
        status = BfdStatus(remote=str(HERE), state=state, remote_state=remote)
        status = msgspec.structs.replace(status, **fields)
        names = [row.name for row in self.pulse.wanted[-1]]
        self.pulse.on_bfd(BfdReport(dict.fromkeys(names, status)))


@pytest.fixture
def world() -> World:
    return World()


def peer(**fields: object) -> Peer:
    return msgspec.structs.replace(PEER, **fields)


def test_a_profile_is_taken_over_and_defaults_are_those_of_frr() -> None:
    assert bfd_config(BFDProfileSpec()) == BfdConfig(
        desired_min_tx=0.3, required_min_rx=0.3, detect_multiplier=3, echo_interval=0.05
    )
    spec = BFDProfileSpec(
        receive_interval=20,
        transmit_interval=30,
        detect_multiplier=7,
        echo_interval=40,
        echo_mode=True,
        passive_mode=True,
        minimum_ttl=250,
    )
    assert bfd_config(spec) == BfdConfig(
        desired_min_tx=0.03,
        required_min_rx=0.02,
        detect_multiplier=7,
        echo=True,
        echo_interval=0.04,
        passive=True,
        minimum_ttl=250,
    )


@pytest.mark.parametrize(
    ("wanted", "multihop"),
    [
        (peer(), False),
        (peer(address=THERE), False),  # an external peer is next to us unless it says otherwise
        (peer(ebgp_multihop=True), True),
        (peer(peer_asn=64513), False),
        (peer(peer_asn=64513, address=THERE), True),
        (peer(dynamic_asn="internal", address=THERE), True),
        (peer(ebgp_multihop=True, address=LOCAL, interface="eth0"), False),
    ],
)
def test_single_hop_or_multihop_as_frr_decides(world: World, wanted: Peer, multihop: bool) -> None:
    (row,) = world.peers(wanted)
    assert row.multihop is multihop


def test_peers_without_a_profile_are_not_watched(world: World) -> None:
    assert world.peers(peer(bfd_profile="")) == ()
    assert world.peers(peer(bfd_profile="none of these")) == ()
    assert world.peers(peer(address=None, interface="eth0")) == ()


def test_the_same_address_on_two_links_gives_no_series_twice(world: World) -> None:
    there = peer(address=LOCAL)
    links = [msgspec.structs.replace(there, name=n, interface=n) for n in ("eth0", "eth1")]
    world.peers(*links, msgspec.structs.replace(there, name="red", vrf="red"))
    rows = world.pulse.wanted[-1]
    told = {
        row.name: BfdStatus(remote=str(LOCAL), state=State.UP, remote_state=State.UP, vrf=row.vrf)
        for row in rows
    }
    world.pulse.on_bfd(BfdReport(told))
    up = [item.labels for item in world.watch.samples() if item.family is metrics.BFD_SESSION_UP]
    wanted = [("fe80::1 (eth0)", "default"), ("fe80::1 (eth1)", "default"), ("fe80::1", "red")]
    assert sorted(up) == sorted(wanted)


def test_two_peers_at_one_address_share_a_session(world: World) -> None:
    (row,) = world.peers(PEER, peer(name="s", port=1179))
    assert row.remote == HERE.packed
    world.report(State.UP, State.UP)
    assert set(world.watch.status()) == {"r", "s"}
    world.report(State.DOWN, last_down="cut")
    assert world.failed == [("r", "BFD: cut"), ("s", "BFD: cut")]


def test_nothing_is_asked_for_before_the_peers_are_known(world: World) -> None:
    """An empty list would end the sessions that were taken over from an earlier speaker."""
    assert world.pulse.wanted == []
    assert world.peers() == ()


def test_a_session_begins_after_bgp_did(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clarion.daemons.bfd.BFD_SETTLE_SECONDS", 0.0)
    assert limits.BFD_SETTLE_SECONDS > 0
    (row,) = world.peers(PEER)
    assert not row.begin
    unnumbered = peer(name="u", address=None, interface="eth0", graceful_restart=True)
    assert len(world.peers(PEER, unnumbered)) == 1

    async def established() -> None:
        world.watch.established("r", HERE)
        world.watch.established("u", LOCAL)
        async with asyncio.timeout(10):
            await world.pulse.complete.wait()

    asyncio.run(established())
    rows = {row.remote: row for row in world.pulse.wanted[-1]}
    assert all(row.begin for row in rows.values())
    assert rows[LOCAL.packed].interface == "eth0"
    assert (rows[LOCAL.packed].outlive, rows[HERE.packed].outlive) == (120.0, 0.0)


def test_a_lost_path_fails_its_peer_once(world: World) -> None:
    world.peers(PEER)
    world.report(State.DOWN)
    world.report(State.UP, State.UP)
    world.report(State.DOWN, last_down="silence", remote_diagnostic="so too")
    world.report(State.DOWN, last_down="silence")
    assert world.failed == [("r", "BFD: silence (of itself it says: so too)")]
    assert world.changes == 3


@pytest.mark.parametrize(
    ("state", "remote"), [(State.DOWN, State.ADMIN_DOWN), (State.ADMIN_DOWN, State.UP)]
)
def test_what_was_switched_off_is_no_failure(world: World, state: State, remote: State) -> None:
    world.peers(PEER)
    world.report(State.UP, State.UP)
    world.report(state, remote)
    assert world.failed == []


def test_the_end_of_the_pulse_process_is_no_failure(world: World) -> None:
    world.peers(PEER)
    world.report(State.UP, State.UP)
    world.pulse.on_bfd(None)
    assert world.watch.status() == {}
    world.report(State.DOWN)
    assert world.failed == []


def test_metrics_have_the_names_and_labels_of_metallb(world: World) -> None:
    world.peers(PEER)
    assert list(world.watch.samples()) == []
    world.report(State.UP, State.UP, up_count=2, down_count=1)
    found = {sample.family.name: sample for sample in world.watch.samples()}
    assert {sample.labels for sample in found.values()} == {("192.0.2.1", "default")}
    assert found["metallb_bfd_session_up"].value == 1
    assert found["metallb_bfd_session_up_events"].value == 2
    assert found["metallb_bfd_session_down_events"].value == 1
    assert set(found) == {
        f"metallb_bfd_{name}"
        for name in (
            "session_up",
            "control_packet_input",
            "control_packet_output",
            "echo_packet_input",
            "echo_packet_output",
            "session_up_events",
            "session_down_events",
        )
    }
