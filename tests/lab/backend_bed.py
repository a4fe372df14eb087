"""One lab for both back ends: what the resources offer is the same, whoever speaks BGP.

Two nodes obey the same objects of one API: `native` speaks BGP itself, `driven` drives an FRR
beside it. Three routers see both nodes alike, and judge: FRR (AS 64512, over IPv4 and IPv6, and
by a cable to each node), BIRD (AS 64500, as the nodes) and OpenBGPD (AS 64512).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from clarion.lab.frr import RUN
from clarion.lab.netns import Lab, cable
from clarion.lab.nodes import SYSTEM_NAMESPACE, ApiHost, Node
from clarion.lab.process import wait_until
from clarion.lab.routers import (
    Bird,
    Frr,
    Neighbor,
    Openbgpd,
    RoutePath,
    Router,
    RouterConfig,
)
from clarion.model.annotations import LOAD_BALANCER_IPS

from .programs_bed import metallb, service

T = TypeVar("T")

NATIVE, DRIVEN = "native", "driven"
BACK_ENDS = (NATIVE, DRIVEN)
NODES = {NATIVE: ("192.0.2.11", "2001:db8:1::b"), DRIVEN: ("192.0.2.12", "2001:db8:1::c")}
FRR, FRR6, BIRD, OPENBGPD = "192.0.2.1", "2001:db8:1::1", "192.0.2.2", "192.0.2.4"
API = "192.0.2.10"
NUMBERS = {"frr": 1, "bird": 2, "openbgpd": 4, "api": 10, NATIVE: 11, DRIVEN: 12}
NODES_ASN, FRR_ASN = 64500, 64512
V4, V6 = "203.0.113.1/32", "2001:db8:5::1/128"

PEERS: dict[str, dict[str, Any]] = {
    "frr": {"peerASN": FRR_ASN, "peerAddress": FRR},
    "frr6": {"peerASN": FRR_ASN, "peerAddress": FRR6},
    "bird": {"peerASN": NODES_ASN, "peerAddress": BIRD},
    "openbgpd": {"peerASN": FRR_ASN, "peerAddress": OPENBGPD},
}
TIMERS = {"holdTime": "9s", "keepaliveTime": "3s", "connectTime": "1s"}
ADVERTISED: dict[str, Any] = {
    "ipAddressPools": ["base"],
    "localPref": 150,
    "communities": ["64500:7", "large:64500:1:2", "no-export"],
}
MARKS = ({"64500:7", "65535:65281"}, {"64500:1:2"})


def endpoints(family: str, *nodes: str) -> dict[str, Any]:
    """The service's slice of a family: one ready endpoint for each time a node is named."""
    block = "192.0.2." if family == "IPv4" else "2001:db8:1::"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"web-{family.lower()}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "endpoints": [
            {"addresses": [f"{block}{number}"], "nodeName": node}
            for number, node in enumerate(nodes, start=100)
        ],
        "ports": [{"name": "http", "port": 8080}],
    }


def peer(name: str, **more: Any) -> dict[str, Any]:
    spec = {"myASN": NODES_ASN, **TIMERS, **PEERS[name], **more}
    return metallb("BGPPeer", name, "v1beta2", **spec)


def advertisement(**changed: Any) -> dict[str, Any]:
    """How the pool is announced."""
    return metallb("BGPAdvertisement", "base", **{**ADVERTISED, **changed})


class Bed:
    """Both nodes, the routers and the API."""

    def __init__(self, lab: Lab) -> None:
        switch = lab.switch("sw")
        for name, number in NUMBERS.items():
            host = lab.namespace(name, forwarding=name != "api")
            switch.attach(host, addresses=[f"192.0.2.{number}/24", f"2001:db8:1::{number:x}/64"])
        hosts = lab.namespaces
        for name in BACK_ENDS:
            cable(hosts["frr"], f"to-{name}", hosts[name], "direct")
        self.api = ApiHost(hosts["api"], API)
        self.nodes = {name: Node(hosts[name], [], *NODES[name]) for name in BACK_ENDS}
        self.frr = Frr(hosts["frr"], frr_config())
        self.bird = Bird(hosts["bird"], bird_config())
        self.openbgpd = Openbgpd(hosts["openbgpd"], openbgpd_config())
        # What the driven FRR is found with is somebody else's, and goes.
        stranger = Neighbor(address="192.0.2.99", remote_as=64999, bfd=True)
        config = RouterConfig(asn=64999, router_id=NODES[DRIVEN][0], neighbors=(stranger,))
        self.own = Frr(hosts[DRIVEN], config)

    @property
    def routers(self) -> dict[str, Router]:
        """The judges."""
        return {"frr": self.frr, "bird": self.bird, "openbgpd": self.openbgpd}

    def up(self) -> None:
        """Start everything, and give it the objects that all tests begin with."""
        self.api.start_api()
        for router in (*self.routers.values(), self.own):
            router.start()
        self.api.wait_api()
        name = {"name": SYSTEM_NAMESPACE}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": name})
        self.api.start_controller()
        for back_end in BACK_ENDS:
            self.start_speaker(back_end)
        self.apply(
            metallb("IPAddressPool", "base", addresses=["203.0.113.0/24", "2001:db8:5::/64"]),
            advertisement(),
            *map(peer, PEERS),
            service("web", notes={LOAD_BALANCER_IPS: "203.0.113.1,2001:db8:5::1"}),
            *(endpoints(family, NATIVE) for family in ("IPv4", "IPv6")),
        )

    def start_speaker(self, back_end: str) -> None:
        """Start the speaker of a node."""
        how = ["--bgp", "native"]
        if back_end == DRIVEN:
            how = ["--bgp", "frr", "--frr-vty-dir", str(RUN / self.own.pathspace)]
        how += ["--listen-http", "127.0.0.1:7472", "--bgp-graceful-shutdown", "1s"]
        self.nodes[back_end].start_speaker(self.api.kubeconfig, *how)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.api.kubectl("apply", "-f", "-", stdin="\n".join(map(json.dumps, objects)))

    def delete(self, kind: str, name: str) -> None:
        self.api.kubectl("delete", kind, name, "-n", SYSTEM_NAMESPACE, "--ignore-not-found")

    @contextmanager
    def applied(self, *objects: dict[str, Any]) -> Iterator[None]:
        """With these objects in force; afterwards all is again as at the beginning."""
        self.apply(*objects)
        try:
            yield
        finally:
            usual = [advertisement(), *map(peer, PEERS)]
            self.apply(*usual)
            known = {(each["kind"], each["metadata"]["name"]) for each in usual}
            for each in objects:
                what = each["kind"], each["metadata"]["name"]
                if what not in known:
                    self.delete(*what)

    # -- what is seen ----------------------------------------------------------------------------

    def wait(self, what: str, probe: Callable[[], T | None], seen: Any = None) -> T:
        """Wait for something that both nodes bring about."""

        def still() -> T | None:
            for node in self.nodes.values():
                node.check()
            return probe()

        return wait_until(still, 40, what, seen=seen)

    def paths(self, router: Router, prefix: str) -> dict[str, RoutePath]:
        """A route's paths by the address of the node's end of the session."""
        version = 6 if ":" in prefix else 4
        return {path.peer: path for path in router.learned(version).get(prefix, [])}

    def wait_paths(
        self, router: Router, prefix: str, *, of: set[str], like: dict[str, Any] | None = None
    ) -> None:
        """Until a route has a path from each of these addresses, none else, with these fields."""

        def there() -> bool:
            found = self.paths(router, prefix)
            return set(found) == of and all(
                (set(value) if isinstance(value := getattr(path, field), tuple) else value)
                == wanted
                for path in found.values()
                for field, wanted in (like or {}).items()
            )

        what = f"{router.name}: {prefix} from {sorted(of)} with {like}"
        self.wait(what, there, seen=lambda: (states(router), self.paths(router, prefix)))

    def connections(self, *but: str) -> dict[tuple[str, str], str]:
        """The connection of each session, by router and node's address, but for some routers'.

        Its ports are those that the kernel gave it: what is equal later was not interrupted.
        """
        found: dict[tuple[str, str], str] = {}
        for name, router in self.routers.items():
            if name in but:
                continue
            words = ["ss", "-Htn", "state", "established", "sport = 179 or dport = 179"]
            for line in router.namespace.run(words).stdout.splitlines():
                here, there = line.split()[2:4]
                found[name, there.rpartition(":")[0].strip("[]")] = f"{here} {there}"
        return found

    def metrics(self, back_end: str) -> str:
        """What a node's speaker says of itself."""
        url = "http://127.0.0.1:7472/metrics"
        return self.nodes[back_end].namespace.run(["curl", "-s", "--max-time", "5", url]).stdout

    def wait_metric(self, line: str) -> None:
        """Until both speakers have this line among their metrics."""
        for back_end in BACK_ENDS:
            self.wait(
                f"the metrics of {back_end} have {line}",
                lambda name=back_end: line in self.metrics(name).splitlines(),  # type: ignore[misc]
            )

    def wait_default(self) -> None:
        """All sessions are up, and all routers have what the shared objects give."""
        four, six = addresses(4), addresses(6)
        communities, large = MARKS
        like = {"communities": communities, "large_communities": large}
        for prefix in (V4, V6):
            sessions = six if prefix == V6 else four
            self.wait_paths(self.frr, prefix, of=sessions, like=like)
        self.wait_paths(self.bird, V4, of=four, like={**like, "local_pref": 150})
        self.wait_paths(self.openbgpd, V4, of=four, like=like)
        for router in self.routers.values():
            router.wait_routes(4, {V4})


def states(router: Router) -> dict[str, tuple[str, str]]:
    """State and last error of a router's neighbours."""
    return {name: (each.state, each.last_error) for name, each in router.neighbors().items()}


def addresses(version: int, *back_ends: str) -> set[str]:
    """The addresses of the nodes, or of those named."""
    return {NODES[name][version == 6] for name in back_ends or BACK_ENDS}


def frr_config() -> RouterConfig:
    """FRR as it judges: it waits for the nodes, and speaks BFD with who wants to."""
    options: dict[str, Any] = {"remote_as": NODES_ASN, "passive": True}
    return RouterConfig(
        asn=FRR_ASN,
        router_id=FRR,
        neighbors=(
            *(Neighbor(address=four, bfd=True, **options) for four, _ in NODES.values()),
            *(Neighbor(address=six, **options) for _, six in NODES.values()),
            *(Neighbor(interface=f"to-{name}", remote_as=NODES_ASN) for name in BACK_ENDS),
        ),
    )


def bird_config() -> RouterConfig:
    nodes = (
        Neighbor(address=four, remote_as=NODES_ASN, passive=True) for four, _ in NODES.values()
    )
    return RouterConfig(asn=NODES_ASN, router_id=BIRD, neighbors=tuple(nodes))


def openbgpd_config(password: str = "", nodes_asn: int = NODES_ASN) -> RouterConfig:
    nodes = (
        Neighbor(address=four, remote_as=nodes_asn, passive=True, password=password)
        for four, _ in NODES.values()
    )
    return RouterConfig(asn=FRR_ASN, router_id=OPENBGPD, neighbors=tuple(nodes))
