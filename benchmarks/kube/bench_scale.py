"""10,000 Services, 30,000 endpoints and 500 Nodes on a real kube-apiserver: one table.

`python benchmarks/kube/bench_scale.py [SERVICES] [NODES]` as root. etcd, kube-apiserver, the
controller and one speaker run in one network namespace, a router (BIRD) and a client in another.
The programs come with service accounts, so that the API server's fairness applies to them. Judges:
BIRD, ARP answers as the client gets them, and the API server's audit log. Targets: design §11.
"""

import asyncio
import functools
import gc
import http.client
import os
import re
import signal
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from clarion.base import limits
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import find_config
from clarion.edge.reflector import Informers
from clarion.edge.tasks import Supervisor
from clarion.lab.netns import Lab, Namespace, cable
from clarion.lab.nodes import clarion
from clarion.lab.process import Process
from clarion.lab.routers import Bird, Neighbor, RouterConfig
from clarion.model.core import EndpointSlice, Node, Service
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey
from clarion.testing import builders
from clarion.testing.engine import Engine, find_programs
from clarion.testing.figures import (
    BirdControl,
    Table,
    child_of,
    cpu,
    inside,
    load,
    memory,
    now,
    plain_service,
    quiet,
    reached,
)

SYSTEM = "metallb-system"
NODE = "node-000"
NODE_V4, NODE_V6, BIRD_V6 = "192.0.2.11", "2001:db8:2::b", "2001:db8:2::2"
BIG_POOL, SMALL_POOL, ARP_ADDRESS = "2001:db8:5::/112", "192.0.2.128/25", "192.0.2.129"
TRIES = 200
CHANGES_PER_SECOND, STEADY_SECONDS = 100, 30.0
STORM_ARP_PROBES, ARP_PROBES = 8000, 4000
HEALTH_EVERY_SECONDS = 0.01
ARP_SCRIPT = Path(__file__).parents[1] / "bench_arp.py"
Writes = Counter[tuple[str, str]]
Work = Callable[[], Awaitable[float]]


class Program:
    """The controller or the speaker, with what can be asked of it from outside.

    Args:
        bed: Where it runs.
        name: `controller` or `speaker`.
        flags: Its flags besides those that both have.
        port: Of its HTTP endpoints.
    """

    def __init__(self, bed: "Bed", name: str, port: int, *flags: str) -> None:
        self.name = name
        self.user = f"system:serviceaccount:{SYSTEM}:{name}"
        self._bed = bed
        self._port = port
        self._flags = flags
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it; when that was."""
        argv = clarion(self.name, "--kubeconfig", str(self._bed.kubeconfigs[self.name]))
        argv += ["--namespace", SYSTEM, "--listen-http", f"127.0.0.1:{self._port}", *self._flags]
        self._process = self._bed.node.popen(argv, log=f"{self.name}.log")
        return now()

    def stop(self) -> None:
        """End it as a Pod is ended."""
        assert self._process is not None
        assert self._process.stop(30) == 0

    def ready(self) -> bool:
        """Whether it says that it is."""
        try:
            return self._ask("/readyz") != ""
        except OSError:
            return False

    def metric(self, name: str) -> float:
        """A value of its metrics."""
        found = re.search(rf"(?m)^{re.escape(name)} (\S+)", self._ask("/metrics"))
        return float(found[1]) if found else 0.0

    def lag(self) -> float:
        """The worst lateness of its loop, in milliseconds, since it was asked last."""
        return 1000 * self.metric("clarion_loop_lag_seconds")

    def _ask(self, path: str) -> str:
        url = f"http://127.0.0.1:{self._port}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    @contextmanager
    def watched(self, table: Table, when: str) -> Iterator[None]:
        """Ask for its health all the time; afterwards show how long the answers took."""
        argv = [sys.executable, __file__, "health", str(self._port)]
        watcher = self._bed.node.popen(argv, log=f"{self.name}-health.log")
        yield
        worst = self.lag()
        watcher.stop()
        asked, p99, slowest = watcher.tail(1).split()
        what = f"{self.name} {when}: health answered"
        table.row(f"{what}: p99 of {asked}", float(p99), "ms")
        table.row(f"{what}: the slowest", float(slowest), "ms")
        table.row(f"{self.name} {when}: its loop's worst lateness", worst, "ms")


class Bed:
    """API server, programs, router and client."""

    def __init__(self, lab: Lab, engine: Engine, node: Namespace, peer: Namespace) -> None:
        self.engine, self.node, self.peer = engine, node, peer
        self.kubeconfigs: dict[str, Path] = {}
        neighbor = Neighbor(address=NODE_V6, remote_as=64500, passive=True)
        bird = Bird(peer, RouterConfig(asn=64512, router_id="192.0.2.2", neighbors=(neighbor,)))
        bird.start()
        self.bird = BirdControl(bird.folder / "bird.ctl")
        self.controller = Program(self, "controller", 7473)
        self.speaker = Program(self, "speaker", 7472, "--node-name", NODE)
        engine.install()
        engine.kubectl("create", "namespace", SYSTEM)
        for name in ("controller", "speaker"):
            account = f"--serviceaccount={SYSTEM}:{name}"
            engine.kubectl("create", "serviceaccount", name, "-n", SYSTEM)
            engine.kubectl(
                "create", "clusterrolebinding", name, "--clusterrole=cluster-admin", account
            )
            path = lab.run_dir / f"{name}.kubeconfig"
            self.kubeconfigs[name] = engine.service_account_kubeconfig(SYSTEM, name, path)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by program."""
        etcd, api = self.engine.pids
        return {
            "controller": self.controller.pid,
            "speaker": self.speaker.pid,
            "pulse": child_of(self.speaker.pid),
            "kube-apiserver": api,
            "etcd": etcd,
        }

    def asked(self, program: Program) -> Writes:
        """What a program has asked of the API server so far: verbs and resources."""
        return Counter(
            (one.verb, "/".join(filter(None, (one.resource, one.subresource))))
            for one in self.engine.requests(program.user)
        )


# --- objects ---


def service_name(number: int) -> str:
    """The name of a service."""
    return f"service-{number:05}"


def nodes_of(number: int, nodes: int) -> list[str]:
    """Where the three endpoints of a service are."""
    return [f"node-{(number + step * 167) % nodes:03}" for step in range(3)]


def cluster(nodes: int) -> Iterator[KubeObject]:
    """Nodes, and the configuration."""
    for number in range(nodes):
        address = f"198.51.100.{number % 250 + 1}"
        yield builders.node(f"node-{number:03}", "zone=east", ready=True, addresses=[address])
    yield builders.pool("big", BIG_POOL)
    yield builders.pool("small", SMALL_POOL, auto=False)
    yield builders.bgp_advertisement("big", pools=["big"])
    yield builders.l2_advertisement("small", pools=["small"])
    yield builders.peer("bird", BIRD_V6, peer_asn=64512)
    yield builders.service("answered", pool="small", ips=ARP_ADDRESS, cluster_ips=())
    yield builders.endpoints("answered", NODE)


def loaded(services: int, nodes: int) -> Iterator[KubeObject]:
    """The services with their endpoints."""
    for number in range(services):
        yield plain_service(service_name(number))
        yield builders.endpoints(service_name(number), *nodes_of(number, nodes))


# --- probes ---


def health(port: int) -> None:
    """Ask a program for its health until SIGTERM, then print how many times, p99 and maximum."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    times: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not ended:
        began = now()
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except OSError:
            connection.close()
        else:
            times.append(1000 * (now() - began))
        time.sleep(HEALTH_EVERY_SECONDS)
    print(len(times), statistics.quantiles(times, n=100)[98], max(times), flush=True)


async def arp(bed: Bed, table: Table, when: str, probes: int) -> None:
    """How soon requests for an address are answered, and at the same time by the kernel itself."""

    async def ask(who: str, address: str) -> None:
        argv = [sys.executable, str(ARP_SCRIPT), "probe", "eth0", address, str(probes)]
        asking = functools.partial(bed.peer.run, argv, timeout=600)
        said = (await asyncio.to_thread(asking)).stdout.strip()
        p50, p99, worst, lost = map(float, re.findall(r"[\d.]+(?= us|$)", said))
        table.row(f"{who} {when}: ARP answered: p50 of {probes}", p50 / 1000, "ms")
        table.row(f"{who} {when}: ARP answered: p99", p99 / 1000, "ms")
        table.row(f"{who} {when}: ARP answered: the slowest", worst / 1000, "ms")
        table.row(f"{who} {when}: ARP not answered", lost, "")

    await asyncio.gather(ask("pulse", ARP_ADDRESS), ask("kernel", NODE_V4))


# --- changes ---


class Changes:
    """Changes that concern nobody's address and no route: labels, and one endpoint of three."""

    def __init__(self, client: KubeClient, services: int, nodes: int) -> None:
        self._client, self._services, self._nodes = client, services, nodes
        self._count = 0

    async def one(self) -> None:
        """The next change."""
        self._count += 1
        number = self._count * 7 % self._services
        if self._count % 2:
            patch: dict[str, object] = {"metadata": {"labels": {"change": str(self._count)}}}
            await self._client.patch(Service, ObjectKey("default", service_name(number)), patch)
            return
        where = nodes_of(number, self._nodes)
        ready = [True, True, self._count // 2 // self._services % 2 == 1]
        key = ObjectKey("default", f"{service_name(number)}-1")
        endpoints = [
            {"addresses": [f"10.244.0.{index + 1}"], "nodeName": name, "conditions": {"ready": up}}
            for index, (name, up) in enumerate(zip(where, ready, strict=True))
        ]
        await self._client.patch(EndpointSlice, key, {"endpoints": endpoints})

    async def steady(self, seconds: float) -> float:
        """So many a second for some seconds; how many a second there really were."""
        began = now()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * CHANGES_PER_SECOND)):
                due = began + number / CHANGES_PER_SECOND
                await asyncio.sleep(max(0.0, due - now()))
                group.create_task(self.one())
        return seconds * CHANGES_PER_SECOND / (now() - began)

    async def storm(self, changes: int, at_once: int) -> float:
        """As many as the API server takes; how many a second."""
        left = iter(range(changes))

        async def work() -> None:
            for _ in left:
                await self.one()

        began = now()
        await asyncio.gather(*(work() for _ in range(at_once)))
        return changes / (now() - began)


@asynccontextmanager
async def addressed(client: KubeClient) -> AsyncIterator[Callable[[], int]]:
    """Follow the Services; gives how many of the default namespace have an address."""
    having: set[ObjectKey] = set()

    def on_delta(_k: Kind, key: ObjectKey, _old: KubeObject | None, new: KubeObject | None) -> None:
        assert isinstance(new, Service)
        if new.status.load_balancer.ingress and key.name != "answered":
            having.add(key)

    informers = Informers(client, SystemClock(), SystemEntropy(), on_delta)
    informers.add(Service)
    async with Supervisor(SystemClock(), SystemEntropy()) as tasks:
        informers.start(tasks)
        await informers.wait_synced()
        yield lambda: len(having)


# --- what is measured ---


async def fill(client: KubeClient, services: int, nodes: int, table: Table) -> Changes:
    """Make the objects, and see how fast this API server writes."""
    await load(client, cluster(nodes))
    began = now()
    await load(client, loaded(services, nodes))
    table.row(f"{2 * services} objects written by 32 at once", now() - began, "s")
    changes = Changes(client, services, nodes)
    rate = await changes.storm(services // 5, limits.WRITES_IN_FLIGHT)
    table.row(f"patches by a bare client, {limits.WRITES_IN_FLIGHT} at once", rate, "/s")
    return changes


async def give_addresses(bed: Bed, client: KubeClient, services: int, table: Table) -> None:
    """The first start of the controller."""
    program = bed.controller
    async with addressed(client) as count:
        began = program.start()
        with program.watched(table, "first start"):
            ready = await reached(program.ready, "the controller is ready", poll=0.02)
            table.row("controller: first start -> ready", ready - began, "s")
            first = await reached(lambda: count() > 0, "an address", poll=0.01)
            table.row("controller: first start -> first address", first - began, "s")
            last = await reached(lambda: count() == services, "all addresses", poll=0.02)
            table.row(f"controller: first start -> {services} addresses", last - began, "s")
            table.row("controller: processor time until then", cpu(program.pid), "s")
            table.row("controller: addresses written", services / (last - first), "/s")
    writes = bed.asked(program)["patch", "services/status"]
    table.row("controller: status writes a service", writes / (services + 1), "", 1)


async def start_speaker(bed: Bed, services: int, table: Table, when: str) -> None:
    """From the start of the speaker's process to the last route at the peer."""
    began = bed.speaker.start()
    with bed.speaker.watched(table, when):
        ended = await reached(
            lambda: bed.bird.routes() == services, f"{services} routes", poll=0.01
        )
        table.row(f"speaker {when} -> {services} routes at BIRD", ended - began, "s", 3.0)
        table.row(f"speaker {when}: processor time until then", cpu(bed.speaker.pid), "s")
        await quiet(bed.speaker.pid)
        rested = now() - 3
    table.row(f"speaker {when} -> its statuses written", rested - began, "s")


async def restart_controller(bed: Bed, services: int, table: Table) -> None:
    """Stop and start: until it has decided about everything, and what it writes."""
    program, before = bed.controller, bed.asked(bed.controller)
    program.stop()
    began = program.start()
    in_use = 'metallb_allocator_addresses_in_use_total{pool="big"}'
    with program.watched(table, "restart"):
        ready = await reached(program.ready, "the controller is ready", poll=0.02)
        table.row("controller restart -> ready", ready - began, "s")
        held = await reached(lambda: program.metric(in_use) >= services, "holders", poll=0.05)
        table.row("controller restart -> all holders known", held - began, "s")
        table.row("controller restart: processor time until then", cpu(program.pid), "s")
        await quiet(program.pid)
    show_writes(table, program, "restart", bed.asked(program) - before)


def show_writes(table: Table, program: Program, when: str, asked: Writes) -> None:
    """What a program wrote, by verb and resource; heartbeats apart."""
    verbs = ("create", "update", "patch", "delete")
    written = {
        what: number
        for what, number in sorted(asked.items())
        if what[0] in verbs and what[1] != "leases"
    }
    leases = sum(number for what, number in asked.items() if what[1] == "leases")
    told = ", ".join(f"{verb} {resource} {n}" for (verb, resource), n in written.items())
    what = f"{program.name} {when}: writes" + (f" ({told})" if told else "")
    table.row(what, sum(written.values()), "")
    table.row(f"{program.name} {when}: requests for leases", leases, "")


def show_memory(bed: Bed, table: Table, when: str) -> None:
    """RSS and PSS of each program."""
    for name, pid in bed.pids.items():
        rss, pss = memory(pid)
        table.row(f"{name} {when}: RSS", rss, "MB", 150.0 if name == "speaker" else None)
        table.row(f"{name} {when}: PSS", pss, "MB")


async def steady(bed: Bed, changes: Changes, table: Table) -> None:
    """Idle, then 100 changes a second that concern no address: processor time and writes."""

    async def idle() -> float:
        await asyncio.sleep(STEADY_SECONDS)
        return 0.0

    works: list[tuple[str, Work]] = [
        ("idle", idle),
        ("100 changes/s", functools.partial(changes.steady, STEADY_SECONDS)),
    ]
    for when, work in works:
        programs = (bed.controller, bed.speaker)
        asked = {one.name: bed.asked(one) for one in programs}
        used, began = {name: cpu(pid) for name, pid in bed.pids.items()}, now()
        rate = await work()
        took = now() - began
        if rate:
            table.row(f"{when}: changes there really were", rate, "/s")
        for name, pid in bed.pids.items():
            share = 100 * (cpu(pid) - used[name]) / took
            table.row(f"{name} {when}: of one core", share, "%")
        for one in programs:
            show_writes(table, one, when, bed.asked(one) - asked[one.name])


async def stalls(bed: Bed, changes: Changes, services: int, table: Table) -> None:
    """How late loops and ARP answers are while nothing, something and everything changes."""
    await arp(bed, table, "idle", ARP_PROBES)
    works: list[tuple[str, int, Work]] = [
        ("100 changes/s", ARP_PROBES, functools.partial(changes.steady, STEADY_SECONDS / 2)),
        ("storm", STORM_ARP_PROBES, functools.partial(changes.storm, services, 32)),
    ]
    for when, probes, work in works:
        with bed.controller.watched(table, when), bed.speaker.watched(table, when):
            rate, _ = await asyncio.gather(work(), arp(bed, table, when, probes))
            table.row(f"{when}: changes there really were", rate, "/s")


async def to_the_wire(bed: Bed, client: KubeClient, table: Table) -> None:
    """A Service is written, and its endpoints vanish and come back: until BIRD knows."""
    taken, written, ours, gone, back = [], [], [], [], []
    for number in range(TRIES):
        name, prefix = f"probe-{number}", f"2001:db8:5::{0xF000 + number:x}/128"
        slice_ = builders.endpoints(name, NODE)
        has = functools.partial(bed.bird.has, prefix)
        lacks = functools.partial(_lacks, bed.bird, prefix)
        await client.create(slice_)
        began = now()
        await client.create(plain_service(name, ips=prefix.partition("/")[0]))
        taken.append(now() - began)
        written.append(await reached(has, name) - began)
        ours.append(written[-1] - taken[-1])
        began = now()
        await client.delete(EndpointSlice, slice_.key)
        gone.append(await reached(lacks, name) - began)
        began = now()
        await client.create(slice_)
        back.append(await reached(has, name) - began)
    table.latencies("Service written -> address given -> route at BIRD", written, 50)
    table.latencies("of it, until the API server answers the write", taken, None)
    table.latencies("of it, from then on", ours, None)
    table.latencies("endpoints gone -> route withdrawn at BIRD", gone, 50)
    table.latencies("endpoints back -> route at BIRD", back, 50)


def _lacks(bird: BirdControl, prefix: str) -> bool:
    return not bird.has(prefix)


async def measure(bed: Bed, services: int, nodes: int) -> None:
    """Everything, on one table."""
    table = Table()
    table.row("machine: others' load average before", os.getloadavg()[0], "")
    async with KubeClient(find_config(str(bed.engine.kubeconfig), SystemClock())) as client:
        changes = await fill(client, services, nodes, table)
        await give_addresses(bed, client, services, table)
        await start_speaker(bed, services, table, "first start")
        show_memory(bed, table, "after the start")
        await steady(bed, changes, table)
        await stalls(bed, changes, services, table)
        await quiet(bed.speaker.pid)
        await to_the_wire(bed, client, table)
        everything = services + TRIES
        await quiet(bed.speaker.pid)
        bed.speaker.stop()
        await reached(lambda: bed.bird.routes() == 0, "withdrawn")
        await start_speaker(bed, everything, table, "restart")
        await restart_controller(bed, everything, table)
        show_memory(bed, table, "at the end")
        held = len(await client.list_all(Node)) + 2 * everything
        table.row("API server: nodes, services and slices", held, "")
    store = bed.engine.directory / "etcd" / "member" / "snap" / "db"
    table.row("API server: etcd's file", store.stat().st_size / 2**20, "MB")


def main() -> None:
    """Build, measure, remove."""
    if sys.argv[1:2] == ["health"]:
        health(int(sys.argv[2]))
        return
    _, why = find_programs()
    if os.geteuid() != 0 or why:
        print(why or "needs root: network namespaces and raw sockets")
        return
    services, nodes = (*map(int, sys.argv[1:]), *(10_000, 500)[len(sys.argv) - 1 :])
    gc.disable()
    with Lab("bench-scale") as lab:
        node, peer = lab.namespace("node"), lab.namespace("peer")
        cable(node, "eth0", peer, "eth0")
        for host, number in ((node, 11), (peer, 2)):
            for address in (f"192.0.2.{number}/24", f"2001:db8:2::{number:x}/64"):
                host.add_address("eth0", address)
        (lab.run_dir / "engine").mkdir()
        with inside(node), Engine(lab.run_dir / "engine", controllers=()) as engine:
            asyncio.run(measure(Bed(lab, engine, node, peer), services, nodes))


if __name__ == "__main__":
    main()
