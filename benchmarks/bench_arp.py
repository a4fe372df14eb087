"""Layer 2: codec cost, answer latency as a station sees it, and what pulse costs when idle.

`python benchmarks/bench_arp.py` as root. Node and client are two network namespaces on one cable;
the client is a process of its own with a packet socket. Without root only the codec is measured.
"""

import asyncio
import os
import signal
import socket
import statistics
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from clarion.base.addr import Address, parse_address
from clarion.base.limits import L2_BURST_ROUNDS
from clarion.edge.pulse import PulseClient, Report
from clarion.lab.netns import Lab, Namespace, cable
from clarion.lab.process import wait_until
from clarion.proto.l2 import arp, ndp
from clarion.proto.l2.ethernet import BROADCAST, UNKNOWN, EtherType, multicast_mac
from clarion.proto.l2.responder import Link, Responder

PROBES = 2000
IDLE_SECONDS = 5.0
MAC = bytes.fromhex("02005e000001")
FIRST, FIRST6 = parse_address("203.0.113.1"), parse_address("2001:db8::1")
SCRIPT = Path(__file__).resolve()


def request(target: Address, mac: bytes) -> bytes:
    """An ARP request or a multicast solicitation for an address."""
    if target.version == 4:
        packet = arp.ArpPacket(
            BROADCAST, mac, arp.Operation.REQUEST, mac, parse_address("192.0.2.1"), UNKNOWN, target
        )
        return arp.encode(packet)
    group = ndp.solicited_node(target)
    source = parse_address("fe80::1")
    return ndp.encode_solicitation(
        ndp.Solicitation(multicast_mac(group), mac, source, group, target, mac)
    )


def table(size: int) -> dict[Address, frozenset[str] | None]:
    """`size` addresses of each IP version, counted up from the first."""
    made: dict[Address, frozenset[str] | None] = {}
    for number in range(size):
        made[Address(4, FIRST.value + number)] = None
        made[Address(6, FIRST6.value + number)] = None
    return made


def microseconds(work: Callable[[], object], turns: int = 20_000) -> float:
    """Best of five runs, per call."""
    return min(timeit.repeat(work, number=turns, repeat=5)) / turns * 1e6


def codec() -> None:
    """Cost of one frame without any socket."""
    four, six = request(FIRST, MAC), request(FIRST6, MAC)
    decoded, decoded6 = arp.decode(four), ndp.decode_solicitation(six)
    responder, link = Responder(), Link("eth0", bytes.fromhex("02005e0000aa"))
    for address in table(10_000):
        responder.announce(address, None)
    rows: dict[str, Callable[[], object]] = {
        "ARP decode": lambda: arp.decode(four),
        "ARP encode": lambda: arp.encode(decoded),
        "ARP request to answer, 10,000 addresses": lambda: responder.receive_arp(four, link),
        "NS decode": lambda: ndp.decode_solicitation(six),
        "NS encode": lambda: ndp.encode_solicitation(decoded6),
        "NS to answer, 10,000 addresses": lambda: responder.receive_ndp(six, link),
    }
    for name, work in rows.items():
        print(f"{name:44} {microseconds(work):8.2f} us")


def probe(interface: str, address: str, probes: int = PROBES) -> None:
    """The client: ask so many times, wait for each answer, print the percentiles."""
    target = parse_address(address)
    ethertype = EtherType.ARP if target.version == 4 else EtherType.IPV6
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
    sock.bind((interface, ethertype))
    sock.settimeout(1.0)
    mac = sock.getsockname()[4]
    frame, wanted = request(target, mac), target.packed
    times, lost = [], 0
    for _ in range(probes):
        start = time.perf_counter_ns()
        sock.send(frame)
        try:
            while True:
                data = sock.recv(2048)
                if data[:6] == mac and wanted in data:
                    break
        except TimeoutError:
            lost += 1
            continue
        times.append((time.perf_counter_ns() - start) / 1000)
        time.sleep(0.0005)
    cuts = statistics.quantiles(times, n=100)
    print(f"p50 {cuts[49]:7.1f} us  p99 {cuts[98]:7.1f} us  max {max(times):8.1f} us  lost {lost}")


async def announce(size: int) -> None:
    """The node: announce `size` addresses of each version until SIGTERM."""

    async def ignore(_: Report) -> None:
        return

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    client = await PulseClient.start(ignore)
    await client.ready()
    start = time.perf_counter()
    client.set_table(table(size))
    await client.settled()
    print(client.pid, time.perf_counter() - start, flush=True)
    await ended.wait()
    await client.stop()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sent_frames(node: Namespace) -> int:
    """Frames that the node's kernel has sent."""
    row = node.ip_json("-s", "link", "show", "dev", "eth0")[0]
    return int(row["stats64"]["tx"]["packets"])


def live() -> None:
    """Figures with real processes on a real cable."""
    with Lab("bench-arp") as lab:
        node, client = lab.namespace("node"), lab.namespace("client")
        cable(node, "eth0", client, "eth0")
        for size in (1, 500, 5000):
            measure(node, client, size)


def measure(node: Namespace, client: Namespace, size: int) -> None:
    """One table size: time to announce, latency, idle cost."""
    once = 3 * size  # two frames for each IPv4 address, one for each IPv6 address
    before = sent_frames(node)

    def told(rounds: int) -> bool:
        return sent_frames(node) - before >= rounds * once

    log = f"node-{size}.log"
    process = node.popen([sys.executable, str(SCRIPT), "announce", str(size)], log=log)
    words = wait_until(lambda: process.tail().split(), 60, "announced", interval=0.005)
    start = time.perf_counter()
    pid, settled = int(words[0]), float(words[1])
    wait_until(lambda: told(1), 60, "all announced once", interval=0.005)
    waited = time.perf_counter() - start
    print(f"\n{2 * size} addresses: in force after {settled * 1e3:.0f} ms,", end=" ")
    print(f"all announced once after {(settled + waited) * 1e3:.0f} ms")
    for address in ("203.0.113.1", "2001:db8::1"):
        argv = [sys.executable, str(SCRIPT), "probe", "eth0", address]
        print(f"  {address:14}", client.run(argv, timeout=120).stdout.strip())
    wait_until(lambda: told(L2_BURST_ROUNDS), 120, "the burst is over")
    time.sleep(2)
    used = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    used = (cpu_seconds(pid) - used) / IDLE_SECONDS
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(line.split()[1] for line in status.splitlines() if "VmRSS" in line)
    print(f"  idle: {used:.2%} of a core, {int(memory) / 1024:.1f} MiB")
    process.stop()


def main() -> None:
    """Codec always; the rest as root."""
    match sys.argv[1:]:
        case ["probe", interface, address, *probes]:
            probe(interface, address, *map(int, probes))
        case ["announce", size]:
            asyncio.run(announce(int(size)))
        case _:
            codec()
            if os.geteuid() == 0:
                live()
            else:
                print("not root: no latency figures")


if __name__ == "__main__":
    main()
