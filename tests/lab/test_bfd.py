"""BFD judged by FRR's bfdd and by BIRD: sessions, failures, changes, hand-over, echo.

FRR is at 192.0.2.1 and BIRD at 192.0.2.2, both with 3 x 100 ms.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from clarion.lab.frr import Frr
from clarion.lab.netns import Namespace, cable
from clarion.lab.process import wait_until
from clarion.lab.routers import Neighbor, Router, RouterConfig
from clarion.model.metallb import BFDProfileSpec
from clarion.proto.bfd.packet import State

from .bfd_bed import US, US4, US6, Speaker, frr_downs, frr_path
from .bfd_speaker_main import OUR_ASN, THEIR_ASN, Row
from .bgp_bed import Configured
from .conftest import Segment

pytestmark = pytest.mark.lab

FRR4, FRR6, BIRD4, BIRD6 = "192.0.2.1", "2001:db8:1::1", "192.0.2.2", "2001:db8:1::2"
FAST = BFDProfileSpec(transmit_interval=100, receive_interval=100)
SERVICE = "203.0.113.7/32"


@pytest.fixture(scope="module")
def host(segment: Segment) -> Namespace:
    return segment.host("bfd", US, forwarding=True)


@pytest.fixture
def speaker(host: Namespace) -> Iterator[Speaker]:
    running = Speaker(host)
    yield running
    running.stop()


@pytest.fixture
def frr(configured: Configured) -> Router:
    return configured("frr", config(FRR4))


@pytest.fixture
def bird(configured: Configured) -> Router:
    return configured("bird", config(BIRD4))


def tell(text: str) -> None:
    """A figure, for who runs the tests with -s; the thresholds stand in the benchmarks."""
    sys.stdout.write(f"{text}\n")


def config(router_id: str, *, multihop: bool = False, graceful: bool = True) -> RouterConfig:
    neighbors = (
        Neighbor(
            address=address,
            remote_as=OUR_ASN,
            bfd=True,
            hold_time=90,
            keepalive=30,
            graceful_restart=graceful,
            multihop=64 if multihop else 0,
        )
        for address in (US4, US6)
    )
    return RouterConfig(asn=THEIR_ASN, router_id=router_id, neighbors=tuple(neighbors))


def test_sessions_of_both_ip_versions_with_both_makes(
    speaker: Speaker, frr: Router, bird: Router
) -> None:
    rows = {"frr4": FRR4, "frr6": FRR6, "bird4": BIRD4, "bird6": BIRD6}
    speaker.peers({name: Row(address=address) for name, address in rows.items()})
    speaker.wait_paths(*rows)
    speaker.wait_sessions(*rows)
    frr.wait_established(US4, US6)
    for address in (US4, US6):
        seen = frr_path(frr, address)
        assert (seen["status"], seen["remote-diagnostic"]) == ("up", "ok")
        assert (seen["remote-transmit-interval"], seen["remote-detect-multiplier"]) == (100, 3)
    told = bird.namespace.run(["birdc", "-s", str(bird.folder / "bird.ctl"), "show bfd sessions"])
    assert told.stdout.count(" Up ") == 2, told.stdout
    state = speaker.state
    assert not any(path.multihop for path in state.paths.values())
    wait_until(
        lambda: speaker.state.metrics[f"metallb_bfd_control_packet_input {FRR4} default"] > 3,
        10,
        "packets are counted",
    )
    assert speaker.state.metrics[f"metallb_bfd_session_up {FRR6} default"] == 1


def test_packets_look_as_the_rfcs_want_them(
    speaker: Speaker, segment: Segment, frr: Router
) -> None:
    """RFC 5881 §4, §5; RFC 4594 §3.1."""
    fields = ["ip.ttl", "ip.dsfield.dscp", "udp.srcport", "udp.dstport", "bfd.flags.c"]
    dump = frr.namespace.popen(
        ["tshark", "-l", "-i", "eth0", "-c", "4", "-T", "fields"]
        + [word for field in fields for word in ("-e", field)]
        + ["-f", f"udp port 3784 and src host {US4}"],
        log="bfd-tshark.log",
    )
    wait_until(lambda: "Capturing" in dump.tail(), 20, "tshark listens")
    speaker.peers({"r": Row(address=FRR4)})
    dump.wait(30)
    lines = [line.split("\t") for line in dump.tail().splitlines() if line.count("\t") == 4]
    assert len(lines) == 4
    assert {(ttl, dscp, port) for ttl, dscp, _, port, _ in lines} == {("255", "48", "3784")}
    (source,) = {int(line[2]) for line in lines}
    assert 49152 <= source <= 65535
    assert all(c in ("0", "False") for *_, c in lines)


def test_a_cut_cable_ends_the_bgp_session_at_once(
    speaker: Speaker, segment: Segment, frr: Router, bird: Router
) -> None:
    speaker.peers({"frr": Row(address=FRR4), "bird": Row(address=BIRD4)})
    speaker.wait_paths("frr", "bird")
    speaker.wait_sessions("frr", "bird")
    cut = time.monotonic()
    segment.switch.port("frr1").unplug()
    try:
        wait_until(
            lambda: not speaker.established("frr"),
            10,
            "the BGP session ended",
            seen=lambda: speaker.state,
            interval=0.001,
        )
        ended = time.monotonic()
        path = speaker.path_to("frr")
        tell(f"cable pulled: BFD {path.since - cut:.3f} s, BGP {ended - cut:.3f} s")
        assert path.state is State.DOWN
        assert "BFD" in speaker.state.sessions["frr"][1]
        assert "detection time" in speaker.state.sessions["frr"][1]
        assert speaker.established("bird")
        assert speaker.path_to("bird").down_count == 0
    finally:
        segment.switch.port("frr1").plug()
    speaker.wait_paths("frr")
    speaker.wait_sessions("frr")


def test_multihop_by_ebgp_multihop(speaker: Speaker, configured: Configured) -> None:
    """RFC 5883 §5."""
    frr = configured("frr", config(FRR4, multihop=True))
    speaker.peers(
        {
            "four": Row(address=FRR4, multihop=True),
            "six": Row(address=FRR6, multihop=True, source=US6),
        }
    )
    speaker.wait_paths("four", "six")
    assert all(path.multihop for path in speaker.state.paths.values())
    assert frr_path(frr, US4)["multihop"] is True
    # Packets with TTL 255 arrive with 255 on one segment: any minimumTtl up to that lets them in.
    strict = BFDProfileSpec(transmit_interval=100, receive_interval=100, minimum_ttl=254)
    speaker.peers({"four": Row(address=FRR4, multihop=True, profile=strict)})
    speaker.wait_paths("four")
    assert speaker.path_to("four").down_count == 0


def test_an_unnumbered_peer_is_watched_at_the_address_it_has(
    speaker: Speaker, configured: Configured
) -> None:
    neighbor = Neighbor(interface="eth0", remote_as=OUR_ASN, bfd=True)
    frr = configured("frr", RouterConfig(asn=THEIR_ASN, router_id=FRR4, neighbors=(neighbor,)))
    speaker.peers({"r": Row(interface="eth0")})
    speaker.wait_paths("r", timeout=30)
    path = speaker.path_to("r")
    assert path.remote.startswith("fe80::")
    assert path.interface == "eth0"
    assert isinstance(frr, Frr)
    (seen,) = frr.bfd_peers()
    assert (seen["status"], seen["interface"], seen["local"]) == ("up", "eth0", path.remote)


def test_a_vrf_whose_device_is_made_anew(speaker: Speaker, configured: Configured) -> None:
    """Binding to any device is what a VRF is to the sockets; this kernel has no VRFs."""
    host, neighbor = speaker.host, Neighbor(address="198.51.100.2", remote_as=OUR_ASN, bfd=True)
    frr = configured("frr", RouterConfig(asn=THEIR_ASN, router_id=FRR4, neighbors=(neighbor,)))

    def plug() -> None:
        cable(host, "red", frr.namespace, "red")
        host.add_address("red", "198.51.100.2/30")
        frr.namespace.add_address("red", "198.51.100.1/30")

    plug()
    try:
        speaker.peers({"r": Row(address="198.51.100.1", vrf="red")})
        speaker.wait_paths("r")
        assert speaker.state.metrics["metallb_bfd_session_up 198.51.100.1 red"] == 1
        host.ip("link", "del", "red")
        wait_until(lambda: not speaker.path_to("r").up, 10, "BFD is down")
        plug()
        speaker.wait_paths("r", timeout=30)
    finally:
        host.ip("link", "del", "red")


def test_packets_from_afar_are_ignored(speaker: Speaker, frr: Router) -> None:
    """RFC 5881 §5: a packet whose TTL is not 255 cannot bring a session up."""
    table = "table ip mangled { chain out { type filter hook output priority mangle;"
    rules = f"{table} udp dport 3784 ip daddr {US4} ip ttl set 254; }}; }}"
    frr.namespace.run(["nft", rules])
    try:
        speaker.peers({"r": Row(address=FRR4), "control": Row(address=FRR6)})
        speaker.wait_paths("control")
        wait_until(lambda: speaker.path_to("r").counts.discarded > 2, 10, "packets are refused")
        assert speaker.path_to("r").state is State.DOWN
        assert speaker.path_to("r").counts.control_received == 0
    finally:
        frr.namespace.run(["nft", "delete table ip mangled"])
    speaker.wait_paths("r")


def test_a_passive_side_waits_for_the_other(speaker: Speaker, frr: Router) -> None:
    passive = BFDProfileSpec(transmit_interval=100, receive_interval=100, passive_mode=True)
    table = "table ip silent { chain out { type filter hook output priority filter;"
    frr.namespace.run(["nft", f"{table} udp dport 3784 ip daddr {US4} drop; }}; }}"])
    try:
        speaker.peers({"r": Row(address=FRR4, profile=passive), "s": Row(address=FRR6)})
        speaker.wait_sessions("r", "s")
        speaker.wait_paths("s")
        assert speaker.path_to("r").counts.control_sent == 0
    finally:
        frr.namespace.run(["nft", "delete table ip silent"])
    speaker.wait_paths("r")


def test_a_changed_profile_applies_without_a_flap(speaker: Speaker, frr: Router) -> None:
    speaker.peers({"r": Row(address=FRR4)})
    speaker.wait_paths("r")
    for transmit, receive, multiplier in ((400, 500, 5), (100, 100, 3), (200, 100, 4)):
        profile = BFDProfileSpec(
            transmit_interval=transmit, receive_interval=receive, detect_multiplier=multiplier
        )
        speaker.peers({"r": Row(address=FRR4, profile=profile)})

        def agreed(transmit: int = transmit, receive: int = receive, by: int = multiplier) -> bool:
            seen, path = frr_path(frr, US4), speaker.path_to("r")
            theirs = seen["remote-transmit-interval"], seen["remote-receive-interval"]
            return (
                theirs == (transmit, receive)
                and seen["remote-detect-multiplier"] == by
                and path.transmit_interval == pytest.approx(transmit / 1000)
                and path.detection_time == pytest.approx(3 * receive / 1000)
            )

        wait_until(agreed, 10, f"{transmit}/{receive}", seen=lambda: frr_path(frr, US4))
    assert speaker.path_to("r").down_count == 0
    assert frr_downs(frr, US4) == 0


def test_bfd_that_is_not_wanted_any_more_takes_nothing_down(speaker: Speaker, frr: Router) -> None:
    speaker.peers({"r": Row(address=FRR4), "s": Row(address=FRR6)})
    speaker.wait_paths("r")
    speaker.wait_sessions("r")
    frr.wait_established(US4)
    speaker.peers({"r": Row(address=FRR4, profile=None), "s": Row(address=FRR6)})
    wait_until(lambda: frr_path(frr, US4)["status"] == "down", 10, "FRR's BFD is down")
    assert frr_path(frr, US4)["remote-diagnostic"] == "administratively down"
    assert "r" not in speaker.state.paths
    # FRR 8.4 resets the session all the same, against RFC 5882 §4.2; from here nothing ends it.
    speaker.wait_sessions("r", "s")
    assert speaker.state.sessions["r"][1] in ("", "the peer sent Cease/BFD Down")
    assert speaker.path_to("s").down_count == 0


def test_the_other_side_may_switch_bfd_off(speaker: Speaker, frr: Router) -> None:
    speaker.peers({"r": Row(address=FRR4)})
    speaker.wait_paths("r")
    speaker.wait_sessions("r")
    assert isinstance(frr, Frr)
    frr.vtysh("configure terminal", "bfd", "profile off", "shutdown")
    frr.vtysh("configure terminal", f"router bgp {THEIR_ASN}", f"neighbor {US4} bfd profile off")
    wait_until(lambda: not speaker.path_to("r").up, 10, "BFD is down here")
    assert speaker.path_to("r").remote_state is State.ADMIN_DOWN
    assert speaker.established("r")
    frr.vtysh("configure terminal", "bfd", "no profile off")


def test_a_port_that_is_taken_is_told_and_tried_again(speaker: Speaker, frr: Router) -> None:
    hold = "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); "
    hold += "s.bind(('', 3784)); print('held', flush=True); time.sleep(600)"
    holder = speaker.host.popen(["python3", "-c", hold], log="holder.log")
    wait_until(lambda: "held" in holder.tail(), 10, "the port is taken")
    speaker.peers({"r": Row(address=FRR4)})
    wait_until(lambda: speaker.state.notices, 10, "it is told")
    assert "UDP port 3784 belongs to another program" in speaker.state.notices[0]
    assert "UDP port 3784" in speaker.path_to("r").trouble
    holder.kill()
    speaker.wait_paths("r")
    assert speaker.path_to("r").trouble == ""
    assert len(speaker.state.notices) == 1


def test_echo_packets_are_sent_back_by_the_kernel(speaker: Speaker, frr: Router) -> None:
    echo = BFDProfileSpec(
        transmit_interval=100, receive_interval=100, echo_mode=True, echo_interval=50
    )
    speaker.peers({"four": Row(address=FRR4, profile=echo), "six": Row(address=FRR6, profile=echo)})

    def echoing() -> bool:
        paths = speaker.state.paths
        return all(
            name in paths and paths[name].echo_interval and paths[name].counts.echo_received > 20
            for name in ("four", "six")
        )

    wait_until(echoing, 20, "echo is in use", seen=lambda: speaker.state.paths)
    # RFC 5880 §6.8.3: nothing faster than a second is asked for while echo does the work.
    wait_until(
        lambda: frr_path(frr, US4)["remote-receive-interval"] == 1000, 10, "slow Control packets"
    )
    frr.namespace.sysctl("net.ipv4.ip_forward=0")
    try:
        wait_until(lambda: speaker.path_to("four").down_count, 10, "echo fails", interval=0.01)
        assert "echo" in speaker.path_to("four").last_down
        assert speaker.path_to("six").up
    finally:
        frr.namespace.sysctl("net.ipv4.ip_forward=1")
    wait_until(echoing, 20, "echo is in use again")


def test_our_kernel_sends_echo_packets_back(speaker: Speaker, frr: Router) -> None:
    assert isinstance(frr, Frr)
    frr.vtysh(
        "configure terminal",
        "bfd",
        "profile echo",
        "transmit-interval 100",
        "receive-interval 100",
        "echo-mode",
        "echo transmit-interval 50",
    )
    frr.vtysh("configure terminal", f"router bgp {THEIR_ASN}", f"neighbor {US4} bfd profile echo")
    speaker.peers({"r": Row(address=FRR4)})
    speaker.wait_sessions("r")

    def echoes() -> int:
        rows = frr.query("show bfd peers counters json")
        return next(int(row["echo-packet-input"]) for row in rows if row["peer"] == US4)

    wait_until(lambda: echoes() > 20, 20, "FRR's echo packets come back to it", seen=echoes)
    assert speaker.path_to("r").up
    frr.vtysh("configure terminal", "bfd", "no profile echo")


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_speaker_is_replaced_and_no_peer_notices(
    speaker: Speaker, frr: Router, bird: Router, how: str
) -> None:
    """FRR and BIRD keep the routes, and neither loses BFD, which would end BIRD's patience."""
    rows = {
        "frr": Row(address=FRR4, graceful=True),
        "bird": Row(address=BIRD4, graceful=True),
    }
    speaker.peers(rows)
    speaker.wait_paths(*rows)
    speaker.wait_sessions(*rows)
    for router in (frr, bird):
        router.wait_routes(4, {SERVICE}, within=SERVICE)
    first = speaker.state.pulse
    if how == "killed":
        speaker.process.kill()
    else:
        speaker.stop(keep=True)
    speaker.start()
    speaker.peers(rows, restarted=True)
    speaker.wait_sessions(*rows)
    speaker.wait_paths(*rows)
    assert speaker.state.pulse != first
    assert all(path.up_count == 1 for path in speaker.state.paths.values())
    assert frr_downs(frr, US4) == 0
    for router in (frr, bird):
        assert set(router.learned(4)) >= {SERVICE}


def test_a_killed_pulse_process_is_replaced(speaker: Speaker, frr: Router) -> None:
    """What the peer sees of it: down for a moment. Here it is no failure of the path."""
    speaker.peers({"r": Row(address=FRR4, graceful=True)})
    speaker.wait_paths("r")
    first = speaker.state.pulse
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: speaker.state.pulse not in (None, first), 10, "another pulse process")
    speaker.wait_paths("r")
    speaker.wait_sessions("r")
    tell(f"pulse killed: FRR lost BFD {frr_downs(frr, US4)} times")
