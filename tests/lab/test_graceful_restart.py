"""Speakers that restart, are drained or weigh: judged by routers, their kernels, and by traffic.

A client behind an FRR asks a pod through a service address 200 times a second, over UDP: what is
not answered is lost. Policy Local, so that no other node can take the traffic over.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clarion.lab.netns import Lab, Namespace, cable, sweep
from clarion.lab.nodes import SYSTEM_NAMESPACE, ApiHost, Node, clarion
from clarion.lab.process import Process, wait_until
from clarion.lab.routers import Bird, Frr, Neighbor, RouterConfig
from clarion.model.annotations import LINK_BANDWIDTH, LOAD_BALANCER_IPS

from .conftest import TEST_PREFIX
from .programs_bed import metallb, service

pytestmark = pytest.mark.lab

FRR, BIRD, API = "192.0.2.1", "192.0.2.2", "192.0.2.10"
NODES = {"node-a": "192.0.2.11", "node-b": "192.0.2.12"}
NODE = NODES["node-a"]
ROUTER_INSIDE, CLIENT = "198.51.100.1", "198.51.100.2"
ADDRESS, SPREAD = "203.0.113.1", "203.0.113.2"
PREFIX = f"{ADDRESS}/32"
SHUTDOWN = "65535:0"

ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 8080))
while True:
    data, peer = s.recvfrom(64)
    s.sendto(data, peer)
"""
ASK = """
import json, signal, socket, sys, threading, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 80))
heard, stop = set(), threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
def hear():
    while True:
        try:
            heard.add(int(s.recv(64)))
        except OSError:
            pass
threading.Thread(target=hear, daemon=True).start()
sent, due = 0, time.monotonic()
while not stop.is_set():
    try:
        s.send(str(sent).encode())
    except OSError:
        pass
    sent, due = sent + 1, due + 0.005
    stop.wait(max(0.0, due - time.monotonic()))
time.sleep(1)
print(json.dumps({"sent": sent, "lost": sorted(set(range(sent)) - heard)}), flush=True)
"""


def endpoints(name: str, pods: dict[str, str]) -> Any:
    """A slice of pods: address to node."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "nodeName": node} for ip, node in pods.items()],
        "ports": [{"name": "http", "port": 8080, "protocol": "UDP"}],
    }


def local(name: str, address: str) -> Any:
    return service(
        name,
        notes={LOAD_BALANCER_IPS: address},
        ipFamilyPolicy="SingleStack",
        externalTrafficPolicy="Local",
        ports=[{"name": "http", "port": 80, "targetPort": 8080, "protocol": "UDP"}],
    )


class Bed:
    """Two nodes, an FRR with a client behind it, a BIRD, and the API."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        switch = lab.switch("sw")
        places = {"frr": FRR, "bird": BIRD, "api": API, **NODES}
        hosts: dict[str, Namespace] = {}
        for name, address in places.items():
            hosts[name] = lab.namespace(name, forwarding=name not in ("bird", "api"))
            switch.attach(hosts[name], addresses=[f"{address}/24"])
        self.client = lab.namespace("client")
        cable(hosts["frr"], "inside", self.client, "eth0")
        hosts["frr"].add_address("inside", f"{ROUTER_INSIDE}/24")
        self.client.add_address("eth0", f"{CLIENT}/24")
        self.client.add_route("203.0.113.0/24", via=ROUTER_INSIDE)
        for name in NODES:
            hosts[name].add_route("198.51.100.0/24", via=FRR)
        self.api = ApiHost(hosts["api"], API)
        self.nodes = {name: Node(hosts[name], [], ip, "") for name, ip in NODES.items()}
        self.node = self.nodes["node-a"]
        neighbors = tuple(
            Neighbor(address=ip, remote_as=64500, passive=True) for ip in NODES.values()
        )
        self.frr = Frr(hosts["frr"], RouterConfig(asn=64512, router_id=FRR, neighbors=neighbors))
        self.bird = Bird(
            hosts["bird"], RouterConfig(asn=64500, router_id=BIRD, neighbors=neighbors)
        )

    def up(self) -> None:
        self.api.start_api()
        for router in (self.frr, self.bird):
            router.start()
        self.node.namespace.popen([sys.executable, "-c", ECHO], log="echo.log")
        self.api.wait_api()
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
        )
        self.api.start_controller()
        nodes = [f"{n.name}={n.namespace.full_name}" for n in self.nodes.values()]
        proxy = ["-m", "clarion.lab.kubeproxy", "--kubeconfig", str(self.api.kubeconfig), *nodes]
        self.api.namespace.popen(
            [sys.executable, *proxy], log="kubeproxy.log", env=self.api.environment()
        )
        self.start()
        self.apply(
            metallb("IPAddressPool", "base", addresses=["203.0.113.0/24"]),
            metallb("BGPAdvertisement", "base"),
            *(
                self.peer(name, asn, ip)
                for name, asn, ip in (("frr", 64512, FRR), ("bird", 64500, BIRD))
            ),
            local("web", ADDRESS),
            endpoints("web", {NODE: "node-a"}),
        )

    def peer(self, name: str, asn: int, address: str) -> dict[str, Any]:
        spec = {"myASN": 64500, "peerASN": asn, "peerAddress": address}
        return metallb(
            "BGPPeer", name, "v1beta2", **spec, connectTime="1s", enableGracefulRestart=True
        )

    def start(self, *flags: str, boot: Path | None = None) -> None:
        """Start the speaker of the first node; `boot` stands in for the kernel's boot id."""
        if boot is None:
            self.node.start_speaker(self.api.kubeconfig, *flags)
            return
        # The programs of a namespace have mounts of their own.
        script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        words = ["speaker", "--node-name", self.node.name, "--namespace", SYSTEM_NAMESPACE]
        words += ["--kubeconfig", str(self.api.kubeconfig), "--register-node", *flags]
        argv = ["sh", "-c", script, str(boot), *clarion(*words)]
        self.node.speaker = self.node.namespace.popen(argv, log="rebooted.log")

    def apply(self, *objects: dict[str, Any]) -> None:
        self.api.kubectl("apply", "-f", "-", stdin="\n".join(map(json.dumps, objects)))

    def established(self) -> int:
        """FRR's count of how often the first node's session came up."""
        count: int = self.frr.query("show bgp neighbors json")[NODE]["connectionsEstablished"]
        return count

    def kept(self, router: Frr | Bird) -> list[bool]:
        """Whether a route is that of a lost session; one item for each path."""
        up = router.neighbors()[NODE].established
        return [not up for _ in router.learned(4).get(PREFIX, [])]

    def claims(self) -> tuple[bool, dict[str, bool]]:
        """What FRR was told in the OPEN: a restart, and the families whose traffic went on."""
        told = self.frr.query("show bgp neighbors json")[NODE]["gracefulRestartInfo"]
        families = {
            name: item["fBit"]
            for name, item in told.items()
            if isinstance(item, dict) and "fBit" in item
        }
        return told["rBit"], families

    def wait_fresh(self, session: int) -> None:
        """Until both routers have the route of the session after this one."""
        wait_until(lambda: self.established() > session, 30, "the session is up again")
        self.wait_both(lambda router: self.kept(router) == [False], "a fresh route")

    def wait_both(self, probe: Callable[[Frr | Bird], bool], what: str) -> None:
        """Until something is so at both routers, one after the other."""
        for router in (self.frr, self.bird):
            wait_until(partial(probe, router), 30, f"{router.name}: {what}")

    @property
    def speaker(self) -> Process:
        assert self.node.speaker is not None
        return self.node.speaker


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}g") as lab:
        made = Bed(lab)
        made.up()
        yield made


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    shared.wait_fresh(0)
    yield shared
    if shared.node.speaker is None or not shared.speaker.alive:
        shared.start()


class Watched:
    """What the client and the router's kernel saw."""

    def __init__(self, bed: Bed) -> None:
        logs = bed.lab.logs
        self._logs = [logs / f"{what}-{os.urandom(4).hex()}.log" for what in ("asked", "routes")]
        argv = [sys.executable, "-c", ASK, ADDRESS]
        self._asking = bed.client.popen(argv, log=self._logs[0])
        monitor = ["stdbuf", "-oL", "ip", "monitor", "route"]
        self._routes = bed.frr.namespace.popen(monitor, log=self._logs[1])

    def end(self) -> None:
        for process in (self._asking, self._routes):
            process.signal(signal.SIGTERM)
            process.wait()

    @property
    def traffic(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._logs[0].read_text())
        return found

    def deletions(self) -> list[str]:
        text = self._logs[1].read_text().splitlines()
        return [line for line in text if line.startswith("Deleted") and ADDRESS in line]


@contextmanager
def watched(bed: Bed) -> Iterator[Watched]:
    made = Watched(bed)
    try:
        yield made
    finally:
        made.end()


def kill(bed: Bed) -> None:
    bed.speaker.kill()


def stop(bed: Bed) -> None:
    assert bed.node.stop_speaker() == 0


@pytest.mark.parametrize("end", [kill, stop], ids=["kill -9", "SIGTERM"])
def test_a_speaker_that_restarts_loses_no_route_and_no_packet(bed: Bed, end: Any) -> None:
    session = bed.established()
    gaps: list[str] = []

    def kept(router: Frr | Bird) -> list[bool]:
        found = bed.kept(router)
        if len(found) != 1:
            gaps.append(f"{router.name}: {found}")
        return found

    with watched(bed) as seen:
        end(bed)
        bed.wait_both(lambda router: kept(router) == [True], "the route of a lost session")
        assert [path.stale for path in bed.frr.learned(4)[PREFIX]] == [True]
        bed.start()

        def fresh() -> bool:
            both = kept(bed.frr), kept(bed.bird)
            return both == ([False], [False]) and bed.established() > session

        wait_until(fresh, 30, "both routers have a fresh route of a new session", interval=0.02)
    assert gaps == []
    assert seen.deletions() == []
    assert seen.traffic["lost"] == []
    assert seen.traffic["sent"] > 100, "half a second of traffic"
    assert bed.claims() == (True, {"ipv4Unicast": True})


def test_a_node_that_was_rebooted_does_not_claim_that_traffic_went_on(
    bed: Bed, tmp_path: Path
) -> None:
    session = bed.established()
    boot = tmp_path / "boot_id"
    boot.write_text("00000000-0000-4000-8000-000000000000\n")
    kill(bed)
    wait_until(lambda: bed.kept(bed.frr) == [True], 20, "FRR keeps the route at first")
    bed.start(boot=boot)
    bed.wait_fresh(session)
    assert bed.claims() == (False, {"ipv4Unicast": False})


def test_without_an_agreement_the_routes_go_at_once(bed: Bed) -> None:
    peer = bed.peer("frr", 64512, FRR)
    peer["spec"]["enableGracefulRestart"] = None
    bed.api.kubectl("delete", "bgppeer", "frr", "-n", SYSTEM_NAMESPACE)
    wait_until(lambda: not bed.frr.neighbors()[NODE].established, 20, "the session has ended")
    bed.apply(peer)
    try:
        bed.frr.wait_established(NODE)
        wait_until(lambda: bed.kept(bed.frr) == [False], 20, "FRR has the route")
        stop(bed)
        wait_until(lambda: PREFIX not in bed.frr.learned(4), 5, "FRR has dropped the route")
        assert bed.kept(bed.bird) == [True], "BIRD, which agreed, keeps it"
    finally:
        bed.apply(bed.peer("frr", 64512, FRR))


def test_traffic_is_shed_before_a_planned_stop(bed: Bed) -> None:
    stop(bed)
    session = bed.established()
    bed.start("--bgp-graceful-shutdown", "3s")
    bed.wait_fresh(session)
    bed.speaker.signal(signal.SIGTERM)

    def shed() -> bool:
        outside = bed.frr.learned(4).get(PREFIX, [])
        inside = bed.bird.learned(4).get(PREFIX, [])
        return [path.local_pref for path in inside] == [0] and all(
            SHUTDOWN in path.communities for path in (*inside, *outside)
        )

    wait_until(shed, 3, "both routers have the route as their last choice", interval=0.05)
    assert bed.speaker.alive
    assert bed.speaker.wait(20) == 0
    bed.node.speaker = None
    # A Hard Reset (RFC 8538 §3): nobody keeps what was meant to go, graceful restart or not.
    bed.wait_both(lambda router: PREFIX not in router.learned(4), "no route")


def test_a_cordoned_node_sheds_its_traffic_until_it_is_uncordoned(bed: Bed) -> None:
    stop(bed)
    session = bed.established()
    bed.start("--bgp-graceful-shutdown", "1s")
    bed.wait_fresh(session)
    session = bed.established()

    def seen(wanted: bool) -> bool:
        paths = bed.frr.learned(4).get(PREFIX, [])
        return [SHUTDOWN in path.communities for path in paths] == [wanted]

    for verb, wanted in (("cordon", True), ("uncordon", False)):
        bed.api.kubectl(verb, "node-a")
        wait_until(partial(seen, wanted), 10, f"the router sees {verb}")
    assert bed.established() == session


def test_routers_share_traffic_by_the_endpoints_of_each_node(bed: Bed) -> None:
    weighted = metallb("BGPAdvertisement", "base")
    weighted["metadata"]["annotations"] = {LINK_BANDWIDTH: "endpoints"}
    second = bed.nodes["node-b"]
    second.start_speaker(bed.api.kubeconfig)
    pods = {f"10.244.0.{n}": "node-a" for n in range(1, 4)} | {"10.244.1.1": "node-b"}
    bed.apply(weighted, local("spread", SPREAD), endpoints("spread", pods))

    def shares() -> dict[str, int]:
        found = bed.frr.namespace.ip_json("route", "show", SPREAD)
        hops = found[0].get("nexthops", []) if found else []
        return {hop["gateway"]: hop["weight"] for hop in hops}

    def in_ratio(a: int, b: int) -> bool:
        found = shares()
        return set(found) == set(NODES.values()) and (
            found[NODES["node-a"]] * b == found[NODES["node-b"]] * a
        )

    try:
        wait_until(lambda: in_ratio(3, 1), 30, "the kernel's route has weights 3 to 1")
        before = bed.established()
        bed.apply(endpoints("spread", {**pods, "10.244.1.2": "node-b", "10.244.1.3": "node-b"}))
        wait_until(lambda: in_ratio(1, 1), 30, "the kernel's route has equal weights")
        assert bed.established() == before
    finally:
        bed.api.kubectl("delete", "service", "spread")
        bed.api.kubectl("delete", "endpointslice", "spread")
        bed.apply(metallb("BGPAdvertisement", "base"))
        second.stop_speaker()


def test_a_router_sees_the_local_asn_alone_and_communities_of_every_kind(bed: Bed) -> None:
    peer = bed.peer("frr", 64512, FRR)
    peer["spec"] |= {"myASN": 64999, "localASN": 64500}
    marks = ["64500:7", "large:64500:1:2", "extended:rt:64512:100", "extended:soo:192.0.2.11:7"]
    bed.apply(peer, metallb("BGPAdvertisement", "base", communities=marks))

    wanted = ["64500:7", "64500:1:2", "RT:64512:100", "SoO:192.0.2.11:7"]

    def there() -> bool:
        (path,) = bed.frr.query(f"show bgp ipv4 unicast {PREFIX} json")["paths"]
        kinds = ("community", "largeCommunity", "extendedCommunity")
        found = " ".join(path[kind]["string"] for kind in kinds).split()
        return path["aspath"]["string"] == "64500" and sorted(found) == sorted(wanted)

    try:
        wait_until(there, 30, "FRR has the route with its path and communities")
    finally:
        bed.apply(bed.peer("frr", 64512, FRR))
        bed.apply(metallb("BGPAdvertisement", "base", communities=[]))

    def plain() -> bool:
        return [path.communities for path in bed.frr.learned(4).get(PREFIX, [])] == [()]

    wait_until(plain, 30, "FRR has the route without communities")
