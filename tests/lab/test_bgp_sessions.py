"""How sessions of the native speaker come up and end, judged by FRR, BIRD, GoBGP and OpenBGPD."""

import re
import sys

import msgspec
import pytest

from clarion.base.addr import parse_address, parse_prefix
from clarion.lab.netns import Namespace
from clarion.lab.process import wait_until
from clarion.lab.routers import Neighbor, Router
from clarion.proto.bgp.attrs import LargeCommunity
from clarion.proto.bgp.config import State
from clarion.proto.bgp.routes import Route

from .bgp_bed import (
    ALL,
    BOTH,
    KINDS,
    NAMES,
    OUR_ASN,
    SERVICE4,
    SERVICE6,
    THEIR_ASN,
    US,
    US4,
    US6,
    Configured,
    Routers,
    Speaker,
    established_connections,
    neighbor,
    peer,
    peer_name,
    router_config,
    service,
    wait_service,
)
from .bgp_speaker_main import Command
from .conftest import Segment

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("internal", [False, True], ids=["external", "internal"])
def test_both_families_over_either_transport_with_all_attributes(
    speaker: Speaker, routers: Routers, internal: bool
) -> None:
    asn = THEIR_ASN if internal else OUR_ASN
    running = routers(neighbor(4, asn), neighbor(6, asn))
    speaker.peers(*(peer(kind, version, local_asn=asn) for kind, version in ALL))
    rich = Route(
        parse_prefix("203.0.113.128/25"),
        local_pref=150,
        communities=(8000 << 16 | 800, 64512 << 16 | 7),
        large_communities=(LargeCommunity(64512, 4200000000, 3),),
    )
    speaker.routes(NAMES, [*service(), rich])
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


def test_routers_see_what_we_offer(speaker: Speaker, routers: Routers) -> None:
    """Capabilities in each router's words, and End-of-RIB for both families (RFC 4724 §2)."""
    running = routers(neighbor())
    speaker.peers(*(peer(kind, graceful_restart=20.0) for kind in KINDS))
    speaker.routes(KINDS, service())
    speaker.wait_established()
    for router in running.values():
        wait_service(router)
    raw = {kind: router.neighbors()[US4].raw for kind, router in running.items()}
    both = {f"{each}Unicast": {"advertisedAndReceived": True} for each in BOTH}
    assert (
        raw["frr"]["neighborCapabilities"].items()
        >= {
            "4byteAs": "advertisedAndReceived",
            "extendedMessage": "advertisedAndReceived",
            "routeRefresh": "advertisedAndReceivedNew",
            "enhancedRouteRefresh": "advertisedAndReceived",
            "multiprotocolExtensions": both,
            "gracefulRestart": "advertisedAndReceived",
            "gracefulRestartRemoteTimerMsecs": 20_000,
        }.items()
    )
    restart = raw["frr"]["gracefulRestartInfo"]
    assert restart["endOfRibRecv"] == {"ipv4Unicast": True, "ipv6Unicast": True}
    assert (restart["rBit"], restart["nBit"]) == (False, True)
    ours = raw["bird"]["text"].partition("Neighbor capabilities")[2].partition("Session:")[0]
    assert [line.strip() for line in ours.strip().splitlines()] == [
        "Multiprotocol",
        "AF announced: ipv4 ipv6",
        "Route refresh",
        "Extended message",
        "Graceful restart",
        "Restart time: 20",
        "AF supported: ipv4 ipv6",
        "AF preserved:",
        "4-octet AS numbers",
        "Enhanced refresh",
    ]
    names = {each["type_url"].rpartition(".")[2] for each in raw["gobgp"]["state"]["remote_cap"]}
    assert names == {
        "MultiProtocolCapability",
        "RouteRefreshCapability",
        "EnhancedRouteRefreshCapability",
        "GracefulRestartCapability",
        "FourOctetASNCapability",
        "UnknownCapability",  # GoBGP 3 knows no extended messages
    }
    seen = raw["openbgpd"]["session"]["remote"]["capabilities"]
    assert seen.items() >= {"as4byte": True, "refresh": True, "enhanced_refresh": True}.items()
    assert seen["multiprotocol"] == ["IPv4 unicast", "IPv6 unicast"]
    assert seen["graceful_restart"]["timeout"] == 20


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
    speaker.wait_reason("the peer says AS 64512, we expect 64999", *KINDS)


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
    running = routers(*(neighbor(v, password=secret, passive=not passive) for v in (4, 6)))
    before = md5_failures(speaker.host), {k: md5_failures(r.namespace) for k, r in running.items()}
    speaker.peers(*(peer(k, v, password="not-the-secret", passive=passive) for k, v in ALL))
    speaker.routes(NAMES, service())
    if passive:
        wait_refused(speaker.host, before[0] + len(ALL))
    else:
        for kind, router in running.items():
            wait_refused(router.namespace, before[1][kind] + 2)
        speaker.wait(
            "the status names the password",
            lambda status: all(
                "a wrong password looks the same" in each.last_error for each in status.values()
            ),
        )
    assert all(each.state < State.OPEN_SENT for each in speaker.status.values())
    assert not any(n.established for r in running.values() for n in r.neighbors().values())
    report = speaker.peers(*(peer(k, v, password=secret, passive=passive) for k, v in ALL))
    assert set(report.effects.values()) == {"RESET"}
    speaker.wait_established()
    for router in running.values():
        wait_service(router)


def test_a_changed_peer_resets_only_itself(speaker: Speaker, routers: Routers) -> None:
    running = routers(neighbor(4), neighbor(6))
    peers = {kind: peer(kind) for kind in KINDS}
    speaker.peers(*peers.values())
    speaker.routes(KINDS, service())
    speaker.wait_established()
    peers["frr"] = peer("frr", keepalive_time=1.0, connect_time=7.0, hold_time=30.0)
    peers["bird"] = peer("bird", 6, name="bird")
    report = speaker.peers(*peers.values())
    none = dict.fromkeys(KINDS, "NONE")
    assert report.effects == {**none, "frr": "NEXT_SESSION", "bird": "RESET"}
    speaker.wait_established()
    running["bird"].wait_established(US6)
    running["bird"].wait_routes(4, {SERVICE4})
    assert not running["bird"].neighbors()[US4].established
    frr = running["frr"].neighbors()[US4].raw
    assert (frr["connectionsEstablished"], frr["connectionsDropped"]) == (1, 0)
    assert running["gobgp"].neighbors()[US4].raw["state"].get("flops", 0) == 0
    openbgpd = running["openbgpd"].neighbors()[US4]
    assert openbgpd.raw["stats"]["message"]["received"]["open"] == 1
    assert speaker.status["frr"].keepalive_time == 1.0


@pytest.mark.parametrize("ours", ["192.0.2.0", "192.0.2.200"], ids=["lower id", "higher id"])
def test_both_ends_open_and_one_connection_remains(
    speaker: Speaker, routers: Routers, ours: str
) -> None:
    """Routers that stood still find our connections waiting while they open their own.

    Again and again: who wins is settled by the identifiers (RFC 4271 §6.8), not by the moment.
    """
    for _ in range(3):
        speaker.peers()
        running = routers(neighbor(4), neighbor(6))
        for router in running.values():
            router.pause()
        try:
            speaker.peers(*(peer(k, v, router_id=parse_address(ours)) for k, v in ALL))
            speaker.routes(NAMES, service())
            speaker.wait(
                "our OPENs are on the way",
                lambda status: all(each.state >= State.OPEN_SENT for each in status.values()),
            )
        finally:
            for router in running.values():
                router.resume()
        speaker.wait_established()
        for router in running.values():
            router.wait_established(US4, US6)
            wait_service(router)
        wait_until(
            lambda: len(established_connections(speaker.host)) == len(ALL),
            10,
            "one connection per peer",
            seen=lambda: established_connections(speaker.host),
        )
        assert {each.established_count for each in speaker.status.values()} == {1}


def test_a_stop_is_seen_as_administrative_shutdown_with_its_words(
    speaker: Speaker, routers: Routers
) -> None:
    running = routers(neighbor())
    speaker.peers(*(peer(kind) for kind in KINDS))
    speaker.routes(KINDS, service())
    speaker.wait_established()
    words = "node goes down for maintenance"
    speaker.ask(Command(stop=words))
    assert speaker.process.wait() == 0

    def wait_said(kind: str, said: str) -> None:
        router = running[kind]
        wait_until(
            lambda: said in router.neighbors()[US4].last_error,
            10,
            f"{router.name}: {said}",
            seen=lambda: router.neighbors()[US4],
        )

    wait_said("frr", "Cease/Administrative Shutdown")
    assert running["frr"].neighbors()[US4].raw["lastShutdownDescription"] == words
    wait_said("bird", "Received: Administrative shutdown")
    wait_said("openbgpd", f"received Cease, administratively down / {words}")
    log = running["gobgp"].daemons[0].log
    assert log is not None
    wait_until(lambda: words in log.read_text(), 10, "GoBGP's log", seen=log.read_text)


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
    segment: Segment, routers: Routers, configured: Configured
) -> None:
    """RFC 8950 where the peer takes it: GoBGP, BIRD if asked to. Else the status says why not."""
    host = segment.lab.namespace("speaker6")
    ours = "2001:db8:1::66:1"
    segment.switch.attach(host, addresses=[f"{ours}/64"])
    known = Neighbor(address=ours, remote_as=OUR_ASN, families=BOTH)
    takes = msgspec.structs.replace(known, extended_next_hop=True)
    running: dict[str, Router] = routers(known, kinds=("frr", "gobgp", "openbgpd"))
    running["bird"] = configured("bird", router_config("bird", takes))
    speaker = Speaker(host)
    try:
        speaker.peers(*(peer(kind, 6) for kind in KINDS))
        speaker.routes([peer_name(kind, 6) for kind in KINDS], service())
        speaker.wait_established()
        for router in running.values():
            (path,) = router.wait_routes(6, {SERVICE6})[SERVICE6]
            assert path.next_hop == ours
        for kind in ("bird", "gobgp"):
            (path,) = running[kind].wait_routes(4, {SERVICE4})[SERVICE4]
            assert path.next_hop == ours
        for kind in ("frr", "openbgpd"):
            assert running[kind].learned(4) == {}
            (four, _six) = speaker.status[peer_name(kind, 6)].families
            assert not four.sent
            assert four.reason.startswith("no next hop: the interface of 2001:db8:1::66:1 lacks")
    finally:
        speaker.stop()


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
