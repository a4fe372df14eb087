"""Every world of up to four addresses, three services and two pools."""

from collections.abc import Iterator
from itertools import permutations, product

import pytest

from clarion.base.addr import Address
from clarion.decide.allocate import converge
from clarion.decide.config import build_config
from clarion.decide.ledger import Ledger
from clarion.decide.planner import Planner
from clarion.decide.snapshot import Snapshot
from clarion.model.core import Service
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import IPAddressPool
from clarion.testing import builders as b

POOLS: list[tuple[IPAddressPool, ...]] = [
    (b.pool("p", "192.0.2.0/32"),),
    (b.pool("p", "192.0.2.0/31"),),
    (b.pool("p", "192.0.2.2/32", "192.0.2.0/32"),),
    (b.pool("p", "192.0.2.0/31", "2001:db8::/127"),),
    (b.pool("p", "192.0.2.0/32"), b.pool("q", "192.0.2.1/32", priority=1)),
    (b.pool("p", "192.0.2.0/32"), b.pool("q", "192.0.2.2/31", auto=False)),
    (b.pool("p", "192.0.2.255/32", "192.0.3.1/32", avoid_buggy=True),),
    (b.pool("p", "192.0.2.0/31", reserved="192.0.2.0"),),
    (b.pool("p", "192.0.2.0/31", "2001:db8::/127", hold_down="10s"), b.pool("q", "192.0.2.2/32")),
]
HOLD = 10.0
# What a service may want; every combination of three is tried on every set of pools.
WISHES: list[dict[str, object]] = [
    {},
    {"share": "k"},
    {"share": "k", "ports": ["udp/80"]},
    {"share": "k", "local": True, "selector": {"a": "b"}},
    {"pool": "q"},
    {"ips": "192.0.2.0"},
    {"ips": "192.0.2.0", "share": "k"},
    {"families": (4, 6), "policy": "PreferDualStack"},
    {"families": (4, 6), "policy": "RequireDualStack"},
    {"families": (6,)},
]


def worlds() -> Iterator[tuple[tuple[IPAddressPool, ...], tuple[Service, ...]]]:
    for pools, wishes in product(POOLS, product(WISHES, repeat=3)):
        yield (
            pools,
            tuple(
                b.service(f"s{index}", created=index, **wish)  # type: ignore[arg-type]
                for index, wish in enumerate(wishes)
            ),
        )


def holders(ledger: Ledger) -> dict[Address, list[ObjectKey]]:
    found: dict[Address, list[ObjectKey]] = {}
    for key, holding in ledger.holdings().items():
        for address in holding.addresses:
            found.setdefault(address, []).append(key)
    return found


def capacity(ledger: Ledger) -> int:
    return sum(sum(ledger.usage(name).capacity.values()) for name in ledger.pools)


def free(ledger: Ledger) -> int:
    usages = [ledger.usage(name) for name in ledger.pools]
    return sum(usage.available(version) for usage in usages for version in (4, 6))


def assert_no_double_allocation(ledger: Ledger) -> None:
    for keys in holders(ledger).values():
        tenancies = [ledger.holdings()[key].tenancy for key in keys]
        if len(keys) > 1:
            assert all(item.sharing for item in tenancies)
            assert len({item.backend for item in tenancies}) == 1
            assert sum(len(item.ports) for item in tenancies) == len(
                {port for item in tenancies for port in item.ports}
            )


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_one_by_one_in_every_order(order: tuple[int, ...]) -> None:
    count = 0
    for pools, services in worlds():
        config = build_config(Snapshot.from_objects(pools)).config
        ledger = Ledger(config)
        outcomes = {}
        for index in order:
            outcomes[index] = converge(ledger, services[index])
            assert_no_double_allocation(ledger)
        # Counts agree with who holds what, and deciding again changes nothing.
        assert free(ledger) == capacity(ledger) - len(holders(ledger))
        for index in order:
            again = converge(ledger, services[index])
            assert again.addresses == outcomes[index].addresses
        # Nothing is lost: when all have gone, every address is free and can be given.
        for service in services:
            ledger.release(service.key)
        ledger.advance(ledger.now + HOLD)
        assert ledger.next_deadline() is None
        assert free(ledger) == capacity(ledger)
        assert not holders(ledger)
        first = converge(ledger, services[order[0]])
        assert first.addresses == outcomes[order[0]].addresses
        count += 1
    assert count == len(POOLS) * len(WISHES) ** 3


def test_together_in_every_order_of_arrival() -> None:
    """Services that arrive together get the same addresses whatever their order."""
    for pools, services in worlds():
        results = []
        for order in permutations(services):
            planner = Planner()
            objects: tuple[KubeObject, ...] = (*pools, *order)
            for obj in objects:
                planner.put(obj)
            planner.refresh()
            results.append(dict(planner.ledger.holdings()))
        assert all(result == results[0] for result in results)
        oldest = next((s for s in services if s.key in results[0]), None)
        assert oldest is None or results[0][oldest.key]


def test_nobody_waits_while_an_address_would_do() -> None:
    """After any one service leaves, whoever still waits could not be served by converging again."""
    for pools, services in worlds():
        planner = Planner()
        for obj in (*pools, *services):
            planner.put(obj)
        planner.refresh()
        for step, gone in enumerate(services):
            planner.remove(Service, gone.key)
            planner.refresh(step * HOLD)
            for service in services:
                outcome = planner.outcome(service.key)
                if outcome and not outcome.addresses:
                    assert not converge(planner.ledger, service).addresses
            assert_no_double_allocation(planner.ledger)
            planner.put(gone)
            planner.refresh()


def test_released_addresses_in_every_order_of_leaving_and_coming() -> None:
    """One service leaves, another comes at once or later: who gets the address is as it must be."""
    pool = b.pool("p", "192.0.2.0/32", hold_down="10s")
    for first, second, after in product("ab", "ab", (0.0, HOLD - 1, HOLD, HOLD + 1)):
        planner = Planner()
        planner.put(pool)
        planner.put(b.service(first))
        planner.refresh(50.0)
        planner.remove(Service, ObjectKey("default", first))
        planner.refresh(100.0)
        planner.put(b.service(second))
        planner.refresh(100.0 + after)
        outcome = planner.outcome(ObjectKey("default", second))
        assert outcome
        assert bool(outcome.addresses) is (first == second or after >= HOLD)
