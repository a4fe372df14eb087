"""The lab of the tests of the programs: one configuration, and what its judges say."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clarion.lab import observe
from clarion.lab.netns import Lab, Namespace, sweep
from clarion.lab.nodes import Node
from clarion.lab.observe import Prober
from clarion.lab.process import CLOCK, wait_until
from clarion.lab.routers import Router
from clarion.lab.topology import NODES, StandardLab

from .conftest import TEST_PREFIX

SYSTEM = "metallb-system"
ROUTERS = {
    "frr": (64512, "192.0.2.1"),
    "frr-v6": (64512, "2001:db8:1::1"),
    "bird": (64500, "192.0.2.2"),
}
ALL = set(NODES)


def metallb(kind: str, name: str, version: str = "v1beta1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"metallb.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": spec,
    }


def service(name: str, port: int = 80, notes: dict[str, str] | None = None, **spec: Any) -> Any:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": notes or {}},
        "spec": {
            "type": "LoadBalancer",
            "ipFamilyPolicy": "RequireDualStack",
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": port, "targetPort": 8080}],
            **spec,
        },
    }


class Bed:
    """The lab with the configuration that all tests share, and what they look at."""

    def __init__(self, lab: StandardLab) -> None:
        self.lab = lab
        self.kubectl = lab.api.kubectl

    def apply(self, *objects: dict[str, Any]) -> None:
        text = "\n".join(map(json.dumps, objects))
        self.kubectl("apply", "-f", "-", stdin=text)

    def patch(self, what: str, patch: dict[str, Any], namespace: str = SYSTEM) -> None:
        self.kubectl("patch", what, "-n", namespace, "--type=merge", "-p", json.dumps(patch))

    @contextmanager
    def applied(self, *objects: dict[str, Any]) -> Iterator[None]:
        self.apply(*objects)
        try:
            yield
            self.lab.check()
        finally:
            for obj in reversed(objects):
                name, where = obj["metadata"]["name"], obj["metadata"].get("namespace", "default")
                kind = obj["kind"]
                self.kubectl("delete", kind, name, "-n", where, "--ignore-not-found")

    def ingress(self, name: str) -> list[str]:
        found = self.lab.api.get("service", name, "-n", "default")
        return [each["ip"] for each in found["status"].get("loadBalancer", {}).get("ingress", [])]

    def vips(self, name: str) -> tuple[str, str]:
        """The service's addresses, IPv4 first, waited for."""

        def both() -> tuple[str, str] | None:
            found = sorted(self.ingress(name), key=lambda ip: ":" in ip)
            return (found[0], found[1]) if len(found) == 2 else None

        return wait_until(both, 20, f"{name} has two addresses")

    def wait_from(self, router: Router, address: str, nodes: set[str]) -> None:
        """Until a router has a service's route from exactly these nodes (none: not at all)."""
        version = 6 if ":" in address else 4
        prefix = f"{address}/{128 if version == 6 else 32}"

        def there() -> bool:
            paths = router.learned(version).get(prefix, [])
            return {self.lab.node_of_next_hop(path.next_hop) for path in paths} == nodes

        wait_until(there, 25, f"{router.name}: {prefix} from {sorted(nodes)}")

    def owner(self, address: str, *others: str) -> str:
        """The one node that answers for an address; waits until it is none of `others`."""

        def single() -> str | None:
            found = self.lab.owners(address)
            return found[0] if len(found) == 1 and found[0] not in others else None

        return wait_until(single, 20, f"one node answers for {address}, not {others}")

    def wait_owner(self, address: str, node: str) -> None:
        wait_until(lambda: self.lab.owners(address) == [node], 20, f"{node} has {address}")

    def wait_ready(self, node: Node) -> None:
        """Until a speaker that was restarted has read everything and its Lease is there."""
        wait_until(lambda: self.probe(node, "readyz") == "ok", 20, f"{node.name} is ready")
        wait_until(lambda: node.name in self.leases(), 20, f"{node.name} has a Lease")
        self.lab.frr.wait_established(node.ipv4)

    def leases(self) -> set[str]:
        """The nodes whose speakers hold a Lease; the controller's is another matter."""
        found = self.lab.api.items("leases", "-n", SYSTEM)
        return {each["spec"]["holderIdentity"] for each in found} & ALL

    def probe(self, node: Node, path: str, port: int = 7472) -> str:
        url = f"http://127.0.0.1:{port}/{path}"
        done = node.namespace.run(["curl", "-s", "--max-time", "5", url], check=False)
        return done.stdout.strip()

    def sessions(self) -> dict[str, tuple[int, int]]:
        """FRR's counts of each node's session: times established, UPDATEs received."""
        found = self.lab.frr.query("show bgp neighbors json")
        return {
            address: (
                each["connectionsEstablished"],
                each["messageStats"]["updatesRecv"],
            )
            for address, each in found.items()
            if isinstance(each, dict) and self.lab.node_of_next_hop(address) in ALL
        }

    def events(self, name: str) -> set[tuple[str, str]]:
        found = self.lab.api.items("events", "-n", "default")
        return {
            (each["reason"], each["message"])
            for each in found
            if each["involvedObject"]["name"] == name
        }


@contextmanager
def running(name: str) -> Iterator[Bed]:
    """A lab with three peers, a pool announced by layer 2 and BGP, and the service `keep`."""
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}{name}") as lab:
        standard = StandardLab(lab)
        standard.up()
        made = Bed(standard)
        made.apply(
            *(
                metallb("BGPPeer", name, "v1beta2", myASN=64500, peerASN=asn, peerAddress=address)
                for name, (asn, address) in ROUTERS.items()
            ),
            metallb("IPAddressPool", "base", addresses=["192.0.2.224/28", "2001:db8:1::100/124"]),
            metallb("L2Advertisement", "base", ipAddressPools=["base"]),
            metallb("BGPAdvertisement", "base", ipAddressPools=["base"]),
            service("keep"),
        )
        for router in (standard.frr, standard.bird):
            made.wait_from(router, made.vips("keep")[0], ALL)
        made.wait_from(standard.frr, made.vips("keep")[1], ALL)
        yield made


class Silence:
    """Asks for an address 50 times a second while something happens, and says what was heard."""

    def __init__(self, client: Namespace, address: str) -> None:
        self.prober = Prober(client, address)
        self.started = CLOCK.monotonic()

    def heard(self) -> list[str]:
        """Who answered, in the order of the first answers."""
        return list(dict.fromkeys(answer.mac for answer in self.prober.answers))

    def answers_after(self, moment: float, count: int = 10) -> None:
        def enough() -> bool:
            return sum(answer.at > moment for answer in list(self.prober.answers)) >= count

        wait_until(enough, 20, "answers go on", interval=0.02)

    def longest(self) -> float:
        return self.prober.longest_silence(self.started)


@contextmanager
def asked(bed: Bed, address: str) -> Iterator[Silence]:
    silence = Silence(bed.lab.client, address)
    try:
        silence.answers_after(silence.started)
        yield silence
        silence.answers_after(CLOCK.monotonic())
    finally:
        silence.prober.stop()


def report(what: str, silence: Silence) -> None:
    sys.stderr.write(
        f"\n  {what}: {len(silence.prober.answers)} answers, longest gap between two "
        f"{silence.longest() * 1000:.0f} ms (asked every {observe.PROBE_SECONDS * 1000:.0f} ms)\n"
    )
