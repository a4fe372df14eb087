"""BFD judged by FRR's bfdd and by BIRD: sessions, failures, changes, hand-over, echo.

FRR is at 192.0.2.1 and BIRD at 192.0.2.2, both with 3 x 100 ms. Tests that begin with everything up
share one speaker (`settled`) and leave it so; the others (`speaker`) have one of their own.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from clarion.lab.frr import Frr
from clarion.lab.netns import Namespace, cable
from clarion.lab.process import wait_until
from clarion.lab.routers import Neighbor, Router, RouterConfig
from clarion.model.metallb import BFDProfileSpec
from clarion.proto.bfd.packet import State

from .bfd_bed import (
    ALL,
    BIRD4,
    FRR4,
    FRR6,
    US,
    US4,
    US6,
    Settling,
    Speaker,
    beyond,
    frr_downs,
    frr_path,
)
from .bfd_speaker_main import OUR_ASN, THEIR_ASN, Row
from .bgp_bed import Configured
from .conftest import Segment

pytestmark = pytest.mark.lab

SERVICE = "203.0.113.7/32"


@pytest.fixture(scope="module")
def host(segment: Segment) -> Namespace:
    return segment.host("bfd", US, forwarding=True)


@pytest.fixture(scope="module")
def settling(host: Namespace, segment: Segment) -> Iterator[Settling]:
    made = Settling(host, segment)
    yield made
    made.close()


@pytest.fixture
def settled(settling: Settling) -> Speaker:
    """With all of ALL up and established; the next test finds it so, whatever this one did."""
    return settling.settle()


@pytest.fixture
def frr(settling: Settling) -> Router:
    return settling.router("frr")


@pytest.fixture
def bird(settling: Settling) -> Router:
    return settling.router("bird")


@pytest.fixture
def speaker(settling: Settling, host: Namespace) -> Iterator[Speaker]:
    """A new one, without peers."""
    settling.stop()
    running = Speaker(host)
    yield running
    running.stop()


def tell(text: str) -> None:
    """A figure, for who runs the tests with -s; the thresholds stand in the benchmarks."""
    sys.stdout.write(f"{text}\n")


def test_sessions_of_both_ip_versions_with_both_makes(
    settled: Speaker, frr: Router, bird: Router
) -> None:
    frr.wait_established(US4, US6)
    for address in (US4, US6):
        seen = frr_path(frr, address)
        assert (seen["status"], seen["remote-diagnostic"]) == ("up", "ok")
        assert (seen["remote-transmit-interval"], seen["remote-detect-multiplier"]) == (100, 3)
    told = bird.namespace.run(["birdc", "-s", str(bird.folder / "bird.ctl"), "show bfd sessions"])
    assert told.stdout.count(" Up ") == 2, told.stdout
    state = settled.state
    assert not any(path.multihop for path in state.paths.values())
    wait_until(
        lambda: settled.state.metrics[f"metallb_bfd_control_packet_input {FRR4} default"] > 3,
        10,
        "packets are counted",
    )
    assert settled.state.metrics[f"metallb_bfd_session_up {FRR6} default"] == 1


def test_packets_look_as_the_rfcs_want_them(settled: Speaker, frr: Router) -> None:
    fields = ["ip.ttl", "ip.dsfield.dscp", "udp.srcport", "udp.dstport", "bfd.flags.c"]
    dump = frr.namespace.popen(
        ["tshark", "-l", "-i", "eth0", "-c", "4", "-T", "fields"]
        + [word for field in fields for word in ("-e", field)]
        + ["-f", f"udp port 3784 and src host {US4}"],
        log="bfd-tshark.log",
    )
    dump.wait(30)
    lines = [line.split("\t") for line in dump.tail().splitlines() if line.count("\t") == 4]
    assert len(lines) == 4
    assert {(ttl, dscp, port) for ttl, dscp, _, port, _ in lines} == {("255", "48", "3784")}
    (source,) = {int(line[2]) for line in lines}
    assert 49152 <= source <= 65535
    assert all(c in ("0", "False") for *_, c in lines)


def test_a_cut_cable_ends_the_bgp_session_at_once(settled: Speaker, segment: Segment) -> None:
    downs = settled.path_to("bird4").down_count
    cut = time.monotonic()
    segment.switch.port("frr1").unplug()
    try:
        wait_until(
            lambda: not settled.established("frr4"),
            10,
            "the BGP session ended",
            seen=lambda: settled.state,
            interval=0.001,
        )
        ended = time.monotonic()
        path = settled.path_to("frr4")
        tell(f"cable pulled: BFD {path.since - cut:.3f} s, BGP {ended - cut:.3f} s")
        assert path.state is State.DOWN
        assert "BFD" in settled.state.sessions["frr4"][1]
        assert "detection time" in settled.state.sessions["frr4"][1]
        assert settled.established("bird4")
        assert settled.path_to("bird4").down_count == downs
    finally:
        segment.switch.port("frr1").plug()
    settled.wait_paths("frr4")
    settled.wait_sessions("frr4")


def test_a_changed_profile_applies_without_a_flap(settled: Speaker, frr: Router) -> None:
    """Slower, another multiplier and faster again; the other session the other way round."""
    downs = {name: settled.path_to(name).down_count for name in ("frr4", "frr6")}
    lost = {address: frr_downs(frr, address) for address in (US4, US6)}
    slow, mixed = (400, 500, 5), (200, 100, 4)
    for settings in ((slow, mixed), (mixed, slow)):
        chosen = dict(zip((("frr4", US4), ("frr6", US6)), settings, strict=True))
        rows = {
            name: msgspec.structs.replace(
                ALL[name],
                profile=BFDProfileSpec(
                    transmit_interval=transmit, receive_interval=receive, detect_multiplier=by
                ),
            )
            for (name, _), (transmit, receive, by) in chosen.items()
        }
        settled.peers(ALL | rows)

        def agreed(chosen: dict[tuple[str, str], tuple[int, int, int]] = chosen) -> bool:
            paths = settled.state.paths
            for (name, address), (transmit, receive, by) in chosen.items():
                seen, path = frr_path(frr, address), paths[name]
                theirs = seen["remote-transmit-interval"], seen["remote-receive-interval"]
                if (
                    theirs != (transmit, receive)
                    or seen["remote-detect-multiplier"] != by
                    or path.transmit_interval != pytest.approx(transmit / 1000)
                    or path.detection_time != pytest.approx(3 * receive / 1000)
                ):
                    return False
            return True

        wait_until(agreed, 10, str(settings), seen=lambda: frr_path(frr, US4))
    assert {name: settled.path_to(name).down_count for name in downs} == downs
    assert {address: frr_downs(frr, address) for address in lost} == lost


def test_either_side_may_switch_bfd_off_and_nothing_goes_down(
    settled: Speaker, frr: Router
) -> None:
    """We do with IPv6, which stays up in BGP as far as we are concerned, FRR with IPv4."""
    assert isinstance(frr, Frr)
    downs = settled.path_to("bird6").down_count
    settled.peers(ALL | {"frr6": msgspec.structs.replace(ALL["frr6"], profile=None)})
    # FRR tells so until BGP is back, with which it begins anew.
    off = "administratively down"
    wait_until(
        lambda: frr_path(frr, US6)["remote-diagnostic"] == off, 10, "FRR hears it", interval=0.02
    )
    frr.vtysh("configure terminal", "bfd", "profile off", "shutdown")
    frr.vtysh("configure terminal", f"router bgp {THEIR_ASN}", f"neighbor {US4} bfd profile off")
    wait_until(lambda: not settled.path_to("frr4").up, 10, "FRR's AdminDown is heard")
    assert settled.path_to("frr4").remote_state is State.ADMIN_DOWN
    assert settled.established("frr4")
    frr.vtysh("configure terminal", "bfd", "no profile off")
    assert "frr6" not in settled.state.paths
    # FRR 8.4 resets the session all the same, against RFC 5882 §4.2; from here nothing ends it.
    settled.wait_sessions("frr6")
    error = settled.state.sessions["frr6"][1]
    assert error == "" or "the peer sent" in error, error
    assert settled.path_to("bird6").down_count == downs


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_speaker_is_replaced_and_no_peer_notices(
    settled: Speaker, frr: Router, bird: Router, how: str
) -> None:
    """FRR and BIRD keep the routes, and neither loses BFD, which would end BIRD's patience."""
    for router in (frr, bird):
        router.wait_routes(4, {SERVICE}, within=SERVICE)
    before, lost = settled.state, frr_downs(frr, US4)
    if how == "killed":
        settled.process.kill()
    else:
        settled.stop(keep=True)
    settled.start()
    settled.peers(ALL, restarted=True)
    settled.wait_sessions(*ALL)
    settled.wait_paths(*ALL)
    settled.wait_packets(*ALL)
    after = settled.state
    assert after.pulse != before.pulse
    for name, path in after.paths.items():
        assert path.up_count == before.paths[name].up_count
        assert path.trouble == ""
    assert frr_downs(frr, US4) == lost
    for router in (frr, bird):
        assert set(router.learned(4)) >= {SERVICE}


def test_a_killed_pulse_process_is_replaced(settled: Speaker, frr: Router) -> None:
    """It goes on with the sessions; a peer with enough patience does not notice, FRR over IPv6.

    Patience of the default profile, 0.9 s, is enough on a host with nothing else to do; here the
    tests are not to depend on that.
    """
    patient = BFDProfileSpec(transmit_interval=300, receive_interval=300, detect_multiplier=20)
    rows = {"frr4": BFDProfileSpec(), "frr6": patient}
    settled.peers(
        ALL | {name: msgspec.structs.replace(ALL[name], profile=row) for name, row in rows.items()}
    )
    wait_until(
        lambda: all(frr_path(frr, at)["remote-transmit-interval"] == 300 for at in (US4, US6)),
        10,
        "FRR knows of it",
    )
    first, before = settled.state.pulse, settled.path_to("frr6")
    lost4, lost6 = frr_downs(frr, US4), frr_downs(frr, US6)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: settled.state.pulse not in (None, first), 10, "another pulse process")
    settled.wait_paths(*ALL)
    settled.wait_sessions(*ALL)
    settled.wait_packets(*ALL)
    after = settled.path_to("frr6")
    assert (after.since, after.up_count) == (before.since, before.up_count)
    assert frr_downs(frr, US6) == lost6
    tell(f"pulse killed: FRR lost BFD at 3 x 300 ms {frr_downs(frr, US4) - lost4} times")


def test_one_hop_or_more_is_decided_as_frr_does(speaker: Speaker, configured: Configured) -> None:
    """Internal peers on the link and behind a router, and an external one with `ebgpMultiHop`."""
    neighbors = tuple(
        Neighbor(address=address, remote_as=asn, bfd=True, multihop=hops, passive=hops > 0)
        for address, asn, hops in (
            (US4, THEIR_ASN, 0),
            ("198.51.100.1", THEIR_ASN, 0),
            ("2001:db8:a::1", OUR_ASN, 5),
        )
    )
    frr = configured("frr", RouterConfig(asn=THEIR_ASN, router_id=FRR4, neighbors=neighbors))
    with beyond(speaker.host, frr.namespace):
        strict = BFDProfileSpec(transmit_interval=100, receive_interval=100, minimum_ttl=255)
        near = Row(address=FRR4, own=THEIR_ASN)
        far = Row(address="198.51.100.6", own=THEIR_ASN)
        six = Row(address="2001:db8:b::6", multihop=True)
        rows = {"near": near, "far": msgspec.structs.replace(far, profile=strict), "six": six}
        speaker.peers(rows)
        speaker.wait_paths("near", "six")
        speaker.wait_sessions(*rows)
        # Packets that crossed a router have 254 left: the default of minimumTtl lets them in.
        wait_until(lambda: speaker.path_to("far").counts.discarded > 2, 10, "they are refused")
        assert speaker.path_to("far").state is State.DOWN
        assert speaker.path_to("far").counts.control_received == 0
        speaker.peers(rows | {"far": far})
        speaker.wait_paths(*rows)
        kinds = {name: path.multihop for name, path in speaker.state.paths.items()}
        assert kinds == {"near": False, "far": True, "six": True}
        for address, multihop in ((US4, False), ("198.51.100.1", True), ("2001:db8:a::1", True)):
            seen = frr_path(frr, address)
            assert (seen["status"], seen["multihop"]) == ("up", multihop)
        assert all(path.down_count == 0 for path in speaker.state.paths.values())


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


def test_what_must_not_come_up_does_not(speaker: Speaker, frr: Router, bird: Router) -> None:
    """RFC 5881 §5: not by packets whose TTL is not 255; and a passive side waits for the other."""
    passive = BFDProfileSpec(transmit_interval=100, receive_interval=100, passive_mode=True)
    table = "table ip lab { chain out { type filter hook output priority mangle; udp dport 3784"
    frr.namespace.run(["nft", f"{table} ip daddr {US4} ip ttl set 254; }}; }}"])
    bird.namespace.run(["nft", f"{table} ip daddr {US4} drop; }}; }}"])
    rows = {
        "afar": Row(address=FRR4),
        "silent": Row(address=BIRD4, profile=passive),
        "control": Row(address=FRR6),
    }
    try:
        speaker.peers(rows)
        speaker.wait_sessions(*rows)
        speaker.wait_paths("control")
        wait_until(lambda: speaker.path_to("afar").counts.discarded > 2, 10, "they are refused")
        assert speaker.path_to("afar").state is State.DOWN
        assert speaker.path_to("afar").counts.control_received == 0
        assert speaker.path_to("silent").counts.control_sent == 0
    finally:
        for router in (frr, bird):
            router.namespace.run(["nft", "delete table ip lab"])
    speaker.wait_paths(*rows)


def test_echo_comes_back_from_either_kernel(speaker: Speaker, frr: Router) -> None:
    """Ours by the kernel of FRR's host over IPv4 and IPv6, FRR's over IPv4 by ours."""
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
    echo = BFDProfileSpec(
        transmit_interval=100, receive_interval=100, echo_mode=True, echo_interval=50
    )
    speaker.peers(
        {
            "four": Row(address=FRR4, profile=echo),
            "six": Row(address=FRR6, profile=echo),
        }
    )

    def echoing() -> bool:
        paths = speaker.state.paths
        return all(
            name in paths and paths[name].echo_interval and paths[name].counts.echo_received > 20
            for name in ("four", "six")
        )

    def echoes() -> int:
        rows = frr.query("show bfd peers counters json")
        return next(int(row["echo-packet-input"]) for row in rows if row["peer"] == US4)

    wait_until(echoing, 20, "echo is in use", seen=lambda: speaker.state.paths)
    # RFC 5880 §6.8.3: nothing faster than a second is asked for while echo does the work.
    wait_until(
        lambda: frr_path(frr, US6)["remote-receive-interval"] == 1000, 10, "slow Control packets"
    )
    wait_until(lambda: echoes() > 20, 20, "FRR's echo packets come back to it", seen=echoes)
    frr.namespace.sysctl("net.ipv4.ip_forward=0")
    try:
        wait_until(lambda: speaker.path_to("four").down_count, 10, "echo fails", interval=0.01)
        assert "echo" in speaker.path_to("four").last_down
        assert speaker.path_to("six").up
    finally:
        frr.namespace.sysctl("net.ipv4.ip_forward=1")
    frr.vtysh("configure terminal", "bfd", "no profile echo")
    wait_until(echoing, 20, "echo is in use again")
