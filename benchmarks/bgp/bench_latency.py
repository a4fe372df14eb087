"""One more Service, until its UPDATE is at the peer: at 10 and at 10,000 Services.

    python benchmarks/bgp/bench_latency.py [SERVICES...]

As root. The embedded API, the controller and a speaker run in network namespaces; the peer counts
in this process, and its clock is that of the one who writes. The target is that of the design.
"""

import asyncio
import gc
import os
import sys

from clarion.base.addr import Prefix, parse_prefix
from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import find_config
from clarion.lab.netns import Lab
from clarion.lab.nodes import ApiHost, Node
from clarion.model.meta import ObjectKey
from clarion.proto.bgp.update import decode_update
from clarion.testing import builders
from clarion.testing.bgpsink import Sink
from clarion.testing.figures import (
    Table,
    addressed,
    inside,
    load,
    loaded,
    now,
    plain_service,
    quiet,
    reached,
)

TRIES = 300
P99_MS = 50.0
OUR_ASN, THEIR_ASN = 64500, 64512
PEER = "2001:db8:1::2"
POOL = ObjectKey("metallb-system", "big")


class Peer:
    """The receiver: when it heard first of each prefix."""

    def __init__(self) -> None:
        self.heard: dict[Prefix, float] = {}
        self.sink = Sink(THEIR_ASN, self._on_update)

    def _on_update(self, when: float, body: bytes) -> None:
        update = decode_update(body, four_octet_asn=True, internal=False)
        for prefix in update.announced:
            self.heard.setdefault(prefix, when)


async def one_more(peer: Peer, client: KubeClient) -> tuple[list[float], list[float]]:
    """Seconds until the UPDATE, from the beginning of the write and from the API's answer."""
    written, answered = [], []
    for number in range(TRIES):
        name, address = f"probe-{number}", f"2001:db8:5::{0xF000 + number:x}"
        prefix = parse_prefix(f"{address}/128")
        await client.create(builders.endpoints(name, "node"))
        began = now()
        await client.create(plain_service(name, ips=address))
        acknowledged = now()
        await reached(lambda prefix=prefix: prefix in peer.heard, name)  # type: ignore[misc]
        written.append(peer.heard[prefix] - began)
        answered.append(peer.heard[prefix] - acknowledged)
    return written, answered


async def measure(api: ApiHost, node: Node, peer: Peer, services: int, table: Table) -> None:
    """Load, start, wait until all rest, and add one at a time."""
    async with KubeClient(find_config(str(api.kubeconfig), SystemClock())) as client:
        for obj in (
            builders.pool(POOL.name, "2001:db8:5::/112"),
            builders.bgp_advertisement("big", pools=[POOL.name]),
            builders.peer("sink", PEER, peer_asn=THEIR_ASN),
        ):
            await client.create(obj)
        await load(client, loaded(services))
        api.start_controller()
        await addressed(client, POOL, services)
        node.start_speaker(api.kubeconfig)
        await reached(lambda: len(peer.heard) == services, f"{services} routes at the peer")
        for process in (node.speaker, api.controller, api.api):
            assert process is not None
            await quiet(process.pid)
        written, answered = await one_more(peer, client)
        what = f"{services:,} services, one more:"
        table.latencies(f"{what} write to UPDATE", written, P99_MS)
        table.latencies(f"{what} API's answer to UPDATE", answered, None)


async def run(lab: Lab, services: int, table: Table) -> None:
    """One lab, from nothing."""
    switch = lab.switch("sw")
    hosts = {}
    for name, number in (("far", 2), ("api", 10), ("node", 11)):
        hosts[name] = lab.namespace(name)
        addresses = [f"192.0.2.{number}/24", f"2001:db8:1::{number:x}/64"]
        switch.attach(hosts[name], addresses=addresses)
    api = ApiHost(hosts["api"], "192.0.2.10")
    api.start_api()
    api.wait_api()
    peer = Peer()
    await peer.sink.listen(hosts["far"], [PEER])
    with inside(hosts["api"]):
        node = Node(hosts["node"], [], "192.0.2.11", "2001:db8:1::b")
        await measure(api, node, peer, services, table)
    peer.sink.close()


def main() -> None:
    """Build, measure, remove; once for each number of services."""
    if os.geteuid() != 0:
        print("needs root: network namespaces and raw sockets")
        return
    gc.disable()
    table = Table()
    for services in map(int, sys.argv[1:] or ("10", "10000")):
        with Lab(f"bench-latency-{os.getpid()}") as lab:
            asyncio.run(run(lab, services, table))


if __name__ == "__main__":
    main()
