"""How soon a router knows, and how soon it has the routes again: cable pull, return, planned stop.

`python benchmarks/bgp/bench_failover.py [ROUNDS]` as root, 20 rounds unless told otherwise. The
embedded API, the controller and one speaker run as programs; FRR is the router. What the router
knows is what its kernel's routing table says (`ip monitor`); what the node knows, the time stamp in
the speaker's log. Rounds begin anywhere between two keepalives.
"""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from clarion.lab.netns import Lab, Namespace, Port
from clarion.lab.nodes import SYSTEM_NAMESPACE, ApiHost, Node
from clarion.lab.process import wait_until
from clarion.lab.routers import Frr, Neighbor, RouterConfig
from clarion.model.annotations import LOAD_BALANCER_IPS

ROUNDS = 20
NODE, NODE6, ROUTER, API = "192.0.2.11", "2001:db8:1::b", "192.0.2.1", "192.0.2.10"
SERVICE = "203.0.113.1"
PROFILE: dict[str, Any] = {"transmitInterval": 100, "receiveInterval": 100, "detectMultiplier": 3}
KEEPALIVE_SECONDS = 1.0


class Table:
    """The service's route in the kernel of a router, followed as it comes and goes."""

    def __init__(self, router: Namespace) -> None:
        self._changed = threading.Condition()
        self._last = (0.0, False)
        argv = router.enter(["ip", "monitor", "route"])
        self._monitor = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self._monitor.stdout is not None
        for line in self._monitor.stdout:
            if SERVICE in line:
                with self._changed:
                    self._last = (time.monotonic(), not line.startswith("Deleted"))
                    self._changed.notify_all()

    def wait(self, there: bool, since: float, timeout: float = 40.0) -> float:
        """Seconds from a moment until the route was there, or was not."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._last[1] is there and self._last[0] > since, timeout
            ):
                raise TimeoutError(f"{SERVICE} {'came' if there else 'went'} not in {timeout:g} s")
            return self._last[0] - since

    def close(self) -> None:
        """End the monitor."""
        self._monitor.terminate()
        self._monitor.wait()


class Bed:
    """API, node and router on one switch, with one service announced."""

    def __init__(self, lab: Lab) -> None:
        switch = lab.switch("sw")
        for name, number in (("router", 1), ("api", 10), ("node", 11)):
            host = lab.namespace(name, forwarding=name == "router")
            switch.attach(host, addresses=[f"192.0.2.{number}/24", f"2001:db8:1::{number:x}/64"])
        # The API is reached by a cable of its own: only what the router sees is pulled.
        self.port: Port = switch.port("node")
        second = lab.switch("sw2")
        second.attach(lab.namespaces["api"], "eth1", ["198.51.100.10/24"])
        second.attach(lab.namespaces["node"], "eth1", ["198.51.100.11/24"])
        self.api = ApiHost(lab.namespaces["api"], "198.51.100.10")
        self.node = Node(lab.namespaces["node"], [], NODE, NODE6)
        neighbor = Neighbor(
            address=NODE, remote_as=64500, passive=True, hold_time=3, keepalive=1, bfd=True
        )
        config = RouterConfig(asn=64512, router_id=ROUTER, neighbors=(neighbor,))
        self.router = Frr(lab.namespaces["router"], config)

    def up(self) -> None:
        """Start everything and announce the service."""
        self.api.start_api()
        self.router.start()
        self.api.wait_api()
        self.apply(thing("v1", "Namespace", SYSTEM_NAMESPACE, None))
        self.api.start_controller()
        self.node.start_speaker(self.api.kubeconfig)
        notes = {LOAD_BALANCER_IPS: SERVICE}
        service = {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]}
        pools = ["base"]
        self.apply(
            metallb("IPAddressPool", "base", addresses=["203.0.113.0/24"]),
            metallb("BGPAdvertisement", "base", ipAddressPools=pools),
            metallb("BFDProfile", "fast", **PROFILE),
            thing("v1", "Service", "web", "default", notes, spec=service),
            endpoints(),
        )

    def peer(self, profile: str) -> None:
        """The router, with BFD or without."""
        timers = {"holdTime": "3s", "keepaliveTime": "1s", "connectTime": "1s"}
        spec = {"myASN": 64500, "peerASN": 64512, "peerAddress": ROUTER, "bfdProfile": profile}
        self.apply(metallb("BGPPeer", "router", version="v1beta2", **spec, **timers))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Write objects into the API."""
        self.api.kubectl("apply", "-f", "-", stdin="\n".join(map(json.dumps, objects)))

    def wait_bfd(self) -> None:
        """Until BFD is up at the router with the profile's intervals."""

        def fast() -> bool:
            return any(
                each["peer"] == NODE
                and each["status"] == "up"
                and each["remote-transmit-interval"] == PROFILE["transmitInterval"]
                for each in self.router.bfd_peers()
            )

        wait_until(fast, 30, "BFD is up", seen=self.router.bfd_peers)


def thing(
    version: str,
    kind: str,
    name: str,
    namespace: str | None,
    annotations: dict[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An object as kubectl takes it."""
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    metadata = {key: value for key, value in metadata.items() if value}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def metallb(kind: str, name: str, version: str = "v1beta1", **spec: Any) -> dict[str, Any]:
    """An object of the configuration."""
    return thing(f"metallb.io/{version}", kind, name, SYSTEM_NAMESPACE, spec=spec)


def endpoints() -> dict[str, Any]:
    """One ready endpoint on the node."""
    labels = {"kubernetes.io/service-name": "web"}
    made = thing("discovery.k8s.io/v1", "EndpointSlice", "web", "default")
    made["metadata"]["labels"] = labels
    ready = {"addresses": [NODE], "nodeName": "node"}
    return {**made, "addressType": "IPv4", "endpoints": [ready], "ports": []}


def lost(bed: Bed, since: float) -> float:
    """Seconds from a moment (Unix time) until the speaker saw its session end."""
    assert bed.node.speaker is not None
    assert bed.node.speaker.log is not None
    log = bed.node.speaker.log

    def ended() -> float | None:
        for line in reversed(log.read_text().splitlines()):
            entry = json.loads(line)
            when = datetime.fromisoformat(entry["ts"]).timestamp()
            if when < since:
                return None
            if entry.get("before") == "Established":
                return when - since
        return None

    return wait_until(ended, 40, "the speaker sees its session end", interval=0.05)


Took = dict[str, float]
"""Seconds by what was awaited."""


def pull(bed: Bed, table: Table) -> Took:
    """Pull the node's cable; then all comes back."""
    time.sleep(random.random() * KEEPALIVE_SECONDS)
    start, moment = time.monotonic(), time.time()
    bed.port.unplug()
    took = {"route gone": table.wait(there=False, since=start), "node knows": lost(bed, moment)}
    start = time.monotonic()
    bed.port.plug()
    table.wait(there=True, since=start)
    return took


def pull_with_bfd(bed: Bed, table: Table) -> Took:
    """The same, once BFD watches."""
    bed.wait_bfd()
    return pull(bed, table)


def router_returns(bed: Bed, table: Table) -> Took:
    """Kill the router and start it again, without what its kernel still has."""
    start = time.monotonic()
    bed.router.kill()
    bed.router.namespace.ip("route", "del", SERVICE)
    table.wait(there=False, since=start)
    bed.router.start()
    answers = time.monotonic()
    return {"route back": max(0.0, start + table.wait(there=True, since=start) - answers)}


def planned_stop(bed: Bed, table: Table) -> Took:
    """SIGTERM to the speaker, and another one started."""
    start = time.monotonic()
    assert bed.node.speaker is not None
    bed.node.speaker.signal(signal.SIGTERM)
    took = table.wait(there=False, since=start)
    bed.node.stop_speaker()
    start = time.monotonic()
    bed.node.start_speaker(bed.api.kubeconfig)
    return {"route gone": took, "started again: route back": table.wait(there=True, since=start)}


def measure(what: str, rounds: int, once: Callable[[Bed, Table], Took], bed: Bed) -> None:
    """Print a row for each thing awaited: how often, median, 99th percentile and maximum."""
    table = Table(bed.router.namespace)
    try:
        took = [once(bed, table) for _ in range(rounds)]
    finally:
        table.close()
    for awaited in took[0]:
        ms = sorted(each[awaited] * 1000 for each in took)
        at = [ms[min(rounds - 1, int(rounds * part))] for part in (0.5, 0.99)]
        label = f"{what}: {awaited}"
        print(f"{label:58} {rounds:4d} {at[0]:9.0f} {at[1]:9.0f} {ms[-1]:9.0f}", flush=True)


def main(rounds: int) -> None:
    """All rows."""
    with Lab("bench-failover") as lab:
        bed = Bed(lab)
        bed.up()
        bed.peer("")
        bed.router.wait_routes(4, {f"{SERVICE}/32"}, timeout=30)
        print(f"{'milliseconds until':58} {'n':>4} {'p50':>9} {'p99':>9} {'max':>9}")
        measure("cable pulled, hold time 3 s", rounds, pull, bed)
        measure("router killed, answers again", rounds, router_returns, bed)
        measure("speaker asked to stop", rounds, planned_stop, bed)
        bed.peer("fast")
        measure("cable pulled, BFD 3 x 100 ms", rounds, pull_with_bfd, bed)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
