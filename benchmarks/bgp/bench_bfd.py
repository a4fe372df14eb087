"""BFD under load: false downs and packet jitter at 3 x 100 ms against FRR's bfdd.

`python benchmarks/bgp/bench_bfd.py [MINUTES]` as root, 10 minutes unless told otherwise. The main
process decides about 10,000 services again and again without a pause, and a busy loop runs on every
processor besides. Intervals are taken from the kernel's time stamps at FRR's end of the cable.
"""

import asyncio
import os
import socket
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import msgspec

from clarion.base.addr import parse_address
from clarion.decide.planner import Planner
from clarion.edge.pulse import PulseClient, Report
from clarion.lab.frr import Frr
from clarion.lab.netns import Lab, Namespace
from clarion.lab.process import wait_until
from clarion.lab.routerbase import Neighbor, RouterConfig
from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.pulse.messages import BfdReport, WatchedSession
from clarion.testing import builders as b
from clarion.testing.figures import Table, cpu

SERVICES = 10_000
MINUTES = 10.0
INTERVAL = 0.1
NODE, ROUTER = "192.0.2.9", "192.0.2.1"
SCRIPT = Path(__file__).resolve()


class Told(msgspec.Struct):
    """What the main process knows at the end."""

    pulse: int
    rounds: int
    longest: float
    status: BfdStatus | None


def decide() -> None:
    """All decisions for 10,000 services from nothing."""
    planner = Planner(node="node")
    for index in range(SERVICES):
        planner.put(b.service(f"s{index}", created=index))
        planner.put(b.endpoints(f"s{index}", "node"))
    for obj in (b.pool("p", "10.0.0.0/16"), b.l2_advertisement("l2"), b.node("node")):
        planner.put(obj)
    planner.refresh()


async def speaker(path: str) -> None:
    """The main process: BFD is asked for, then the loop is kept busy; a connection ends it."""
    told = Told(0, 0, 0.0, None)
    done = asyncio.Event()

    async def ignore(_: Report) -> None:
        return

    def heard(report: BfdReport | None) -> None:
        told.status = report.sessions["r"] if report else None

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = await reader.read()
        told.pulse = client.pid or 0
        writer.write(msgspec.json.encode(told))
        await writer.drain()
        writer.close()
        if words:
            done.set()

    client = await PulseClient.start(ignore)
    client.on_bfd = heard
    fast = BfdConfig(desired_min_tx=INTERVAL, required_min_rx=INTERVAL)
    remote = parse_address(ROUTER).packed
    client.watch_bfd((WatchedSession(name="r", remote=remote, config=fast),))
    async with await asyncio.start_unix_server(answer, path):
        while not done.is_set():
            start = time.perf_counter()
            if told.status is not None and told.status.up_count:
                decide()
                told.rounds += 1
            told.longest = max(told.longest, time.perf_counter() - start)
            await asyncio.sleep(0.001)
    await client.stop()


def ask(path: Path, words: bytes = b"") -> Told:
    """Ask the main process; any words end it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(words)
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while chunk := sock.recv(1 << 16):
            data += chunk
    return msgspec.json.decode(data, type=Told)


def intervals(capture: str) -> list[float]:
    """Seconds between the packets of a capture."""
    times = [float(line.split()[0]) for line in capture.splitlines() if line[:1].isdigit()]
    return [after - before for before, after in pairwise(times)]


def soak(node: Namespace, router: Frr, minutes: float) -> None:
    """Let it run, then print what was seen."""
    path = node.lab.run_dir / "speaker.ctl"
    node.popen([sys.executable, str(SCRIPT), "speaker", str(path)], log="speaker.log")
    wait_until(path.exists, 20, "the main process answers")
    wait_until(lambda: (s := ask(path).status) and s.detection_time < 4 * INTERVAL, 30, "BFD up")
    burners = [
        node.popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
    ]
    filters = ["udp", "port", "3784", "and", "src", "host", NODE]
    dump = router.namespace.popen(
        ["tcpdump", "-l", "-n", "-tt", "-i", "eth0", *filters], log="capture.log"
    )
    before, start = ask(path), time.monotonic()
    used = cpu(before.pulse)
    time.sleep(minutes * 60)
    used = (cpu(before.pulse) - used) / (time.monotonic() - start)
    for burner in burners:
        burner.kill()
    after = ask(path)
    dump.stop()
    (theirs,) = router.query("show bfd peers counters json")
    ask(path, b"end")
    gaps = intervals((node.lab.logs / "capture.log").read_text())
    show(before, after, gaps, used, minutes)
    print("FRR:", theirs)


def show(before: Told, after: Told, gaps: list[float], used: float, minutes: float) -> None:
    """The figures."""
    assert before.status is not None
    table = Table()
    downs = after.status.down_count - before.status.down_count if after.status else float("nan")
    table.row(f"false downs in {minutes:g} min at 3 x 100 ms", downs, "")
    cuts = statistics.quantiles(gaps, n=1000)
    for label, value in (("p50", cuts[499]), ("p99", cuts[989]), ("p99.9", cuts[998])):
        table.row(f"interval between packets, {label}", value * 1e3, "ms")
    table.row("interval between packets, longest", max(gaps) * 1e3, "ms", 3 * INTERVAL * 1e3)
    table.row("processor time of pulse", used * 1e6 / (1 / INTERVAL) / 2, "us per packet")
    table.row("rounds of deciding in the main process", after.rounds, "")
    table.row("its longest pause", after.longest * 1e3, "ms")
    print("load", *(f"{value:.1f}" for value in os.getloadavg()), flush=True)


def main() -> None:
    """The bench, or its main process."""
    match sys.argv[1:]:
        case ["speaker", path]:
            asyncio.run(speaker(path))
            return
        case [minutes]:
            wanted = float(minutes)
        case _:
            wanted = MINUTES
    if os.geteuid() != 0:
        print("not root: nothing is measured")
        return
    with Lab("bench-bfd") as lab:
        switch = lab.switch("sw")
        router, node = lab.namespace("router", forwarding=True), lab.namespace("node")
        switch.attach(router, addresses=[f"{ROUTER}/24"])
        switch.attach(node, addresses=[f"{NODE}/24"])
        neighbor = Neighbor(address=NODE, remote_as=64513, bfd=True)
        config = RouterConfig(asn=64512, router_id=ROUTER, neighbors=(neighbor,))
        frr = Frr(router, config)
        frr.start()
        soak(node, frr, wanted)
        frr.stop()


if __name__ == "__main__":
    main()
