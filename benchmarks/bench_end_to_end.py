"""10,000 services in the embedded API, from the write of a Service to the router and the client.

`python benchmarks/bench_end_to_end.py [SERVICES]` as root. API, controller, one speaker, BIRD and a
client run in network namespaces of their own; BIRD and arping are the judges. The targets are those
of the design; a ratio below 1 is better than the target.
"""

import asyncio
import gc
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import find_config
from clarion.lab.netns import Lab, Namespace
from clarion.lab.nodes import ApiHost, Node
from clarion.lab.observe import ARP_LINE
from clarion.lab.routers import Bird, Neighbor, RouterConfig
from clarion.model.core import Service
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import IPAddressPool
from clarion.testing import builders
from clarion.testing.figures import (
    BirdControl,
    Table,
    addressed,
    child_of,
    cpu,
    inside,
    load,
    loaded,
    memory,
    now,
    plain_service,
    quiet,
    reached,
)

SYSTEM = "metallb-system"
TRIES = 200
THREE = ("node", "node", "node")
NODE_V4, NODE_V6, BIRD_V6 = "192.0.2.11", "2001:db8:1::b", "2001:db8:1::2"
BIG_POOL, SMALL_POOL = "2001:db8:5::/112", "192.0.2.128/25"


class Bed:
    """The lab: one switch with API, node, router and client."""

    def __init__(self, lab: Lab) -> None:
        switch = lab.switch("sw")
        hosts = {}
        for name, number in (("bird", 2), ("api", 10), ("node", 11), ("client", 100)):
            hosts[name] = lab.namespace(name)
            addresses = [f"192.0.2.{number}/24", f"2001:db8:1::{number:x}/64"]
            switch.attach(hosts[name], addresses=addresses)
        neighbor = Neighbor(address=NODE_V6, remote_as=64500, passive=True)
        config = RouterConfig(asn=64512, router_id="192.0.2.2", neighbors=(neighbor,))
        self.bird = Bird(hosts["bird"], config)
        self.bird.start()
        self.client: Namespace = hosts["client"]
        self.node = Node(hosts["node"], [], NODE_V4, NODE_V6)
        self.api = ApiHost(hosts["api"], "192.0.2.10")
        self.api.start_api()
        self.api.wait_api()
        self.control = BirdControl(self.bird.folder / "bird.ctl")

    @property
    def programs(self) -> dict[str, int]:
        """Process ids by program."""
        assert self.api.api is not None
        assert self.api.controller is not None
        assert self.node.speaker is not None
        speaker = self.node.speaker.pid
        return {
            "speaker": speaker,
            "pulse": child_of(speaker),
            "controller": self.api.controller.pid,
            "apiserver": self.api.api.pid,
        }


# --- objects ---


def configuration() -> Iterator[KubeObject]:
    """Two pools, one for each protocol, and the peer."""
    yield builders.pool("big", BIG_POOL)
    yield builders.pool("small", SMALL_POOL, auto=False)
    yield builders.bgp_advertisement("big", pools=["big"])
    yield builders.l2_advertisement("small", pools=["small"])
    yield builders.peer("bird", BIRD_V6, peer_asn=64512)


# --- figures of processes ---


def bytes_to_peers(node: Node) -> int:
    """Bytes that the speaker's BGP connections have sent."""
    text = node.namespace.run(["ss", "-tinH", "dport", "=", ":179"]).stdout
    return sum(map(int, re.findall(r"bytes_sent:(\d+)", text)))


def metric(node: Node, name: str) -> float:
    """A value of the speaker's metrics."""
    text = node.namespace.run(["curl", "-s", "http://127.0.0.1:7472/metrics"]).stdout
    found = re.search(rf"(?m)^{name} (\S+)", text)
    return float(found[1]) if found else 0.0


# --- what is measured ---


async def cold_start(bed: Bed, services: int, table: Table, what: str) -> None:
    """From the start of the speaker's process to the last route at the peer."""
    began = now()
    bed.node.start_speaker(bed.api.kubeconfig)
    ended = await reached(lambda: bed.control.routes() == services, f"{services} routes")
    table.row(f"{what}: start of the speaker -> {services} routes", ended - began, "s", 3.0)


async def route_latencies(bed: Bed, client: KubeClient) -> list[float]:
    """Seconds from the write of a Service to its route at the peer, one at a time."""
    found = []
    for number in range(TRIES):
        name, address = f"probe-{number}", f"2001:db8:5::{0xF000 + number:x}"
        await client.create(builders.endpoints(name, *THREE))
        wanted = plain_service(name, ips=address)
        began = now()
        await client.create(wanted)
        ended = await reached(lambda address=address: bed.control.has(f"{address}/128"), name)  # type: ignore[misc]
        found.append(ended - began)
    return found


class Asking:
    """arping for one address, as fast as it goes, until somebody answers."""

    def __init__(self, client: Namespace, address: str) -> None:
        argv = ["arping", "-W", "0.001", "-C", "1", "-I", "eth0", address]
        self.process = subprocess.Popen(
            client.enter(argv), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def started(self) -> bool:
        """Whether it runs as arping already."""
        return Path(f"/proc/{self.process.pid}/comm").read_text().strip() == "arping"

    def answered_at(self) -> float:
        """When the first answer was printed."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if ARP_LINE.search(line):
                at = now()
                self.process.wait(10)
                self.process.stdout.close()
                return at
        raise RuntimeError("arping ended without an answer")


async def answer_latencies(bed: Bed, client: KubeClient) -> list[float]:
    """Seconds from the write of a Service to the first ARP answer that a client got."""
    found = []
    for number in range(TRIES):
        name, address = f"answer-{number}", f"192.0.2.{128 + number % 120}"
        await client.create(builders.endpoints(name, *THREE))
        asking = Asking(bed.client, address)
        await reached(asking.started, "arping")
        wanted = builders.service(name, pool="small", ips=address, cluster_ips=())
        began = now()
        await client.create(wanted)
        found.append(await asyncio.to_thread(asking.answered_at) - began)
        await client.delete(Service, wanted.key)
    return found


async def irrelevant_change(bed: Bed, client: KubeClient, table: Table) -> None:
    """A pool that nothing uses: what it costs the speaker, and what the peer hears of it."""
    pid = bed.programs["speaker"]
    seen = metric(bed.node, "metallb_k8s_client_updates_total")
    await quiet(bed.programs["speaker"])
    before = cpu(pid), bytes_to_peers(bed.node), bed.control.updates()
    began = now()
    await client.create(builders.pool("unused", "203.0.113.0/24"))
    spent, rested, looked = cpu(pid), 0, now()
    while rested < 10:  # until nothing was spent for a tenth of a second
        await asyncio.sleep(0.01)
        used = cpu(pid)
        busy = used - spent > 0.001
        rested = 0 if busy else rested + 1
        looked = now() if busy else looked
        spent = used
    assert metric(bed.node, "metallb_k8s_client_updates_total") > seen
    cost = (spent - before[0]) * 1000
    table.row("unused pool created: until the speaker rests", (looked - began) * 1000, "ms", 100)
    table.row("unused pool created: processor time of the speaker", cost, "ms", 100)
    table.row("unused pool created: updates at the peer", bed.control.updates() - before[2], "")
    sent = bytes_to_peers(bed.node) - before[1]
    table.row("unused pool created: bytes to peers (19 a keepalive)", sent, "B")
    await client.delete(IPAddressPool, ObjectKey(SYSTEM, "unused"))


def show_memory(bed: Bed, table: Table, when: str) -> None:
    """RSS and PSS of each program."""
    aims = {"speaker": 150.0}
    for name, pid in bed.programs.items():
        rss, pss = memory(pid)
        table.row(f"memory {when}: {name}: RSS", rss, "MB", aims.get(name))
        table.row(f"memory {when}: {name}: PSS", pss, "MB")


async def measure(bed: Bed, services: int) -> None:
    """Everything, on one table."""
    table = Table()
    async with KubeClient(find_config(str(bed.api.kubeconfig), SystemClock())) as client:
        for obj in configuration():
            await client.create(obj)
        began = now()
        await load(client, loaded(services))
        wrote = now()
        table.row(f"{2 * services} objects written to the API", wrote - began, "s")
        bed.api.start_controller()
        await addressed(client, ObjectKey(SYSTEM, "big"), services)
        table.row(f"controller: {services} addresses given", now() - wrote, "s")
        started = now()
        await cold_start(bed, services, table, "first start")
        await quiet(bed.programs["speaker"])
        table.row("its status objects written", now() - started, "s")
        show_memory(bed, table, "after the first start")
        assert bed.node.stop_speaker() == 0
        await reached(lambda: bed.control.routes() == 0, "withdrawn")
        await cold_start(bed, services, table, "restart")
        await quiet(bed.programs["speaker"])
        await irrelevant_change(bed, client, table)
        routes = await route_latencies(bed, client)
        table.latencies("Service written -> route at BIRD", routes, 50)
        answers = await answer_latencies(bed, client)
        table.latencies("Service written -> ARP answered", answers, 50)
        await quiet(bed.programs["speaker"])
        show_memory(bed, table, "at the end")


def main() -> None:
    """Build, measure, remove."""
    if os.geteuid() != 0:
        print("needs root: network namespaces and raw sockets")
        return
    services = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    gc.disable()
    with Lab("bench-end") as lab:
        bed = Bed(lab)
        with inside(bed.api.namespace):
            asyncio.run(measure(bed, services))


if __name__ == "__main__":
    main()
