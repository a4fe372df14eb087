"""Problems that only show once everything is decided."""

from collections.abc import Iterable, Iterator, Mapping

from clarion.base.addr import Address
from clarion.decide.ledger import Ledger
from clarion.decide.nodes import Nodes
from clarion.decide.plan import L2Announcement, ServicePlan, l2_by_node
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.registry import Fact, listed
from clarion.model.meta import ObjectKey

EXHAUSTED = frozenset(("pool-exhausted", "pool-exhausted-but-reserved", "pool-resting"))
"""Reasons that say that a pool has no address to give."""

NAMED = 5
"""So many of the objects concerned are named in a problem."""


def findings(
    nodes: Nodes,
    ledger: Ledger,
    services: Mapping[ObjectKey, ServicePlan],
    pools: Mapping[str, ObjectRef],
) -> Iterator[Problem]:
    """What is wrong with the result as a whole.

    Args:
        nodes: The nodes and the configuration.
        ledger: Who holds what.
        services: What was decided about each service.
        pools: The object of each pool.
    """
    if nodes.options.assume_cluster and not nodes.facts:
        yield Problem(code="no-nodes", object=ObjectRef("Node", "", "(any)"))
    yield from _announced_twice(l2_by_node(services.values()))
    yield from _waits(ledger, services, pools)


def _announced_twice(answers: Mapping[str, tuple[L2Announcement, ...]]) -> Iterator[Problem]:
    owners: dict[Address, list[tuple[str, L2Announcement]]] = {}
    for node, items in sorted(answers.items()):
        for item in items:
            owners.setdefault(item.address, []).append((node, item))
    for address, found in owners.items():
        if len(found) > 1:
            keys = sorted(key for _, item in found for key in item.services)
            facts: dict[str, Fact] = {
                "address": str(address),
                "nodes": listed([node for node, _ in found]),
                "services": listed(keys),
            }
            first, *others = map(_ref, keys)
            yield Problem(
                code="address-announced-twice",
                object=first,
                path="status.loadBalancer",
                facts=facts,
                related=tuple(others),
            )


def _waits(
    ledger: Ledger, services: Mapping[ObjectKey, ServicePlan], pools: Mapping[str, ObjectRef]
) -> Iterator[Problem]:
    """For each pool and family that has nothing to give: who waits for it, and what is in use."""
    for (name, version), keys in sorted(_waiting(services.values()).items()):
        usage = ledger.usage(name)
        capacity, assigned = usage.capacity[version], usage.assigned[version]
        facts: dict[str, Fact] = {
            "count": len(keys),
            "services": listed(keys, NAMED),
            "family": version,
            "assigned": assigned,
            "capacity": capacity,
            "share": 100 * assigned // capacity,
            "reserved": usage.reserved[version],
            "resting": usage.resting[version],
        }
        yield Problem(
            code="services-wait",
            object=pools[name],
            path="spec.addresses",
            facts=facts,
            related=tuple(map(_ref, keys[:NAMED])),
        )


def _waiting(services: Iterable[ServicePlan]) -> dict[tuple[str, int], list[ObjectKey]]:
    found: dict[tuple[str, int], dict[ObjectKey, None]] = {}
    for item in services:
        outcome = item.outcome
        for why in outcome.reasons if outcome and not outcome.addresses else ():
            if why.code in EXHAUSTED:
                place = str(why.facts["pool"]), int(why.facts["family"])
                found.setdefault(place, {})[item.service] = None
    return {place: sorted(keys) for place, keys in found.items()}


def _ref(key: ObjectKey) -> ObjectRef:
    return ObjectRef("Service", key.namespace, key.name)
