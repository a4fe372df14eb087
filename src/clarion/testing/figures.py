"""Parts of benchmarks: figures beside their targets, what processes use, and BIRD asked fast."""

import asyncio
import ctypes
import os
import re
import socket
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient
from clarion.lab.netns import NETNS_DIR, Namespace
from clarion.model.core import Service
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import IPAddressPool
from clarion.testing import builders

WRITERS: Final = 32
POLL_SECONDS: Final = 0.0005
_COLUMNS: Final = "{:<66} {:>14} {:>12} {:>7}"
_CLONE_NEWNET: Final = 0x40000000

now: Final = SystemClock().monotonic
"""The time, in seconds; only differences mean something."""


class Table:
    """What was measured beside what was aimed at; a ratio below 1 is better than the target."""

    def __init__(self) -> None:
        self._show("what", "measured", "target", "ratio")

    def row(self, what: str, value: float, unit: str, target: float | None = None) -> None:
        """Print one line."""
        aim = "" if target is None else f"{target:g} {unit}"
        ratio = "" if target is None else f"{value / target:.2f}"
        self._show(what, f"{value:.4g} {unit}", aim, ratio)

    def latencies(self, what: str, seconds: Sequence[float], target_ms: float | None) -> None:
        """Two lines: median, and the 99th percentile with its target."""
        cuts = statistics.quantiles(seconds, n=100)
        self.row(f"{what}: p50 of {len(seconds)}", cuts[49] * 1000, "ms")
        self.row(f"{what}: p99 of {len(seconds)}", cuts[98] * 1000, "ms", target_ms)

    @staticmethod
    def _show(*cells: str) -> None:
        sys.stdout.write(_COLUMNS.format(*cells).rstrip() + "\n")
        sys.stdout.flush()


class BirdControl:
    """BIRD's control socket, kept open: a question costs a fraction of a millisecond.

    Args:
        path: The socket. The routes are those of IPv6 from the router's only peer.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._answer()

    def ask(self, command: str) -> str:
        """The answer to a command."""
        self._socket.sendall(command.encode() + b"\n")
        return self._answer()

    def _answer(self) -> str:
        text = b""
        # The last line of an answer begins with a code and a blank; others with a code and a minus.
        while not re.search(rb"(?m)^\d{4} .*\n\Z", text):
            text += self._socket.recv(1 << 16)
        return text.decode()

    def routes(self) -> int:
        """How many IPv6 routes BIRD has from its peer."""
        found = re.search(
            r"(\d+) of \d+ routes", self.ask("show route protocol n0 table master6 count")
        )
        return int(found[1]) if found else 0

    def has(self, prefix: str) -> bool:
        """Whether BIRD has a route."""
        return prefix in self.ask(f"show route for {prefix} table master6")

    def updates(self) -> int:
        """How many route updates BIRD has received from its peer."""
        found = re.findall(r"Import updates:\s+(\d+)", self.ask("show protocols all n0"))
        return sum(map(int, found))


@contextmanager
def inside(host: Namespace) -> Iterator[None]:
    """This thread, and what it starts, in a host's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/self/ns/net").open() as home,
        (NETNS_DIR / host.full_name).open() as there,
    ):
        assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            # The lab ends whatever runs in its networks; this process must not be there then.
            libc.setns(home.fileno(), _CLONE_NEWNET)


async def load(client: KubeClient, objects: Iterator[KubeObject]) -> None:
    """Create objects, several at a time."""

    async def work() -> None:
        for obj in objects:
            await client.create(obj)

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(work())


def plain_service(name: str, ips: str = "") -> Service:
    """IPv6 and without node ports, of which a cluster has fewer than services."""
    return builders.service(
        name, families=(6,), cluster_ips=(), allocate_load_balancer_node_ports=False, ips=ips
    )


def loaded(services: int) -> Iterator[KubeObject]:
    """So many services, each with three endpoints on the host `node`."""
    for number in range(services):
        name = f"service-{number:05}"
        yield plain_service(name)
        yield builders.endpoints(name, "node", "node", "node")


async def addressed(client: KubeClient, pool: ObjectKey, services: int) -> None:
    """Until a pool's status counts so many IPv6 addresses, and as many services have theirs."""
    while True:
        found = await client.get(IPAddressPool, pool)
        if found.status is not None and found.status.assigned_ipv6 == services:
            break
        await asyncio.sleep(0.05)
    having = 0
    while having < services:
        items = await client.list_all(Service)
        having = sum(bool(item.status.load_balancer.ingress) for item in items)
        await asyncio.sleep(0.05)


async def reached(
    condition: Callable[[], bool], what: str, seconds: float = 600, poll: float = POLL_SECONDS
) -> float:
    """When something became true, as `now` tells it.

    Raises:
        RuntimeError: not in time.
    """
    deadline = now() + seconds
    while not condition():
        if now() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what}")
        await asyncio.sleep(poll)
    return now()


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (re.search(rf"(?m)^{name}:\s+(\d+) kB", text) for name in ("Rss", "Pss"))
    assert rss is not None
    assert pss is not None
    return int(rss[1]) / 1024, int(pss[1]) / 1024


def cpu(pid: int) -> float:
    """Seconds on a processor so far, over all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def quiet(pid: int) -> None:
    """Until a process has rested for three seconds in a row."""
    rests = 0
    while rests < 3:
        before = cpu(pid)
        await asyncio.sleep(1)
        rests = rests + 1 if cpu(pid) - before < 0.05 else 0


def child_of(pid: int) -> int:
    """The only child of a process: the pulse of a speaker."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
