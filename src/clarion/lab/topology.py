"""The standard lab: three nodes, two kinds of router, a second router behind the first, a client.

```
 upstream (FRR, AS 64520)
    | 198.51.100.0/25            eth0: 192.0.2.0/24, 2001:db8:1::/64
 frr (FRR, AS 64512) ---- switch ---- bird (BIRD, AS 64500: iBGP with the nodes)
                          | | | | |
                     node-a b c | client        eth1: a second switch with node-a, node-b and
                                api             client2, 198.51.100.128/25, 2001:db8:3::/64
```
The speakers are AS 64500. The routers wait for them (passive), with keepalives every 3 s and BFD
for whoever asks for it. A cordoned node sheds its traffic.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from clarion.lab import observe
from clarion.lab.endpoints import Pod
from clarion.lab.netns import Lab, Namespace, Switch, cable
from clarion.lab.nodes import BACKEND_PORT, SYSTEM_NAMESPACE, ApiHost, Node, raise_if_ended
from clarion.lab.process import LabError, run, wait_until
from clarion.lab.routers import Bird, Frr, Neighbor, Router, RouterConfig
from clarion.model.annotations import IP_ALLOCATED_FROM_POOL

NODES_ASN, FRR_ASN, UPSTREAM_ASN = 64500, 64512, 64520
NUMBERS = {
    "frr": 1,
    "bird": 2,
    "api": 10,
    "node-a": 11,
    "node-b": 12,
    "node-c": 13,
    "client": 100,
}
NODES = ("node-a", "node-b", "node-c")
# So short that a stop is no slower for it: who is interested looks at a cordoned node.
SPEAKER_FLAGS = ("--bgp-graceful-shutdown", "100ms")
SECOND_NUMBERS = {"node-a": 139, "node-b": 140, "client2": 200}
TOOLS = (
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("sysctl", "procps"),
    ("unshare", "util-linux"),
    ("vtysh", "frr"),
    ("birdc", "bird2"),
    ("arping", "arping"),
    ("ndisc6", "ndisc6"),
    ("curl", "curl"),
    ("kubectl", "kubernetes-client"),
)


class Address(NamedTuple):
    """Both addresses of a host on the segment."""

    ipv4: str
    ipv6: str


def segment_address(host: str) -> Address:
    """Where a host is on the segment."""
    number = NUMBERS[host]
    return Address(f"192.0.2.{number}", f"2001:db8:1::{number:x}")


class State(msgspec.Struct, frozen=True):
    """What another process needs to look at a running lab."""

    kubeconfig: str
    hosts: dict[str, str]
    pids: dict[str, int]


def require_tools() -> None:
    """Raise with what the lab misses: Debian packages, or the right to make namespaces."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted(package for tool, package in TOOLS if shutil.which(tool, path=path) is None)
    if missing:
        raise LabError(
            "the lab misses tools", remedy=f"as root: apt-get install {' '.join(missing)}"
        )
    probe = run(["unshare", "-nm", "true"], check=False)
    if probe.returncode != 0:
        raise LabError(
            f"no network namespace can be made here: {probe.stderr.strip()}",
            remedy="a container needs the capability SYS_ADMIN for this",
        )


class StandardLab:
    """The topology above, with Clarion on it. `up()` makes everything; `lab.close()` removes it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.switch: Switch
        self.second: Switch
        self.api: ApiHost
        self.nodes: dict[str, Node] = {}
        self.client: Namespace
        self.second_client: Namespace
        self.upstream_host: Namespace
        self.frr: Frr
        self.bird: Bird
        self.upstream: Frr

    def up(self) -> None:
        """Make network, routers and programs, and wait until all of them answer."""
        require_tools()
        self.build_network()
        self.api.start_api()
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(self.start_routers)
            self.start_cluster()
            starting.result()
        self.write_state()

    def build_network(self) -> None:
        """Hosts, cables and addresses."""
        lab = self.lab
        self.switch, self.second = lab.switch("sw"), lab.switch("sw2")
        for name in NUMBERS:
            host = lab.namespace(name, forwarding=name in (*NODES, "frr", "bird"))
            address = segment_address(name)
            self.switch.attach(host, addresses=[f"{address.ipv4}/24", f"{address.ipv6}/64"])
        # A client of its own per segment: ndisc6 hears advertisements of every interface it has.
        lab.namespace("client2")
        for name, number in SECOND_NUMBERS.items():
            beside = [f"198.51.100.{number}/25", f"2001:db8:3::{number:x}/64"]
            self.second.attach(lab.namespaces[name], "eth1", beside)
        self.upstream_host = lab.namespace("upstream", forwarding=True)
        self._connect_upstream(lab.namespaces["frr"])
        gateway = segment_address("frr")
        for name in (*NODES, "api", "client"):
            lab.namespaces[name].add_route("default", via=gateway.ipv4)
            lab.namespaces[name].add_route("default", via=gateway.ipv6)
        self._name_parts()

    def attach(self) -> None:
        """Name the parts of a lab that another process brought up."""
        hosts = self.lab.namespaces
        self.switch, self.second = Switch(hosts["sw"]), Switch(hosts["sw2"])
        for name in NUMBERS:
            self.switch.known(hosts[name])
        for name in SECOND_NUMBERS:
            self.second.known(hosts[name], "eth1")
        self.upstream_host = hosts["upstream"]
        self._name_parts()

    def _name_parts(self) -> None:
        """Routers, nodes, API host and client, over namespaces and ports that exist."""
        hosts = self.lab.namespaces
        self.api = ApiHost(hosts["api"], segment_address("api").ipv4)
        self.client, self.second_client = hosts["client"], hosts["client2"]
        self.frr = Frr(hosts["frr"], frr_config())
        self.bird = Bird(hosts["bird"], bird_config())
        self.upstream = Frr(self.upstream_host, upstream_config())
        for name in NODES:
            ports = [
                switch.ports[name, interface]
                for switch, interface in ((self.switch, "eth0"), (self.second, "eth1"))
                if (name, interface) in switch.ports
            ]
            self.nodes[name] = Node(hosts[name], ports, *segment_address(name))

    def _connect_upstream(self, frr: Namespace) -> None:
        """The link between the first router and the one behind it."""
        cable(frr, "up0", self.upstream_host, "eth0")
        for host, interface, number in ((frr, "up0", 1), (self.upstream_host, "eth0", 2)):
            host.add_address(interface, f"198.51.100.{number}/25")
            host.add_address(interface, f"2001:db8:2::{number}/64")
        # Whoever is asked from here answers through the first router: the segment is known there.
        self.upstream_host.add_route("192.0.2.0/24", via="198.51.100.1")
        self.upstream_host.add_route("2001:db8:1::/64", via="2001:db8:2::1")

    def start_routers(self) -> None:
        """Start FRR, BIRD and the second FRR; wait until the two FRRs know each other."""
        for router in self.routers().values():
            router.start()
        self.upstream.wait_established()

    def start_cluster(self) -> None:
        """Wait for the API, then start controller, speakers, pods and the cluster's stand-ins."""
        for node in self.nodes.values():
            node.start_backend()
        self.api.wait_api()
        self._ensure_namespace(SYSTEM_NAMESPACE)
        self.api.start_controller()
        for node in self.nodes.values():
            self.start_speaker(node.name)
        self._start_stand_ins()
        wait_until(self._nodes_registered, 30, "all three nodes are registered and Ready")

    def _ensure_namespace(self, name: str) -> None:
        manifest = f'{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}'
        self.api.kubectl("apply", "-f", "-", stdin=manifest)

    def _start_stand_ins(self) -> None:
        """kube-proxy's and the endpoint controller's work; they reach the API from its host."""
        kubeconfig = ["--kubeconfig", str(self.api.kubeconfig)]
        module = [sys.executable, "-m"]
        nodes = [f"{node.name}={node.namespace.full_name}" for node in self.nodes.values()]
        host, environment = self.api.namespace, self.api.environment()
        argv = [*module, "clarion.lab.kubeproxy", *kubeconfig, *nodes]
        host.popen(argv, log="kubeproxy.log", env=environment)
        argv = [*module, "clarion.lab.endpoints", *kubeconfig, *map(str, self.pods())]
        host.popen(argv, log="endpoints.log", env=environment)

    def pods(self) -> list[Pod]:
        """One pod per node."""
        return [
            Pod(f"web-{node.name}", node.name, node.ipv4, node.ipv6, BACKEND_PORT)
            for node in self.nodes.values()
        ]

    def _nodes_registered(self) -> bool:
        self.check()
        ready = {
            each["metadata"]["name"]
            for each in self.api.items("nodes")
            for condition in each.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        }
        return ready >= set(self.nodes)

    def check(self) -> None:
        """Raise when a program of Clarion has ended on its own."""
        raise_if_ended(self.api.api, "apiserver")
        raise_if_ended(self.api.controller, "controller")
        for node in self.nodes.values():
            if node.speaker is not None:
                node.check()

    def routers(self) -> dict[str, Router]:
        """The routers by name."""
        return {"frr": self.frr, "bird": self.bird, "upstream": self.upstream}

    def node_of_next_hop(self, next_hop: str) -> str:
        """Name of the node that has an address; the address itself for anybody else."""
        for node in self.nodes.values():
            if next_hop in (node.ipv4, node.ipv6):
                return node.name
        return next_hop

    def addresses(self) -> dict[str, list[str]]:
        """Addresses of the services in namespace default, IPv4 first, by the service's name.

        Those of a pool that is gone are left out: they are about to be taken back.
        """
        items = self.api.items("services,ipaddresspools", "--all-namespaces")
        pools = {item["metadata"]["name"] for item in items if item["kind"] == "IPAddressPool"}
        found: dict[str, list[str]] = {}
        for item in items:
            meta = item["metadata"]
            given = meta.get("annotations", {}).get(IP_ALLOCATED_FROM_POOL) in pools
            if item["kind"] == "Service" and meta["namespace"] == "default" and given:
                ingress = item["status"].get("loadBalancer", {}).get("ingress", [])
                found[meta["name"]] = sorted((e["ip"] for e in ingress), key=lambda ip: ":" in ip)
        return found

    def owners(self, address: str, interface: str = "eth0") -> list[str]:
        """Names of the nodes that answer for an address on a segment: eth0's or eth1's."""
        client = self.client if interface == "eth0" else self.second_client
        macs = {
            node.namespace.mac(port.interface): node.name
            for node in self.nodes.values()
            for port in node.ports
            if port.interface == interface
        }
        found = observe.answering(client, address, interface)
        return [macs.get(mac, mac) for mac in found]

    def start_speaker(self, name: str) -> None:
        """Start the speaker of a node as this lab wants it."""
        self.nodes[name].start_speaker(self.api.kubeconfig, *SPEAKER_FLAGS)

    def power_off(self, name: str) -> None:
        """A node dies."""
        self.nodes[name].power_off()

    def power_on(self, name: str) -> None:
        """A dead node comes back."""
        self.nodes[name].power_on(self.api.kubeconfig, *SPEAKER_FLAGS)

    def write_state(self) -> None:
        """Leave word for `clarion lab exec|status|down`."""
        hosts = {name: host.full_name for name, host in self.lab.namespaces.items()}
        pids = dict(self._programs())
        state = State(str(self.api.kubeconfig), hosts, pids)
        (self.lab.run_dir / "state.json").write_bytes(msgspec.json.encode(state))

    def _programs(self) -> Iterator[tuple[str, int]]:
        for namespace in self.lab.namespaces.values():
            for process in namespace.processes:
                yield (process.log.stem if process.log else process.argv[0]), process.pid


def read_state(run_dir: Path) -> State:
    """What `up` left in a run folder."""
    try:
        return msgspec.json.decode((run_dir / "state.json").read_bytes(), type=State)
    except OSError as error:
        raise LabError(
            f"no lab runs as {run_dir.name!r}", remedy="start one with: clarion lab up"
        ) from error


def _node_neighbors(asn: int) -> Iterator[Neighbor]:
    for name in NODES:
        for address in segment_address(name):
            yield Neighbor(address=address, remote_as=asn, passive=True, bfd=True)


def frr_config() -> RouterConfig:
    """The first router: eBGP with the nodes and with the router behind it."""
    beyond: Sequence[Neighbor] = [
        Neighbor(address="198.51.100.2", remote_as=UPSTREAM_ASN, passive=True),
        Neighbor(address="2001:db8:2::2", remote_as=UPSTREAM_ASN, passive=True),
    ]
    return RouterConfig(
        asn=FRR_ASN,
        router_id=segment_address("frr").ipv4,
        neighbors=(*_node_neighbors(NODES_ASN), *beyond),
    )


def bird_config() -> RouterConfig:
    """The second kind of router: iBGP with the nodes, so it shows LOCAL_PREF."""
    return RouterConfig(
        asn=NODES_ASN,
        router_id=segment_address("bird").ipv4,
        neighbors=tuple(_node_neighbors(NODES_ASN)),
    )


def upstream_config() -> RouterConfig:
    """The router behind the first one: it sees only what that one passes on."""
    return RouterConfig(
        asn=UPSTREAM_ASN,
        router_id="198.51.100.2",
        neighbors=(
            Neighbor(address="198.51.100.1", remote_as=FRR_ASN),
            Neighbor(address="2001:db8:2::1", remote_as=FRR_ASN),
        ),
    )
