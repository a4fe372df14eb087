"""The native BGP speaker against FRR, BIRD and GoBGP; each test is judged by the router's own view.

The speaker is a program in a namespace of its own (`bgp_speaker_main.py`); the three routers are
shared by all tests of a session, and most tests speak with all three at once.
"""

import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clarion.base.addr import Prefix, parse_address, parse_prefix
from clarion.lab.netns import Namespace
from clarion.lab.process import Process, wait_until
from clarion.lab.routerbase import Family
from clarion.lab.routers import Bird, Frr, Neighbor, Router, RouterConfig
from clarion.proto.bgp.adjout import Route
from clarion.proto.bgp.attrs import LargeCommunity
from clarion.proto.bgp.config import PeerConfig, SessionStatus, State

from .bgp_speaker_main import Command, Report
from .conftest import Segment

pytestmark = pytest.mark.lab

NUMBERS = {"frr": 1, "bird": 2, "gobgp": 3}
KINDS = sorted(NUMBERS)
US = 20
US4, US6 = f"192.0.2.{US}", f"2001:db8:1::{US:x}"
OUR_ASN, THEIR_ASN = 64513, 64512
SERVICE4, SERVICE6 = "203.0.113.7/32", "2001:db8:ff::7/128"
BOTH: tuple[Family, ...] = ("ipv4", "ipv6")

Configured = Callable[[str, RouterConfig], Router]


class Speaker:
    """The program under test, spoken to over its control socket."""

    def __init__(self, host: Namespace) -> None:
        self.host = host
        self.path = host.lab.run_dir / "bgp-speaker.sock"
        self.path.unlink(missing_ok=True)
        program = Path(__file__).with_name("bgp_speaker_main.py")
        argv = [sys.executable, str(program), str(self.path)]
        self.process: Process = host.popen(argv, log="bgp-speaker.log")
        wait_until(self._listens, 10, "the speaker's control socket", interval=0.02)

    def _listens(self) -> bool:
        assert self.process.alive, self.process.tail()
        return self.path.exists()

    def tell(self, command: Command) -> Report:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.path))
            sock.sendall(msgspec.json.encode(command) + b"\n")
            answer = b""
            while piece := sock.recv(1 << 20):
                answer += piece
        assert answer, self.process.tail()
        return msgspec.json.decode(answer, type=Report)

    def peers(self, *peers: PeerConfig) -> Report:
        return self.tell(Command(peers={peer.name: peer for peer in peers}))

    def routes(self, names: list[str], routes: list[Route]) -> Report:
        return self.tell(Command(routes=dict.fromkeys(names, routes)))

    @property
    def report(self) -> Report:
        return self.tell(Command())

    @property
    def status(self) -> dict[str, SessionStatus]:
        return self.report.status

    def wait(self, what: str, probe: Callable[[dict[str, SessionStatus]], bool]) -> None:
        wait_until(
            lambda: probe(self.status), 20, what, seen=lambda: (self.report, self.process.tail())
        )

    def wait_established(self) -> None:
        def up(status: dict[str, SessionStatus]) -> bool:
            return all(each.state is State.ESTABLISHED for each in status.values())

        self.wait("all sessions established", up)


def wait_received(router: Router, count: int) -> None:
    """Wait until the router has this many prefixes of ours."""
    what = f"{count} prefixes at {router.name}"
    wait_until(lambda: router.neighbors()[US4].received == count, 20, what)


@pytest.fixture
def speaker(segment: Segment) -> Iterator[Speaker]:
    running = Speaker(segment.host("speaker", US))
    yield running
    assert running.process.alive or running.process.returncode == 0, running.process.tail()
    running.process.stop()
    assert running.process.tail() == ""  # no exception, no warning


def neighbor(version: int = 4, asn: int = OUR_ASN, **fields: Any) -> Neighbor:
    """Us, as a router knows us."""
    address = US4 if version == 4 else US6
    return Neighbor(address=address, remote_as=asn, families=BOTH, **fields)


def router_config(kind: str, *neighbors: Neighbor, asn: int = THEIR_ASN) -> RouterConfig:
    router_id = f"192.0.2.{NUMBERS[kind]}"
    return RouterConfig(asn=asn, router_id=router_id, neighbors=neighbors)


def peer(kind: str, version: int = 4, **fields: Any) -> PeerConfig:
    """A router, as we know it."""
    number = NUMBERS[kind]
    address = f"192.0.2.{number}" if version == 4 else f"2001:db8:1::{number:x}"
    values: dict[str, Any] = {
        "name": kind if version == 4 else f"{kind}6",
        "local_asn": OUR_ASN,
        "peer_asn": THEIR_ASN,
        "peer_address": parse_address(address),
        "hold_time": 9.0,
        "connect_time": 1.0,
    }
    return PeerConfig(**(values | fields))


def service(**fields: Any) -> list[Route]:
    return [Route(parse_prefix(text), **fields) for text in (SERVICE4, SERVICE6)]


@pytest.fixture
def routers(configured: Configured) -> Callable[..., dict[str, Router]]:
    """All three routers with the same neighbours."""

    def configure(*neighbors: Neighbor, asn: int = THEIR_ASN) -> dict[str, Router]:
        return {kind: configured(kind, router_config(kind, *neighbors, asn=asn)) for kind in KINDS}

    return configure


Routers = Callable[..., dict[str, Router]]


@pytest.mark.parametrize("internal", [False, True], ids=["external", "internal"])
def test_both_families_over_either_transport_with_all_attributes(
    speaker: Speaker, routers: Routers, internal: bool
) -> None:
    asn = THEIR_ASN if internal else OUR_ASN
    running = routers(neighbor(4, asn), neighbor(6, asn))
    speaker.peers(*(peer(kind, v, local_asn=asn) for kind in KINDS for v in (4, 6)))
    names = list(speaker.status)
    plain = service()
    rich = Route(
        parse_prefix("203.0.113.128/25"),
        local_pref=150,
        communities=(8000 << 16 | 800, 64512 << 16 | 7),
        large_communities=(LargeCommunity(64512, 4200000000, 3),),
    )
    speaker.routes(names, [*plain, rich])
    speaker.wait_established()
    for kind, router in running.items():
        four = router.wait_routes(4, {SERVICE4, "203.0.113.128/25"})
        six = router.wait_routes(6, {SERVICE6})
        for paths, hop in ((four[SERVICE4], US4), (six[SERVICE6], US6)):
            assert {path.peer for path in paths} == {US4, US6}, kind
            assert {path.next_hop for path in paths} == {hop}, kind
            assert {path.as_path for path in paths} == {() if internal else (OUR_ASN,)}, kind
            assert {path.communities for path in paths} == {()}, kind
            if internal:
                assert {path.local_pref for path in paths} == {0}, kind
        for path in four["203.0.113.128/25"]:
            assert set(path.communities) == {"8000:800", "64512:7"}, kind
            assert path.large_communities == ("64512:4200000000:3",), kind
            if internal:
                assert path.local_pref == 150, kind
    for each in speaker.status.values():
        assert each.internal is internal
        assert all(family.sent for family in each.families)


def test_four_octet_asns_at_both_ends(speaker: Speaker, routers: Routers) -> None:
    ours, theirs = 4200000001, 4200000002
    running = routers(neighbor(4, ours), asn=theirs)
    speaker.peers(*(peer(kind, local_asn=ours, peer_asn=theirs) for kind in KINDS))
    speaker.routes(KINDS, service())
    for router in running.values():
        for path in router.wait_routes(4, {SERVICE4})[SERVICE4]:
            assert path.as_path == (ours,)


def test_a_wrong_asn_is_explained_and_not_repeated_in_a_loop(
    speaker: Speaker, routers: Routers
) -> None:
    routers(neighbor())
    speaker.peers(*(peer(kind, peer_asn=64999) for kind in KINDS))

    said = "the peer says AS 64512, we expect 64999"
    speaker.wait(
        "wrong AS explained",
        lambda _: (
            {name for name, _s, reason in speaker.report.changes if reason == said} == set(KINDS)
        ),
    )


def md5_failures(host: Namespace) -> int:
    """Segments that the kernel refused for their signature, or for having none."""
    said = host.run(["nstat", "-asz", "TcpExtTCPMD5*"]).stdout
    return sum(int(count) for count in re.findall(r"^TcpExtTCPMD5\S+\s+(\d+)", said, re.MULTILINE))


def wait_refused(host: Namespace, count: int) -> None:
    wait_until(lambda: md5_failures(host) >= count, 20, f"the kernel of {host.name} refuses")


@pytest.mark.parametrize("passive", [False, True], ids=["we open", "they open"])
def test_md5_right_and_wrong_over_either_transport(
    speaker: Speaker, routers: Routers, passive: bool
) -> None:
    """Wrong keys keep the sessions down; the right one brings up just the peer it is given to."""
    secret = "lab-secret"
    running = routers(
        neighbor(4, password=secret, passive=not passive),
        neighbor(6, password=secret, passive=not passive),
    )
    known = [(kind, version) for kind in KINDS for version in (4, 6)]
    before = md5_failures(speaker.host), {k: md5_failures(r.namespace) for k, r in running.items()}
    speaker.peers(*(peer(k, v, password="not-the-secret", passive=passive) for k, v in known))
    speaker.routes([f"{k}{'6' if v == 6 else ''}" for k, v in known], service())
    if passive:
        wait_refused(speaker.host, before[0] + 6)
    else:
        for kind, router in running.items():
            wait_refused(router.namespace, before[1][kind] + 2)
    assert all(each.state < State.OPEN_SENT for each in speaker.status.values())
    assert not any(n.established for r in running.values() for n in r.neighbors().values())
    report = speaker.peers(*(peer(k, v, password=secret, passive=passive) for k, v in known))
    assert set(report.effects.values()) == {"RESET"}
    speaker.wait_established()
    for router in running.values():
        router.wait_routes(4, {SERVICE4})
        router.wait_routes(6, {SERVICE6})


def test_a_changed_peer_resets_only_itself(speaker: Speaker, routers: Routers) -> None:
    running = routers(neighbor(4), neighbor(6))
    peers = {kind: peer(kind) for kind in KINDS}
    speaker.peers(*peers.values())
    speaker.routes(KINDS, service())
    speaker.wait_established()
    peers["frr"] = peer("frr", keepalive_time=1.0, connect_time=7.0, hold_time=30.0)
    peers["bird"] = peer("bird", 6, name="bird")
    report = speaker.peers(*peers.values())
    assert report.effects == {"frr": "NEXT_SESSION", "bird": "RESET", "gobgp": "NONE"}
    speaker.wait_established()
    running["bird"].wait_established(US6)
    running["bird"].wait_routes(4, {SERVICE4})
    bird = running["bird"].neighbors()[US4]
    assert not bird.established
    frr = running["frr"].neighbors()[US4].raw
    assert (frr["connectionsEstablished"], frr["connectionsDropped"]) == (1, 0)
    gobgp = running["gobgp"].neighbors()[US4].raw
    assert gobgp["state"].get("flops", 0) == 0
    assert speaker.status["frr"].keepalive_time == 1.0


def test_a_dead_peer_is_noticed_within_the_hold_time_from_either_side(
    speaker: Speaker, routers: Routers
) -> None:
    running = routers(neighbor(hold_time=3, keepalive=1))
    speaker.peers(*(peer(kind, hold_time=3.0) for kind in KINDS))
    speaker.routes(KINDS, service())
    speaker.wait_established()
    for router in running.values():
        router.wait_routes(4, {SERVICE4})
    # The routers stand still with their TCP up.
    for router in running.values():
        router.pause()
    try:
        said = "the peer sent nothing in the hold time of 3 s"
        speaker.wait(
            "hold timers expired",
            lambda _: (
                {(name, said) for name in KINDS}
                <= {(name, reason) for name, _state, reason in speaker.report.changes}
            ),
        )
    finally:
        for router in running.values():
            router.resume()
    speaker.wait_established()
    # We stand still.
    speaker.process.signal(signal.SIGSTOP)
    try:
        for router in running.values():
            router.wait_routes(4, set())
        assert "Hold" in running["frr"].neighbors()[US4].last_error
        assert "Hold timer expired" in running["bird"].neighbors()[US4].last_error
    finally:
        speaker.process.signal(signal.SIGCONT)
    speaker.wait_established()
    for router in running.values():
        router.wait_routes(4, {SERVICE4})


def established_connections(host: Namespace) -> list[str]:
    """Connections of BGP that the kernel holds established."""
    said = host.run(["ss", "-Htn", "state", "established", "( dport = 179 or sport = 179 )"])
    return said.stdout.splitlines()


@pytest.mark.parametrize("ours", ["192.0.2.0", "192.0.2.200"], ids=["lower id", "higher id"])
def test_both_ends_open_and_one_connection_remains(
    speaker: Speaker, routers: Routers, ours: str
) -> None:
    """Routers that stood still find our connection waiting while they open their own."""
    running = routers(neighbor())
    for router in running.values():
        router.pause()
    try:
        speaker.peers(*(peer(kind, router_id=parse_address(ours)) for kind in KINDS))
        speaker.routes(KINDS, service())
        speaker.wait(
            "our OPEN is on the way",
            lambda status: all(each.state is State.OPEN_SENT for each in status.values()),
        )
    finally:
        for router in running.values():
            router.resume()
    speaker.wait_established()
    for router in running.values():
        router.wait_established(US4)
        router.wait_routes(4, {SERVICE4})
    wait_until(
        lambda: len(established_connections(speaker.host)) == len(KINDS),
        10,
        "one connection per peer",
        seen=lambda: established_connections(speaker.host),
    )


def hosts(count: int, version: int = 4) -> list[Route]:
    base = parse_address("198.18.0.0" if version == 4 else "2001:db8:fe::").value
    length = 32 if version == 4 else 128
    return [Route(Prefix(version, base + n, length)) for n in range(count)]


def test_ten_thousand_prefixes_in_few_messages_and_a_stalled_peer_delays_nobody(
    speaker: Speaker, routers: Routers
) -> None:
    running = routers(neighbor(hold_time=60, keepalive=20))
    speaker.peers(*(peer(kind, hold_time=60.0) for kind in KINDS))
    speaker.wait_established()
    speaker.routes(KINDS, hosts(10_000))
    for router in running.values():
        wait_received(router, 10_000)
    frr = running["frr"].neighbors()[US4].raw["messageStats"]
    # 810 /32 a message: 13 UPDATEs, and an End-of-RIB for each family.
    assert frr["updatesRecv"] == 15
    assert [each.sent.updates for each in speaker.status.values()] == [15] * 3
    # One more: one message each.
    speaker.routes(KINDS, hosts(10_001))
    wait_received(running["frr"], 10_001)
    assert running["frr"].neighbors()[US4].raw["messageStats"]["updatesRecv"] == 16
    # GoBGP stands still with its window full; the others get a hundred changes of everything.
    running["gobgp"].pause()
    try:
        for round_ in range(1, 101):
            again = [msgspec.structs.replace(r, communities=(round_,)) for r in hosts(2_000)]
            speaker.routes(KINDS, again)
        for kind in ("frr", "bird"):
            wait_received(running[kind], 2_000)
        assert speaker.status["frr"].prefixes_pending == 0
    finally:
        running["gobgp"].resume()
    wait_received(running["gobgp"], 2_000)
    assert running["gobgp"].neighbors()[US4].established
    speaker.routes(KINDS, [])
    for router in running.values():
        wait_received(router, 0)


def test_a_stop_is_seen_as_administrative_shutdown_with_its_words(
    speaker: Speaker, routers: Routers
) -> None:
    running = routers(neighbor())
    speaker.peers(*(peer(kind) for kind in KINDS))
    speaker.routes(KINDS, service())
    speaker.wait_established()
    words = "node goes down for maintenance"
    speaker.tell(Command(stop=words))
    assert speaker.process.wait() == 0
    frr, bird, gobgp = running["frr"], running["bird"], running["gobgp"]
    wait_until(
        lambda: (
            frr.neighbors()[US4].raw.get("lastNotificationReason")
            == "Cease/Administrative Shutdown"
        ),
        10,
        "FRR's reason",
        seen=lambda: frr.neighbors()[US4].raw,
    )
    assert frr.neighbors()[US4].raw["lastShutdownDescription"] == words
    wait_until(
        lambda: "Received: Administrative shutdown" in bird.neighbors()[US4].last_error,
        10,
        "BIRD's reason",
        seen=lambda: bird.neighbors()[US4],
    )
    log = gobgp.daemons[0].log
    assert log is not None
    wait_until(lambda: words in log.read_text(), 10, "GoBGP's log", seen=log.read_text)


def test_a_restarted_router_gets_everything_again(speaker: Speaker, routers: Routers) -> None:
    running = routers(neighbor())
    speaker.peers(*(peer(kind) for kind in KINDS))
    speaker.routes(KINDS, service())
    speaker.wait_established()
    for router in running.values():
        router.kill()
    speaker.wait(
        "all sessions lost",
        lambda status: all(each.state < State.OPEN_SENT for each in status.values()),
    )
    for router in running.values():
        router.start()
    speaker.wait_established()
    for router in running.values():
        router.wait_routes(4, {SERVICE4})
        router.wait_routes(6, {SERVICE6})
    assert all(each.established_count == 2 for each in speaker.status.values())


def test_a_router_that_asks_again_gets_the_routes_again(speaker: Speaker, routers: Routers) -> None:
    """GoBGP is not asked: it keeps what was announced to it, and sends no ROUTE-REFRESH."""
    running = routers(neighbor())
    frr, bird = running["frr"], running["bird"]
    assert isinstance(frr, Frr)
    assert isinstance(bird, Bird)
    speaker.peers(peer("frr"), peer("bird"))
    speaker.routes(["frr", "bird"], service())
    speaker.wait_established()
    running.pop("gobgp")
    for router in running.values():
        router.wait_routes(4, {SERVICE4})
    before = {name: each.sent.updates for name, each in speaker.status.items()}
    frr.vtysh("clear bgp ipv4 unicast 192.0.2.20 in")
    bird.birdc("reload in n0")

    def answered(status: dict[str, SessionStatus]) -> bool:
        return all(
            each.received.route_refreshes and each.sent.updates > before[name]
            for name, each in status.items()
        )

    speaker.wait("refreshes answered", answered)
    for router in running.values():
        router.wait_routes(4, {SERVICE4})
        router.wait_routes(6, {SERVICE6})
        assert router.neighbors()[US4].established


@pytest.mark.parametrize("multihop", [False, True], ids=["one hop", "multihop"])
def test_external_packets_stay_on_the_link_unless_multihop(
    speaker: Speaker, configured: Configured, multihop: bool
) -> None:
    bird = configured(
        "bird", router_config("bird", neighbor(multihop=2 if multihop else 0, passive=True))
    )
    capture = bird.namespace.popen(
        [
            *["tcpdump", "-i", "eth0", "-n", "-v", "-c", "3", "--immediate-mode", "-l"],
            f"src {US4} and tcp dst port 179",
        ],
        log="bgp-ttl.log",
    )
    wait_until(lambda: "listening on" in capture.tail(), 10, "the capture", interval=0.02)
    speaker.peers(peer("bird", ebgp_multihop=multihop))
    speaker.routes(["bird"], service())
    bird.wait_routes(4, {SERVICE4})
    capture.wait()
    text = capture.log.read_text() if capture.log else ""
    ttls = {int(found) for found in re.findall(r"ttl (\d+)", text)[-3:]}
    assert ttls == {64 if multihop else 1}


def test_ipv4_routes_from_a_host_without_any_ipv4_address(
    segment: Segment, configured: Configured
) -> None:
    """RFC 8950 where the peer takes it (BIRD, asked to); elsewhere the status says why not."""
    host = segment.lab.namespace("speaker6")
    ours = "2001:db8:1::66:1"
    segment.switch.attach(host, addresses=[f"{ours}/64"])
    known = Neighbor(address=ours, remote_as=OUR_ASN, families=BOTH)
    takes = msgspec.structs.replace(known, extended_next_hop=True)
    bird = configured("bird", router_config("bird", takes))
    frr = configured("frr", router_config("frr", known))
    running = Speaker(host)
    try:
        running.peers(peer("bird", 6), peer("frr", 6))
        running.routes(["bird6", "frr6"], service())
        running.wait_established()
        (path,) = bird.wait_routes(4, {SERVICE4})[SERVICE4]
        assert path.next_hop == ours
        for router in (bird, frr):
            (path,) = router.wait_routes(6, {SERVICE6})[SERVICE6]
            assert path.next_hop == ours
        assert frr.learned(4) == {}
        (four, _six) = running.status["frr6"].families
        assert not four.sent
        assert four.reason.startswith("no next hop: the interface of 2001:db8:1::66:1 lacks")
    finally:
        running.process.stop()


def test_a_taken_port_does_not_keep_us_from_opening(
    segment: Segment, configured: Configured
) -> None:
    frr = configured("frr", router_config("frr", neighbor(passive=True)))
    host = segment.host("speaker", US)
    hold = "import socket, signal; s = socket.create_server(('', 179)); signal.pause()"
    holder = host.popen([sys.executable, "-c", hold])
    wait_until(
        lambda: ":179" in host.run(["ss", "-Htln"]).stdout, 10, "the port is taken", interval=0.02
    )
    running = Speaker(host)
    try:
        running.peers(peer("frr"))
        running.routes(["frr"], service())
        frr.wait_routes(4, {SERVICE4})
        listener = running.report.listener
        assert listener is not None
        assert listener.errors == ("IPv4 port 179: Address already in use",)
        assert listener.versions == (6,)
    finally:
        running.process.stop()
        holder.stop()
