"""Costs of deciding: filling pools, full plans, and single events.

Run: python benchmarks/bench_decide.py
Prints one line per figure; nothing is asserted.
"""

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial

from clarion.decide.allocate import converge
from clarion.decide.config import build_config
from clarion.decide.ledger import Ledger
from clarion.decide.planner import Planner
from clarion.decide.snapshot import Snapshot
from clarion.model.core import Service
from clarion.model.meta import KubeObject
from clarion.testing import builders as b

SERVICES, NODES = 10_000, 50


def timed(label: str, work: Callable[[], object]) -> object:
    """Run once, print how long it took."""
    gc.collect()
    start = time.perf_counter()
    result = work()
    print(f"{label:<66} {time.perf_counter() - start:9.4f} s", flush=True)
    return result


def ledger_of(*pools: KubeObject) -> Ledger:
    """A ledger of these pools."""
    return Ledger(build_config(Snapshot.from_objects(pools)).config)


def fill(ledger: Ledger, services: list[Service]) -> None:
    """Give every service an address."""
    for service in services:
        assert converge(ledger, service).addresses


def filling() -> None:
    """Pools of growing size, a /64, a /8 with holes, a full pool."""
    services = [b.service(f"s{i}") for i in range(1 << 16)]
    for bits in (14, 15, 16):
        pool = b.pool("p", f"10.0.0.0/{32 - bits}")
        timed(
            f"fill a /{32 - bits} one by one ({1 << bits} services)",
            partial(fill, ledger_of(pool), services[: 1 << bits]),
        )
    six = [b.service(f"s{i}", families=(6,)) for i in range(1 << 16)]
    timed(
        "65536 addresses of a /64",
        lambda: fill(ledger_of(b.pool("p", "2001:db8::/64")), six),
    )
    buggy = b.pool("p", "10.0.0.0/8", avoid_buggy=True)
    timed("make a /8 that avoids .0 and .255", lambda: ledger_of(buggy))
    full = ledger_of(b.pool("p", "10.0.0.0/16"))
    fill(full, services)
    late = [b.service(f"late{i}") for i in range(10_000)]
    timed("10000 refusals by a full /16", lambda: [converge(full, s) for s in late])


def sharing() -> None:
    """Worst cases of sharing keys."""
    same = [b.service(f"s{i}", share="k") for i in range(SERVICES)]
    timed(
        "10000 services, one sharing key, one port: an address each",
        lambda: fill(ledger_of(b.pool("p", "10.0.0.0/16")), same),
    )
    ports = [b.service(f"s{i}", share="k", ports=[i + 1]) for i in range(SERVICES)]
    timed(
        "10000 services, one sharing key, a port each: one address",
        lambda: fill(ledger_of(b.pool("p", "10.0.0.0/32")), ports),
    )
    mixed = [b.service(f"s{i}", share="k", ports=[i % 97 + 1, 200]) for i in range(SERVICES)]
    timed(
        "10000 services, one sharing key, one common port and one of 97",
        lambda: fill(ledger_of(b.pool("p", "10.0.0.0/16")), mixed),
    )


def cluster() -> Iterator[KubeObject]:
    """A large cluster."""
    yield b.pool("p", "10.0.0.0/16")
    yield b.l2_advertisement("l2")
    for index, length in enumerate((32, 28, 24, 20)):
        name = f"ad{index}"
        yield b.bgp_advertisement(name, length=length, communities=[f"65000:{index}"])
    for index in range(4):
        yield b.peer(f"peer{index}", f"198.51.100.{index + 1}")
    for index in range(NODES):
        yield b.node(f"node{index:02}", f"zone={index % 3}")
    for index in range(SERVICES):
        yield b.service(f"s{index:05}", created=index)
        yield b.endpoints(f"s{index:05}", f"node{index % NODES:02}", f"node{index % 7:02}")


def loaded(objects: list[KubeObject], node: str) -> Planner:
    """A planner that has decided about the objects."""
    planner = Planner(node=node)
    for obj in objects:
        planner.put(obj)
    planner.refresh()
    return planner


def planning() -> None:
    """Full plans, and single events after them."""
    objects = list(cluster())
    what = "10000 services x 4 advertisements x 4 peers x 50 nodes"
    planner = timed(f"decide {what}", lambda: loaded(objects, node="node01"))
    assert isinstance(planner, Planner)
    timed("  plan of one node, with routes and contributors", lambda: planner.plan("node01"))
    timed("  plan of all nodes", planner.plan)

    def again(obj: KubeObject) -> object:
        planner.put(obj)
        return planner.refresh()

    more = b.endpoints("s00500", "node03", "node04", "node05")
    timed("  event: endpoints of one service change", lambda: again(more))
    timed("  event: one service is created", lambda: again(b.service("new", created=1 << 14)))
    timed("  event: labels of a service change", lambda: again(b.service("new", labels="a=b")))
    timed("  event: heartbeat of a node", lambda: again(b.node("node01", "zone=1", ready=True)))
    timed(
        "  event: a node becomes NotReady", lambda: again(b.node("node02", "zone=2", ready=False))
    )
    timed(
        "  event: a node gets a label that nothing selects",
        lambda: again(b.node("node03", "zone=0,rack=7")),
    )
    owners = {f"10.0.{index >> 8}.{index & 255}": "node04" for index in range(SERVICES)}
    planner.set_incumbents(owners)
    timed("  event: the owners of all addresses change", planner.refresh)
    planner.set_incumbents(owners | {"10.0.4.7": "node05"})
    timed("  event: the owner of one address changes", planner.refresh)
    other = b.pool("q", "192.0.2.0/24", auto=False)
    timed("  event: a pool that nobody uses is created", lambda: again(other))
    ad = b.bgp_advertisement("ad0", communities=["65000:99"])
    timed("  event: an advertisement of all services changes", lambda: again(ad))


def selected() -> None:
    """A node or an advertisement that concerns a tenth of the services costs a tenth."""
    planner = Planner()
    for rack in range(10):
        name = f"rack{rack}"
        planner.put(b.pool(name, f"10.{rack}.0.0/16", priority=1, service_selectors=[f"r={rack}"]))
        planner.put(b.l2_advertisement(name, pools=[name], nodes=[f"r={rack}"]))
        planner.put(b.bgp_advertisement(name, pools=[name], nodes=[f"r={rack}"]))
    planner.put(b.peer("peer"))
    for index in range(NODES):
        planner.put(b.node(f"node{index:02}", f"r={index % 10}"))
    for index in range(SERVICES):
        planner.put(b.service(f"s{index:05}", labels=f"r={index % 10}", created=index))
        planner.put(b.endpoints(f"s{index:05}", f"node{index % NODES:02}"))
    planner.refresh()
    planner.put(b.node("node03", "r=3", excluded=True))
    timed("10 racks: a node of one rack is excluded", planner.refresh)
    planner.put(b.bgp_advertisement("rack4", pools=["rack4"], nodes=["r=4"], communities=["1:1"]))
    timed("10 racks: the advertisement of one rack changes", planner.refresh)


def resting() -> None:
    """Addresses that rest after their release."""
    ledger = ledger_of(b.pool("p", "10.0.0.0/16", hold_down="10m"))
    services = [b.service(f"s{i}") for i in range(SERVICES)]
    fill(ledger, services)
    timed("10000 releases into a hold-down", lambda: [ledger.release(s.key) for s in services])
    timed("10000 services get their own addresses back", lambda: fill(ledger, services))
    for service in services:
        ledger.release(service.key)
    timed("10000 rests end", lambda: ledger.advance(600.0))


if __name__ == "__main__":
    filling()
    sharing()
    resting()
    planning()
    selected()
