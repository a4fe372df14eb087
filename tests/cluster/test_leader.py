"""Two controllers on the real API server: no address is given twice, whatever happens."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from clarion.base import limits
from clarion.lab.process import wait_until
from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import Engine

from .controller_kit import SYSTEM, ControllerProcess, need_engine

LEASE = "clarion-controller"
TAKEOVER = 3 * limits.LEADER_LEASE_SECONDS
"""Seconds within which another must lead; what is awaited, not measured."""


def service(name: str) -> dict[str, Any]:
    ports = [{"port": 80}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": ports, "selector": {"app": "any"}},
    }


def pool(*addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "pool", "namespace": SYSTEM},
        "spec": {"addresses": list(addresses)},
    }


class Pair:
    """Two replicas, and what the judge sees of their work."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.kubectl: Kubectl = engine.kubectl
        self.replicas = [ControllerProcess(engine, directory, name) for name in ("one", "two")]

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def leader(self, *, other_than: ControllerProcess | None = None) -> ControllerProcess:
        """The replica that leads, once it does; one that is stopped is not asked."""

        def find() -> ControllerProcess | None:
            asked = [replica for replica in self.replicas if replica is not other_than]
            return next((replica for replica in asked if replica.leads), None)

        return wait_until(find, TAKEOVER, "somebody leads")

    def follower(self, leader: ControllerProcess) -> ControllerProcess:
        return next(replica for replica in self.replicas if replica is not leader)

    def addresses(self) -> dict[str, list[str]]:
        """What the statuses of all services say."""
        found = self.kubectl.get("services", "-n", "default")["items"]
        return {
            item["metadata"]["name"]: [
                entry["ip"] for entry in item["status"]["loadBalancer"].get("ingress", [])
            ]
            for item in found
            if item["spec"]["type"] == "LoadBalancer"
        }

    def settled(self, names: list[str]) -> dict[str, list[str]]:
        """The addresses once all of these have one; no other service has any."""

        def served() -> dict[str, list[str]] | None:
            found = self.addresses()
            return found if sorted(found) == sorted(names) and all(found.values()) else None

        return wait_until(served, TAKEOVER, "all have an address", seen=self.addresses)

    def usage(self) -> int:
        status = self.kubectl.get("ipaddresspool", "pool", "-n", SYSTEM).get("status", {})
        return int(status.get("assignedIPv4", 0))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    need_engine()
    with Engine(tmp_path) as engine, ExitStack() as running:
        engine.install()
        engine.kubectl("create", "namespace", SYSTEM)
        made = Pair(engine, tmp_path)
        made.apply(pool("192.0.2.0/24"))
        for replica in made.replicas:
            running.enter_context(replica)
        yield made


def check(pair: Pair, names: list[str]) -> dict[str, list[str]]:
    """All have an address, nobody has another's, and what is counted is true."""
    found = pair.settled(names)
    given = [address for addresses in found.values() for address in addresses]
    assert len(given) == len(set(given)) == len(names)
    wait_until(lambda: pair.usage() == len(names), 10, "the pool counts them", seen=pair.usage)
    return found


def test_a_leader_that_is_paused_while_services_come_and_go_gives_no_address_twice(
    pair: Pair,
) -> None:
    kubectl = pair.kubectl
    leader = pair.leader()
    follower = pair.follower(leader)
    before = [f"before-{number}" for number in range(20)]
    pair.apply(*map(service, before))
    check(pair, before)
    # Paused in the middle of its work, not at rest.
    late = [f"late-{number}" for number in range(40)]
    pair.apply(*map(service, late[:20]))
    leader.process.signal(signal.SIGSTOP)
    pair.apply(*map(service, late[20:]))
    kubectl("delete", "service", "-n", "default", *before[:10])
    assert pair.leader(other_than=leader) is follower
    names = [*before[10:], *late]
    first = check(pair, names)
    # It wakes up with decisions of its own, on addresses that are others' by now.
    leader.process.signal(signal.SIGCONT)
    wait_until(lambda: not leader.leads, TAKEOVER, "it knows that it leads no more")
    assert follower.leads
    successor = follower.snapshot()["leadership"]["identity"]
    wait_until(lambda: leader.snapshot()["leadership"]["leader"] == successor, 10, "it knows who")
    more = [f"more-{number}" for number in range(20)]
    pair.apply(*map(service, more))
    last = check(pair, [*names, *more])
    assert {name: last[name] for name in names} == first, "nobody's address changed"
    assert "no longer leading" in leader.log.read_text()
    # And back: at once, as the lease is given up.
    follower.stop()
    wait_until(lambda: leader.leads, TAKEOVER, "the first leads again")
    pair.apply(service("again"))
    assert check(pair, [*names, *more, "again"]).items() >= last.items()


def test_a_full_pool_and_a_pause_in_the_middle_of_writing(pair: Pair) -> None:
    """With one address for many, a late write of the old leader would be a double allocation."""
    pair.apply(pool("192.0.2.7/32"))
    leader = pair.leader()
    many = [f"many-{number}" for number in range(10)]
    pair.apply(*map(service, many))
    leader.process.signal(signal.SIGSTOP)
    pair.leader(other_than=leader)

    def holders() -> list[str]:
        return [name for name, addresses in pair.addresses().items() if addresses]

    (holder,) = wait_until(holders, TAKEOVER, "one has it")
    leader.process.signal(signal.SIGCONT)
    pair.kubectl("delete", "service", "-n", "default", holder)
    wait_until(lambda: holders() not in ([], [holder]), 20, "the next has it", seen=holders)
    assert len(holders()) == 1


def test_after_a_restart_all_addresses_are_kept_before_one_is_given(pair: Pair) -> None:
    pair.apply(pool("192.0.2.0/28"))
    holding = [f"holding-{number:02}" for number in range(16)]
    pair.apply(*map(service, holding))
    before = check(pair, holding)
    for replica in pair.replicas:
        replica.stop()
    pair.kubectl("delete", "service", "-n", "default", "holding-07")
    # Names that come first, and older than none: what is free is one address.
    pair.apply(*map(service, ["a-first", "b-second"]))
    for replica in pair.replicas:
        replica.start()

    def given() -> dict[str, list[str]]:
        return {name: found for name, found in pair.addresses().items() if name not in before}

    wait_until(lambda: any(given().values()), TAKEOVER, "one is given", seen=given)
    assert sorted(given().values()) == [[], before["holding-07"]]
    after = pair.addresses()
    assert all(after[name] == before[name] for name in holding if name != "holding-07")


def test_an_api_that_is_silent_for_longer_than_the_lease_is_gone_on_with(pair: Pair) -> None:
    leader = pair.leader()
    names = [f"before-{number}" for number in range(10)]
    pair.apply(*map(service, names))
    before = check(pair, names)
    pair.engine.pause()
    wait_until(lambda: not leader.leads, TAKEOVER, "a lease that is not renewed is over")
    pair.engine.resume()
    pair.leader()
    pair.apply(service("after"))
    after = check(pair, [*names, "after"])
    assert {name: after[name] for name in names} == before


def test_a_follower_writes_nothing_and_its_metrics_tell_of_no_pool(pair: Pair) -> None:
    leader = pair.leader()
    follower = pair.follower(leader)
    pair.apply(service("web"))
    check(pair, ["web"])
    assert 'metallb_allocator_addresses_in_use_total{pool="pool"} 1.0' in leader.ask("/metrics")
    assert "metallb_allocator_addresses_in_use_total{" not in follower.ask("/metrics")
    assert "default/web" in leader.snapshot()["outcomes"]
    assert "outcomes" not in follower.snapshot()
    managers = json.dumps(pair.kubectl.get("lease", LEASE, "-n", SYSTEM))
    assert leader.snapshot()["leadership"]["identity"] in managers
