"""The controller at 10,000 Services on a real API server: answers to reviews, and a restart.

Reviews go over one TLS connection, as from an API server, while services change all the time. The
restart tells when the last address is re-asserted and the first new one given.
"""

import asyncio
import base64
import json
import os
import signal
import ssl
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from clarion.daemons.webhooks import validation_path
from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient, Selection
from clarion.edge.kubeconfig import find_config
from clarion.lab.process import Process
from clarion.model.codec import to_builtins
from clarion.model.core import Namespace, Node, Secret, Service
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import BGPPeer, IPAddressPool
from clarion.testing import builders
from clarion.testing.apiprocess import free_port
from clarion.testing.engine import Engine

SERVICES, NODES, POOLS, PEERS, REVIEWS = 10_000, 500, 50, 50, 2_000
CHANGES_PER_SECOND = 100
AT_ONCE = 16
SYSTEM = "metallb-system"
POOL = "2001:db8:100::/112"


def service(name: str) -> dict[str, Any]:
    """IPv6 and without node ports, of which a cluster has fewer than services."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "LoadBalancer",
            "ipFamilies": ["IPv6"],
            "allocateLoadBalancerNodePorts": False,
            "ports": [{"port": 80}],
            "selector": {"app": name},
        },
    }


async def in_parallel(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all, some at once."""
    queue = iter(works)

    async def worker() -> None:
        for work in queue:
            await work()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


class Bench:
    """An engine, a client, and a controller under measurement."""

    def __init__(self, engine: Engine, client: KubeClient, directory: Path) -> None:
        self.engine, self.client, self.directory = engine, client, directory
        self.http, self.port = free_port(), free_port()

    def start(self) -> Process:
        """One controller."""
        return Process(
            [
                *(sys.executable, "-m", "clarion.cli.main", "controller"),
                *("--kubeconfig", str(self.engine.kubeconfig), "--namespace", SYSTEM),
                *("--listen-http", f"127.0.0.1:{self.http}"),
                *("--webhook-listen", f"127.0.0.1:{self.port}"),
            ],
            log=self.directory / "controller.log",
        )

    async def post(self, path: str, plain: dict[str, Any]) -> None:
        """Create an object."""
        body = json.dumps(plain).encode()
        await self.client.request("POST", path, {}, body)

    async def fill(self) -> None:
        """All objects."""
        everything: list[KubeObject] = [
            Namespace(metadata=ObjectMeta(name=SYSTEM)),
            *(Node(metadata=ObjectMeta(name=f"node-{n}")) for n in range(NODES)),
        ]
        for obj in everything:
            await self.client.create(obj)
        config: list[KubeObject] = [
            builders.pool("services", POOL),
            *(builders.pool(f"pool-{n}", f"2001:db8:200:{n:x}::/112") for n in range(POOLS)),
            *(builders.peer(f"peer-{n}", f"192.0.2.{n}") for n in range(PEERS)),
        ]
        for obj in config:
            await self.client.create(obj)
        where = "/api/v1/namespaces/default/services"
        names = [f"service-{n:05}" for n in range(SERVICES)]
        await in_parallel(partial(self.post, where, service(name)) for name in names)

    async def with_address(self) -> int:
        """Services that have an address."""
        items = await self.client.list_all(Service, Selection(namespace="default"))
        return sum(bool(item.status.load_balancer.ingress) for item in items)

    async def until_given(self, wanted: int) -> None:
        """Wait until so many services have an address."""
        while await self.with_address() < wanted:  # noqa: ASYNC110 - looks at the server
            await asyncio.sleep(1.0)

    async def change_services(self) -> None:
        """Somebody labels services all the time."""
        number = 0
        while True:
            number += 1
            key = ObjectKey("default", f"service-{number % SERVICES:05}")
            patch = {"metadata": {"labels": {"turn": str(number)}}}
            await self.client.patch(Service, key, patch)
            await asyncio.sleep(1 / CHANGES_PER_SECOND)

    async def reviews(
        self, name: str, of: type[KubeObject], objects: list[KubeObject], process: Process
    ) -> None:
        """Ask one after the other; print how long the answers took, and what they cost."""
        secret = await self.client.get(Secret, ObjectKey(SYSTEM, "metallb-webhook-cert"))
        authority = base64.b64decode(secret.data["ca.crt"]).decode()
        trust = ssl.create_default_context(cadata=authority)
        url = f"https://127.0.0.1:{self.port}{validation_path(of)}"
        took, allowed, spent = [], 0, cpu_seconds(process)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
            for number in range(REVIEWS):
                body = json.dumps(review(objects[number % len(objects)])).encode()
                began = time.perf_counter()
                async with session.post(url, data=body) as answer:
                    reply = await answer.json()
                took.append(time.perf_counter() - began)
                allowed += reply["response"]["allowed"]
        cpu = (cpu_seconds(process) - spent) / REVIEWS * 1e3
        took.sort()
        p50, p99 = took[REVIEWS // 2] * 1e3, took[REVIEWS * 99 // 100] * 1e3
        print(f"{name:34} {allowed:6} {p50:8.1f} {p99:8.1f} {took[-1] * 1e3:8.1f} {cpu:8.1f}")


def review(obj: KubeObject) -> dict[str, Any]:
    """A question as the API server puts it; a dry run, so that nothing is remembered."""
    request = {
        "uid": "review",
        "kind": {"kind": obj.kind},
        "name": obj.name,
        "namespace": obj.namespace,
        "operation": "CREATE",
        "object": to_builtins(obj),
        "dryRun": True,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def ready(http: int) -> bool:
    """Whether a controller says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz", timeout=5):
            return True
    except OSError:
        return False


async def until(probe: Callable[[], bool], process: Process) -> None:
    """Wait for something while a process lives."""
    while not await asyncio.to_thread(probe):
        process.require("the controller")
        await asyncio.sleep(0.05)


def cpu_seconds(process: Process) -> float:
    """What a process used of processors so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process: Process) -> float:
    """What a process holds of memory now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def measure(bench: Bench) -> None:
    """Fill, ask, restart, and print."""
    began = time.perf_counter()
    await bench.fill()
    print(f"{SERVICES} services written by us in {time.perf_counter() - began:.0f} s")
    process = bench.start()
    began = time.perf_counter()
    await bench.until_given(SERVICES)
    spent = time.perf_counter() - began
    print(f"first start: all given after {spent:.0f} s, {SERVICES / spent:.0f} writes/s")
    print(f"memory {memory_mb(process):.0f} MB\n")
    print(f"{REVIEWS} reviews each  (milliseconds; CPU: all that the controller did, by review)")
    print(f"{'':34} {'allowed':>6} {'p50':>8} {'p99':>8} {'worst':>8} {'CPU':>8}")
    pools: list[KubeObject] = [
        builders.pool(f"new-{n}", f"2001:db8:300:{n:x}::/112") for n in range(100)
    ]
    await bench.reviews("pool, nothing else happens", IPAddressPool, pools, process)
    changes = asyncio.create_task(bench.change_services())
    print(f"while {CHANGES_PER_SECOND} services/s change:")
    await bench.reviews("pool, good", IPAddressPool, pools, process)
    peers: list[KubeObject] = [builders.peer(f"new-{n}", f"198.51.100.{n}") for n in range(100)]
    await bench.reviews("peer, good", BGPPeer, peers, process)
    bad: list[KubeObject] = [builders.pool("bad", "hello", "2001:db8:200::/112")]
    await bench.reviews("pool, refused (asks the API again)", IPAddressPool, bad, process)
    changes.cancel()
    await asyncio.wait([changes])
    await restart(bench, process)


async def restart(bench: Bench, process: Process) -> None:
    """Stop the controller, start another one, and compare."""
    process.signal(signal.SIGTERM)
    process.wait()
    before = {
        item.key: item.status
        for item in await bench.client.list_all(Service, Selection(namespace="default"))
    }
    await bench.post("/api/v1/namespaces/default/services", service("a-new-one"))
    began = time.perf_counter()
    process = bench.start()
    await until(lambda: ready(bench.http), process)
    print(f"\nrestart: ready after {time.perf_counter() - began:.1f} s", end="")
    new = ObjectKey("default", "a-new-one")
    while not (await bench.client.get(Service, new)).status.load_balancer.ingress:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    print(f", the first new address given after {time.perf_counter() - began:.1f} s", end="")
    after = await bench.client.list_all(Service, Selection(namespace="default"))
    same = sum(before.get(item.key) == item.status for item in after)
    print(f", {same} of {SERVICES} statuses as before")
    process.stop()


async def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as folder, Engine(Path(folder), controllers=()) as engine:
        engine.install()
        async with KubeClient(find_config(str(engine.kubeconfig), SystemClock())) as client:
            await measure(Bench(engine, client, Path(folder)))


if __name__ == "__main__":
    asyncio.run(main())
