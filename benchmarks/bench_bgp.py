"""CPU seconds of announcing many prefixes with one attribute set: encoding alone, and to a BIRD.

    python benchmarks/bench_bgp.py [--prefixes 100000] [--no-lab]

As root, unless `--no-lab`, a whole speaker process and BIRD run in two namespaces; the speaker's
CPU time is read when its last byte is with the kernel. One JSON line per measurement.
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from clarion.base.addr import Prefix, parse_address
from clarion.base.limits import BGP_CHUNK_BYTES
from clarion.edge.bgp import BgpSpeaker
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.lab.netns import Lab
from clarion.lab.process import wait_until
from clarion.lab.routers import Bird, Neighbor, RouterConfig
from clarion.proto.bgp.adjout import AdjOut, Route, Terms
from clarion.proto.bgp.config import PeerConfig, State
from clarion.proto.bgp.iana import IPV4_UNICAST, IPV6_UNICAST
from clarion.proto.bgp.session import StateChanged

OURS, THEIRS = "192.0.2.9", "192.0.2.1"


def make_routes(count: int, version: int = 4) -> list[Route]:
    """Host routes that differ in their prefix only."""
    base = parse_address("10.0.0.0" if version == 4 else "2001:db8::").value
    length = 32 if version == 4 else 128
    return [Route(Prefix(version, base + n, length), communities=(7,)) for n in range(count)]


def cpu_seconds() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def report(what: str, **figures: float) -> None:
    """One line of JSON."""
    print(json.dumps({"what": what, **{k: round(v, 4) for k, v in figures.items()}}), flush=True)


def bench_encode(count: int, version: int) -> None:
    """From routes as a set to all bytes of their UPDATEs, and one changed route after that."""
    routes = make_routes(count, version)
    before = cpu_seconds()
    out = AdjOut()
    out.set_routes(routes)
    out.start(
        Terms(
            local_asn=64512,
            internal=False,
            four_octet_asn=True,
            next_hops=(
                (IPV4_UNICAST, parse_address(OURS)),
                (IPV6_UNICAST, parse_address("2001:db8::9")),
            ),
        )
    )
    total = 0
    while data := out.take(BGP_CHUNK_BYTES):
        total += len(data)
    spent = cpu_seconds() - before
    messages = out.updates_built
    report(f"encode IPv{version}", prefixes=count, cpu_s=spent, octets=total, updates=messages)
    before = cpu_seconds()
    out.set_routes(routes[:-1])
    octets = len(out.take(BGP_CHUNK_BYTES))
    report("set_routes with one change", cpu_s=cpu_seconds() - before, octets=octets)
    before = cpu_seconds()
    out.change_routes({routes[0].prefix: None})
    octets = len(out.take(BGP_CHUNK_BYTES))
    report("change_routes with one change", cpu_s=cpu_seconds() - before, octets=octets)


async def speak(count: int) -> None:
    """The speaker under measurement: announce, wait until the peer has all, say what it cost."""
    established, ended = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    def on_change(_peer: str, change: StateChanged) -> None:
        if change.new is State.ESTABLISHED:
            established.set()

    speaker = BgpSpeaker(
        node_name="node",
        clock=SystemClock(),
        entropy=SystemEntropy(),
        port=None,
        on_change=on_change,
    )
    peer = PeerConfig(
        name="bird", local_asn=64513, peer_asn=64512, peer_address=parse_address(THEIRS)
    )
    speaker.set_peers({"bird": peer})
    await established.wait()
    before, started = cpu_seconds(), time.monotonic()
    made = make_routes(count)
    making = cpu_seconds() - before
    speaker.set_routes("bird", made)
    while speaker.status()["bird"].prefixes_pending:  # noqa: ASYNC110 - nothing tells of bytes sent
        await asyncio.sleep(0.01)
    report(
        "speaker to BIRD",
        prefixes=count,
        cpu_s=cpu_seconds() - before - making,
        cpu_s_making_the_routes=making,
        cpu_s_whole_process=cpu_seconds(),
        wall_s=time.monotonic() - started,
        rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        updates=speaker.status()["bird"].sent.updates,
    )
    await ended.wait()
    await speaker.stop()


def bench_lab(count: int) -> None:
    """A speaker process and BIRD, each in its namespace."""
    with Lab(f"bench{os.getpid()}") as lab:
        switch = lab.switch("sw")
        router, node = lab.namespace("router"), lab.namespace("node")
        switch.attach(router, addresses=[f"{THEIRS}/24"])
        switch.attach(node, addresses=[f"{OURS}/24"])
        neighbor = Neighbor(
            address=OURS, remote_as=64513, hold_time=90, keepalive=30, connect_retry=1
        )
        bird = Bird(router, RouterConfig(asn=64512, router_id=THEIRS, neighbors=(neighbor,)))
        bird.start()
        argv = [sys.executable, str(Path(__file__)), "--speak", "--prefixes", str(count)]
        log = lab.logs / "speaker.log"
        process = node.popen(argv, log="speaker.log")
        started = time.monotonic()
        wait_until(
            lambda: bird.neighbors()[OURS].received == count,
            60,
            "all at BIRD",
            interval=0.02,
            seen=lambda: (bird.neighbors(), process.tail()),
        )
        wall = time.monotonic() - started
        wait_until(lambda: "speaker to BIRD" in log.read_text(), 10, "the speaker's figures")
        print(log.read_text(), end="", flush=True)
        report("start of the speaker to all routes at BIRD", prefixes=count, wall_s=wall)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefixes", type=int, default=100_000)
    parser.add_argument("--no-lab", action="store_true", help="encoding alone")
    parser.add_argument("--speak", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.speak:
        asyncio.run(speak(chosen.prefixes))
        return
    for version in (4, 6):
        bench_encode(chosen.prefixes, version)
    if os.geteuid() != 0:
        print("without root: no namespaces, so nothing is announced to BIRD")
    elif not chosen.no_lab:
        bench_lab(chosen.prefixes)


if __name__ == "__main__":
    main()
