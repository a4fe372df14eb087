"""Processor time and memory of five BGP speakers that announce the same prefixes side by side.

    python benchmarks/bgp/bench_peers.py [--runs 3] [--prefixes 1000 10000 100000]
                                         [--receivers 1 16] [--speakers Clarion BIRD ...]

As root. Each speaker runs alone in a network namespace and is told its prefixes, host routes with
one community, by its cheapest means, see `clarion.testing.bgpspeakers`. The receivers are one light
program that counts, `clarion.testing.bgpsink`, in another namespace. What counts is processor time
of the whole process, user and system, from its start until the last receiver has the last prefix;
for FRR bgpd alone. Medians of some runs; a speaker that takes long runs once.

Packages of Debian: bird2 frr gobgpd exabgp. What is not installed is left out.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
from collections.abc import Iterable
from itertools import product

import msgspec

from clarion.lab.netns import Lab, Namespace, cable
from clarion.lab.process import LabError, wait_until
from clarion.lab.routers import Bird, Neighbor, RouterConfig
from clarion.testing.bgpsink import Sink, SinkPeer
from clarion.testing.bgpspeakers import OURS, SPEAKERS, THEIR_ASN, Task, clarion
from clarion.testing.figures import Table, cpu, memory, now, reached

PROGRAMS = {"BIRD": "bird", "FRR": "vtysh", "GoBGP": "gobgpd", "ExaBGP": "exabgp"}
BEHIND_WHICH_IS_FAILURE = ("FRR", "GoBGP", "ExaBGP")
CPU_SECONDS_MAX = 0.5
PATIENCE_SECONDS = 900.0
ONCE_SECONDS = 15.0
"""A run longer than this is not repeated."""
ROW = "{:>9} {:>9}  {:<8} {:>9} {:>9} {:>9} {:>9} {:>8}"


class Figures(msgspec.Struct, frozen=True):
    """One run: seconds of processor and of the clock, MB at rest, messages to one receiver.

    `wall` is the slowest session, from its first KEEPALIVE to its last prefix.
    """

    cpu: float
    wall: float
    rss: float
    pss: float
    updates: int


def receivers_of(count: int) -> tuple[str, ...]:
    """Addresses of the receivers."""
    return tuple(f"192.0.2.{101 + number}" for number in range(count))


def build(lab: Lab, receivers: Iterable[str]) -> tuple[Namespace, Namespace]:
    """Two hosts on one cable: where the receivers are, and where the speaker runs."""
    far, near = lab.namespace("far"), lab.namespace("near")
    cable(far, "eth0", near, "eth0")
    for address in receivers:
        far.add_address("eth0", f"{address}/24")
    near.add_address("eth0", f"{OURS}/24")
    return far, near


async def run_once(name: str, prefixes: int, receivers: int) -> Figures:
    """One speaker, from nothing to all prefixes at all receivers."""
    addresses = receivers_of(receivers)
    with Lab(f"bench-bgp-{os.getpid()}") as lab:
        far, near = build(lab, addresses)
        sink = Sink(THEIR_ASN)
        await sink.listen(far, addresses)
        process = await asyncio.to_thread(SPEAKERS[name], Task(near, addresses, prefixes))

        def complete(peer: SinkPeer) -> bool:
            return bool(peer.established_at) and peer.prefixes >= prefixes

        def everywhere() -> bool:
            process.require(name)
            return sum(map(complete, sink.peers)) == receivers

        await reached(everywhere, f"{name}: all prefixes", PATIENCE_SECONDS, poll=0.01)
        spent = cpu(process.pid)
        there = [peer for peer in sink.peers if complete(peer)]
        wall = max(max(peer.last_at - peer.established_at, 0.0) for peer in there)
        await asyncio.sleep(0.5)  # memory at rest
        figures = Figures(spent, wall, *memory(process.pid), there[0].updates)
        sink.close()
    return figures


async def measure(name: str, prefixes: int, receivers: int, runs: int) -> Figures:
    """The median of each figure."""
    found: list[Figures] = []
    while len(found) < runs:
        began = now()
        found.append(await run_once(name, prefixes, receivers))
        if now() - began > ONCE_SECONDS:
            break
    columns = zip(*(msgspec.structs.astuple(each) for each in found), strict=True)
    return Figures(*map(statistics.median, columns))


def to_bird(prefixes: int) -> float:
    """Processor time of Clarion's speaker until one BIRD has everything."""
    (address,) = receivers_of(1)
    with Lab(f"bench-bird-{os.getpid()}") as lab:
        far, near = build(lab, [address])
        neighbor = Neighbor(address=OURS, remote_as=64513, hold_time=90, keepalive=30)
        bird = Bird(far, RouterConfig(asn=THEIR_ASN, router_id=address, neighbors=(neighbor,)))
        bird.start()
        process = clarion(Task(near, (address,), prefixes))
        wait_until(
            lambda: bird.neighbors()[OURS].received == prefixes, 60, "all at BIRD", interval=0.02
        )
        return cpu(process.pid)


async def show_all(chosen: argparse.Namespace) -> dict[tuple[str, int, int], Figures]:
    """Measure and print everything, a row at a time."""
    results: dict[tuple[str, int, int], Figures] = {}
    heads = ("prefixes", "receivers", "speaker", "CPU s", "x Clarion", "wall s", "RSS MB")
    print(ROW.format(*heads, "UPDATEs"), flush=True)
    for prefixes, receivers in product(chosen.prefixes, chosen.receivers):
        for name in chosen.speakers:
            program = PROGRAMS.get(name)
            if program is not None and shutil.which(program) is None:
                continue
            try:
                figures = await measure(name, prefixes, receivers, chosen.runs)
            except (LabError, RuntimeError) as error:
                print(f"{prefixes:>9} {receivers:>9}  {name:<8} failed: {error}", flush=True)
                continue
            results[name, prefixes, receivers] = figures
            ours = results.get(("Clarion", prefixes, receivers))
            ratio = f"{figures.cpu / ours.cpu:.2f}" if ours else ""
            cells = (f"{figures.cpu:.3f}", ratio, f"{figures.wall:.3f}", f"{figures.rss:.1f}")
            print(ROW.format(prefixes, receivers, name, *cells, int(figures.updates)), flush=True)
    return results


async def show_memory(table: Table, prefixes: int, receivers: int, runs: int) -> None:
    """What one more session costs Clarion, and 10,000 more prefixes."""
    found = {
        (count, peers): (await measure("Clarion", count, peers, runs)).pss * 1024
        for count, peers in product((0, prefixes), (1, receivers))
    }
    others, tens = receivers - 1, prefixes / 10_000
    idle = found[0, receivers] - found[0, 1]
    table.row("memory: one more session without routes", idle / others, "kB")
    one = (found[prefixes, 1] - found[0, 1]) / tens
    table.row("memory: 10,000 routes, to one receiver", one, "kB")
    more = (found[prefixes, receivers] - found[prefixes, 1] - idle) / others / tens
    table.row("memory: the same 10,000 routes to one more receiver", more, "kB")


def show_targets(table: Table, results: dict[tuple[str, int, int], Figures]) -> None:
    """Clarion beside the best of those that it is to be ahead of."""
    for (name, prefixes, receivers), figures in results.items():
        rivals = [
            results[rival, prefixes, receivers].cpu
            for rival in BEHIND_WHICH_IS_FAILURE
            if (rival, prefixes, receivers) in results
        ]
        if name == "Clarion" and rivals and prefixes >= 100_000:
            what = f"CPU, {prefixes:,} prefixes to {receivers}; target: the best of the others"
            table.row(what, figures.cpu, "s", round(min(rivals), 3))


def main() -> None:
    """Parse the command line, measure, print."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--prefixes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--receivers", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--speakers", nargs="+", default=list(SPEAKERS), choices=SPEAKERS)
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        print("needs root: network namespaces")
        return
    missing = [name for name, program in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}", file=sys.stderr)
    results = asyncio.run(show_all(chosen))
    table = Table()
    show_targets(table, results)
    most = max(chosen.prefixes)
    if "BIRD" not in missing:
        spent = statistics.median(to_bird(most) for _ in range(chosen.runs))
        table.row(f"CPU, {most:,} prefixes to one BIRD", spent, "s", CPU_SECONDS_MAX)
    if max(chosen.receivers) > 1:
        asyncio.run(show_memory(table, most, max(chosen.receivers), chosen.runs))


if __name__ == "__main__":
    main()
