"""How sessions of the native speaker travel: unnumbered, by device, over hops, signed.

Each test makes point-to-point links of its own between a speaker and real routers.
"""

import errno
import itertools
import socket
import sys
from collections.abc import Iterator

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.lab.netns import Lab, Namespace, cable
from clarion.lab.process import wait_until
from clarion.lab.routers import ROUTERS, Neighbor, Router, RouterConfig
from clarion.proto.bgp.config import DynamicAsn, PeerConfig, SessionStatus, State

from .bgp_bed import BOTH, OUR_ASN, SERVICE4, SERVICE6, THEIR_ASN, Speaker, service

pytestmark = pytest.mark.lab

NUMBERS = itertools.count(1)
HERE, THERE = "fe80::1", "fe80::2"
ADDRESSES = ((4, "192.0.2.1", "192.0.2.9"), (6, "2001:db8:1::1", "2001:db8:1::9"))


class Bed:
    """A speaker, and routers each at the other end of a cable of its own."""

    def __init__(self, lab: Lab, tag: str) -> None:
        self.lab, self.tag = lab, tag
        self.host = self.namespace("us")
        self.speaker = Speaker(self.host)
        self.routers: dict[str, Router] = {}

    def namespace(self, name: str) -> Namespace:
        """A host whose interfaces get no link-local address of themselves."""
        made = self.lab.namespace(f"{self.tag}{name}", forwarding=True)
        made.sysctl("net.ipv6.conf.default.addr_gen_mode=1")
        return made

    def link(self, interface: str, other: Namespace, their: str = "link0") -> None:
        """A cable with link-local addresses only, `HERE` at our end and `THERE` at the other."""
        cable(self.host, interface, other, their)
        self.host.add_address(interface, f"{HERE}/64")
        other.add_address(their, f"{THERE}/64")

    def router(
        self, kind: str, name: str, *neighbors: Neighbor, asn: int = THEIR_ASN, number: int = 1
    ) -> Router:
        """A router in the namespace `name`, which has its links already."""
        config = RouterConfig(asn=asn, router_id=f"192.0.2.{number}", neighbors=neighbors)
        router = ROUTERS[kind](self.lab.namespaces[f"{self.tag}{name}"], config)
        self.routers[name] = router
        router.start()
        return router

    def close(self) -> None:
        self.speaker.stop()
        for router in self.routers.values():
            router.stop()


@pytest.fixture
def bed(lab: Lab) -> Iterator[Bed]:
    made = Bed(lab, f"t{next(NUMBERS)}")
    yield made
    made.close()


def numbered(address: str, **fields: object) -> PeerConfig:
    """A peer with this address, or none."""
    values: dict[str, object] = {
        "name": "peer",
        "local_asn": OUR_ASN,
        "peer_asn": DynamicAsn.EXTERNAL,
        "peer_address": parse_address(address) if address else None,
        "hold_time": 9.0,
        "connect_time": 1.0,
    }
    return PeerConfig(**(values | fields))  # type: ignore[arg-type]


def unnumbered(interface: str = "eth0", **fields: object) -> PeerConfig:
    """Whoever is at the other end of an interface."""
    return numbered("", **({"name": interface, "interface": interface} | fields))


def kernel_hops(host: Namespace, prefix: str) -> list[tuple[str, str]]:
    """Next hop and device of the kernel's route for a prefix."""
    family = "-6" if ":" in prefix else "-4"
    found = []
    for entry in host.ip_json(family, "route", "show", prefix):
        for hop in entry.get("nexthops", [entry]):
            where = hop.get("via", {}).get("host") or hop.get("gateway", "")
            found.append((where, hop.get("dev", "")))
    return found


def wrong_signatures(host: Namespace) -> int:
    """Segments that the kernel dropped because of their MD5 signature."""
    lines = host.run(["cat", "/proc/net/netstat"]).stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(values[names.index("TCPMD5Failure")])


def wait_kernel(router: Router, *hops: tuple[str, str]) -> None:
    """Until the router's kernel sends both addresses of the service there."""

    def seen() -> list[list[tuple[str, str]]]:
        return [kernel_hops(router.namespace, prefix) for prefix in (SERVICE4, SERVICE6)]

    wanted = [sorted(hops)] * 2
    what = f"the kernel of {router.name} routes the service via {hops}"
    wait_until(lambda: [sorted(each) for each in seen()] == wanted, 20, what, seen=seen)


@pytest.mark.parametrize("internal", [False, True], ids=["external", "internal"])
def test_unnumbered_with_frr_routes_both_families_over_the_link_local_address(
    bed: Bed, internal: bool
) -> None:
    other = bed.namespace("frr")
    bed.link("eth0", other)
    asn = OUR_ASN if internal else THEIR_ASN
    neighbor = Neighbor(interface="link0", remote_as="internal" if internal else "external")
    frr = bed.router("frr", "frr", neighbor, asn=asn)
    kind = DynamicAsn.INTERNAL if internal else DynamicAsn.EXTERNAL
    bed.speaker.peers(unnumbered(peer_asn=kind))
    bed.speaker.routes(["eth0"], service())
    bed.speaker.wait_established()
    wait_kernel(frr, (HERE, "link0"))
    status = bed.speaker.status["eth0"]
    assert (status.remote_address, status.internal) == (parse_address(THERE), internal)
    assert {str(family.next_hop) for family in status.families} == {HERE}


def test_bird_with_the_address_alone_and_gobgp_with_the_interface_take_the_same_next_hop(
    bed: Bed,
) -> None:
    for interface, name in (("eth0", "bird"), ("eth1", "gobgp")):
        bed.link(interface, bed.namespace(name))
    # BIRD 2.0 sends no advertisements of itself unless told to, and asks for an address.
    bird = Neighbor(
        address=f"{HERE}%link0", remote_as=OUR_ASN, families=BOTH, extended_next_hop=True
    )
    bird_router = bed.router("bird", "bird", bird, number=2)
    # GoBGP finds its neighbour in the kernel's table, which our advertisements fill.
    bed.speaker.peers(
        numbered(THERE, interface="eth0", name="bird", peer_asn=THEIR_ASN),
        unnumbered("eth1", passive=True),
    )
    gobgp = bed.lab.namespaces[f"{bed.tag}gobgp"]
    wait_until(
        lambda: any(each["dst"] == HERE for each in gobgp.ip_json("-6", "neighbor", "show")),
        20,
        "the kernel beside GoBGP has heard our advertisement",
    )
    gobgp_router = bed.router(
        "gobgp", "gobgp", Neighbor(interface="link0", remote_as=OUR_ASN), number=3
    )
    bed.speaker.routes(["bird", "eth1"], service())
    bed.speaker.wait_established()
    wait_kernel(bird_router, (HERE, "link0"))
    for version, prefix in ((4, SERVICE4), (6, SERVICE6)):
        (path,) = gobgp_router.wait_routes(version, {prefix})[prefix]
        assert path.next_hop == HERE
    assert all(f.sent for each in bed.speaker.status.values() for f in each.families)


def test_two_interfaces_with_the_same_address_at_the_other_end_and_passwords_of_their_own(
    bed: Bed,
) -> None:
    routers = {}
    for number, interface in enumerate(("eth0", "eth1"), 1):
        bed.link(interface, bed.namespace(interface))
        neighbor = Neighbor(interface="link0", remote_as="external", password=interface)
        routers[interface] = bed.router("frr", interface, neighbor, number=number)
    peers = {name: unnumbered(name, password=name) for name in routers}
    bed.speaker.peers(*peers.values())
    bed.speaker.routes(["eth0", "eth1"], service())
    bed.speaker.wait_established()
    for router in routers.values():
        wait_kernel(router, (HERE, "link0"))
    # Another password ends this one session and leaves the other alone; the right one heals it,
    # and a wrong one does not let the routers in that connect from their side.
    assert bed.speaker.peers(
        peers["eth0"], msgspec.structs.replace(peers["eth1"], password="wrong")
    ).effects == {"eth0": "NONE", "eth1": "RESET"}
    wait_until(
        lambda: not kernel_hops(routers["eth1"].namespace, SERVICE4), 20, "the service is gone"
    )
    before = wrong_signatures(bed.host)
    wait_until(lambda: wrong_signatures(bed.host) > before, 20, "the kernel drops the attempts")
    assert bed.speaker.status["eth1"].state < State.OPEN_SENT
    bed.speaker.peers(*peers.values())
    bed.speaker.wait_established()
    assert bed.speaker.status["eth0"].established_count == 1
    wait_kernel(routers["eth1"], (HERE, "link0"))


def test_an_unnumbered_peer_follows_its_interface_and_the_address_of_its_other_end(
    bed: Bed,
) -> None:
    other = bed.namespace("frr")
    other.ip("link", "set", "lo", "up")
    bed.link("early", other, "link1")
    frr = bed.router("frr", "frr", Neighbor(interface="link0", remote_as="external"))
    bed.speaker.peers(unnumbered("eth0"), unnumbered("early", passive=True))
    bed.speaker.routes(["eth0"], service())
    bed.speaker.wait(
        "the missing interface is named",
        lambda status: "no such interface" in status["eth0"].last_error,
    )
    bed.link("eth0", other)  # it appears later
    bed.speaker.wait_established("eth0")
    wait_kernel(frr, (HERE, "link0"))

    bed.host.ip("link", "set", "eth0", "down")
    bed.speaker.wait_reason("the interface is down, or nothing is plugged in", "eth0")
    wait_until(lambda: not kernel_hops(other, SERVICE4), 20, "FRR has seen the cable pulled")
    bed.host.ip("link", "set", "eth0", "up")
    bed.host.add_address("eth0", f"{HERE}/64")
    bed.speaker.wait_established("eth0")

    # The same router under another address: its hardware address tells that it is the same one.
    other.add_address("link0", "fe80::22/64")
    other.remove_address("link0", f"{THERE}/64")
    bed.speaker.wait_reason("the peer on eth0 is fe80::22 now", "eth0")
    bed.speaker.wait_established("eth0")
    status = bed.speaker.status
    assert status["eth0"].remote_address == parse_address("fe80::22")
    assert status["early"].state is State.ACTIVE
    wait_kernel(frr, (HERE, "link0"))


def test_advertisements_go_out_where_an_unnumbered_peer_is_and_only_while_it_is(bed: Bed) -> None:
    other = bed.namespace("ears")
    bed.link("eth0", other)
    bed.link("eth1", other, "link1")
    fields = (
        *("frame.interface_name", "icmpv6.type", "ipv6.hlim"),
        *("icmpv6.nd.ra.router_lifetime", "icmpv6.checksum.status"),
    )
    shown = [word for field in fields for word in ("-e", field)]
    ours = f"icmp6 and src host {HERE} and (ip6[40] == 133 or ip6[40] == 134)"
    log = bed.lab.run_dir / f"{bed.tag}-ra.txt"
    # The filter comes first: so it is that of both interfaces.
    tshark = ["tshark", "-l", "-n", "-f", ours, "-i", "link0", "-i", "link1"]
    process = other.popen([*tshark, "-T", "fields", *shown], log=log)
    wait_until(lambda: "Capturing on" in log.read_text(), 20, "tshark captures")

    def heard() -> list[list[str]]:
        lines = (line.split("\t") for line in log.read_text().splitlines())
        return [line for line in lines if len(line) == len(fields)]

    def types() -> list[str]:
        return [line[1] for line in heard()]

    bed.speaker.peers(unnumbered())
    wait_until(lambda: {"133", "134"} <= set(types()), 20, "both messages", seen=log.read_text)
    before = types().count("134")
    other.run(["rdisc6", "-1", "-q", "-w", "8000", "link0"])  # an answer to a question
    wait_until(lambda: types().count("134") > before, 20, "an answer", seen=log.read_text)
    before = types().count("134")
    bed.speaker.peers()
    wait_until(lambda: types().count("134") > before, 20, "a last one", seen=log.read_text)
    assert {line[0] for line in heard()} == {"link0"}
    for line in heard():
        assert line[2] == "255"
        assert line[3] == ("0" if line[1] == "134" else "")
        assert line[4] == "1"  # tshark: the checksum is good
    process.stop()


@pytest.mark.parametrize("passive", [False, True], ids=["dialling", "listening"])
@pytest.mark.parametrize("kind", ["frr", "bird"])
def test_gtsm_on_both_sides_of_either_kind_of_connection(
    bed: Bed, kind: str, passive: bool
) -> None:
    other = bed.namespace(kind)
    bed.link("eth0", other)
    for version, ours, theirs in ADDRESSES:
        bed.host.add_address("eth0", f"{ours}/{24 if version == 4 else 64}")
        other.add_address("link0", f"{theirs}/{24 if version == 4 else 64}")
    router = bed.router(
        kind,
        kind,
        *(
            Neighbor(
                address=ours,
                remote_as=OUR_ASN,
                families=BOTH,
                ttl_security=True,
                passive=not passive,
            )
            for _, ours, _ in ADDRESSES
        ),
    )
    names = [f"v{version}" for version, _, _ in ADDRESSES]
    bed.speaker.peers(
        *(
            numbered(theirs, name=f"v{version}", ttl_security=1, passive=passive)
            for version, _, theirs in ADDRESSES
        )
    )
    bed.speaker.routes(names, service())
    bed.speaker.wait_established(*names)
    for version, prefix in ((4, SERVICE4), (6, SERVICE6)):
        router.wait_routes(version, {prefix})
    remote_ports = {each.remote_port for each in bed.speaker.status.values()}
    assert (179 not in remote_ports) if passive else remote_ports == {179}
    # A stranger's packets from further away find nobody: the handshake itself is refused.
    if passive:
        probe = "import socket,sys; s=socket.socket(int(sys.argv[1])); s.settimeout(1.5)"
        probe += "\nprint(s.connect_ex((sys.argv[2], 179)))"
        other.sysctl("net.ipv4.ip_default_ttl=254", "net.ipv6.conf.all.hop_limit=254")
        other.sysctl("net.ipv6.conf.link0.hop_limit=254")
        for version, ours, _ in ADDRESSES:
            family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
            argv = [sys.executable, "-c", probe, str(int(family)), ours]
            assert other.run(argv).stdout.strip() == str(errno.EAGAIN), version
        other.sysctl("net.ipv4.ip_default_ttl=255")
        argv = [sys.executable, "-c", probe, str(int(socket.AF_INET)), ADDRESSES[0][1]]
        assert other.run(argv).stdout.strip() == "0"


def test_multihop_over_a_router_in_between_and_ttl_1_without_it(bed: Bed) -> None:
    middle, far = bed.namespace("middle"), bed.namespace("far")
    cable(bed.host, "eth0", middle, "left")
    cable(middle, "right", far, "link0")
    for host, interface, address in (
        (bed.host, "eth0", "192.0.2.1/24"),
        (middle, "left", "192.0.2.2/24"),
        (middle, "right", "198.51.100.2/24"),
        (far, "link0", "198.51.100.3/24"),
    ):
        host.add_address(interface, address)
    bed.host.add_route("198.51.100.0/24", via="192.0.2.2")
    far.add_route("192.0.2.0/24", via="198.51.100.2")
    bed.router(
        "frr", "far", Neighbor(address="192.0.2.1", remote_as=OUR_ASN, multihop=5, passive=True)
    )
    peer = numbered("198.51.100.3")
    bed.speaker.peers(peer)
    # The packet dies at the router in between, which says so.
    bed.speaker.wait("no way", lambda status: "No route to host" in status["peer"].last_error)
    bed.speaker.peers(msgspec.structs.replace(peer, ebgp_multihop=True))
    bed.speaker.routes(["peer"], service()[:1])
    bed.speaker.wait_established()
    wait_until(
        lambda: kernel_hops(far, SERVICE4) == [("198.51.100.2", "link0")], 20, "routed via middle"
    )


def test_the_same_address_behind_two_devices_is_two_peers(bed: Bed) -> None:
    # Without VRF devices in this kernel, plain interfaces stand for them: what is tested is that
    # sockets, accepted connections and next hops keep to the device.
    routers = {}
    for number, device in enumerate(("red", "blue"), 1):
        other = bed.namespace(device)
        cable(bed.host, device, other, "link0")
        bed.host.add_address(device, f"192.0.2.{number}/24")
        bed.host.add_address(device, f"2001:db8:{number}::1/64")
        other.add_address("link0", "192.0.2.9/24")
        other.add_address("link0", f"2001:db8:{number}::9/64")
        neighbor = Neighbor(address=f"192.0.2.{number}", remote_as=OUR_ASN, families=BOTH)
        routers[device] = bed.router("frr", device, neighbor, number=number)
    for passive in (True, False):
        bed.speaker.peers(
            *(numbered("192.0.2.9", name=name, vrf=name, passive=passive) for name in routers)
        )
        bed.speaker.routes(list(routers), service())
        bed.speaker.wait_established()
        for number, name in enumerate(routers, 1):
            status = bed.speaker.status[name]
            assert status.local_address == parse_address(f"192.0.2.{number}")
            assert [str(family.next_hop) for family in status.families] == [
                f"192.0.2.{number}",
                f"2001:db8:{number}::1",
            ]
            routers[name].wait_routes(4, {SERVICE4})
            routers[name].wait_routes(6, {SERVICE6})


def test_a_source_address_that_comes_later_is_used_when_it_comes(bed: Bed) -> None:
    other = bed.namespace("frr")
    cable(bed.host, "eth0", other, "link0")
    bed.host.add_address("eth0", "192.0.2.1/24")
    other.add_address("link0", "192.0.2.9/24")
    bed.router("frr", "frr", Neighbor(address="192.0.2.77", remote_as=OUR_ASN, passive=True))
    source = parse_address("192.0.2.77")
    peer = numbered("192.0.2.9", source_address=source, connect_time=3600.0)
    bed.speaker.peers(peer)

    def waits(status: dict[str, SessionStatus]) -> bool:
        return "Cannot assign requested address" in status["peer"].last_error

    bed.speaker.wait("it cannot begin", waits)
    bed.host.add_address("eth0", "192.0.2.77/24")
    bed.speaker.wait_established()
    assert bed.speaker.status["peer"].local_address == source
