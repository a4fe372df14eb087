"""Problems that only show once everything is decided."""

from collections.abc import Iterable, Iterator, Mapping

from clarion.base.addr import Address
from clarion.decide.allocate import EXHAUSTED
from clarion.decide.config_annotations import REQUESTS, request_path
from clarion.decide.config_build import ref
from clarion.decide.ledger import Ledger
from clarion.decide.nodes import Nodes
from clarion.decide.plan import L2Announcement, Plan, ServicePlan, l2_by_node
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.registry import NAMED, Fact, listed
from clarion.decide.snapshot import Snapshot
from clarion.model.core import Service
from clarion.model.meta import ObjectKey

TOLD = frozenset(("request-invalid", "request-twice", "pool-unknown", "not-load-balancer"))
"""Reasons for no address that are no fault, or a problem of the configuration already."""

SILENT = frozenset(
    (
        "l2-no-advertisement",
        "bgp-no-advertisement",
        "l2-no-candidate",
        "node-not-selected",
        "node-excluded",
    )
)
"""Reasons for silence that say nothing new: why no node is left is told of advertisements."""


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
    yield from _waits(ledger, _waiting(services.values()), pools)


def service_findings(plan: Plan, snapshot: Snapshot) -> Iterator[Problem]:
    """What was decided against services, as problems: a plan shows it beside each service.

    Args:
        plan: What was decided.
        snapshot: About these objects.
    """
    waiting = {key for keys in _waiting(plan.services.values()).values() for key in keys}
    for service in snapshot.services:
        item = plan.services.get(service.key)
        if item and service.key not in waiting:
            yield from _without_address(snapshot, service, item)
        if item:
            yield from _not_announced(plan, item)


def _without_address(snapshot: Snapshot, service: Service, item: ServicePlan) -> Iterator[Problem]:
    """A service of ours that is given nothing, with the reason that decided."""
    outcome = item.outcome
    if outcome is None or outcome.addresses or outcome.action == "ignore":
        return
    why = outcome.reasons[-1]
    # Manifests of services alone have their pools elsewhere; of a broken pool is told already.
    elsewhere = bool(snapshot.pools) or snapshot.options.assume_cluster
    if why.code in TOLD or (why.code == "no-pools" and elsewhere):
        return
    field = "spec.loadBalancerIP" if service.spec.load_balancer_ip else ""
    asked = next(filter(None, (request_path(service, key) for key in REQUESTS)), field)
    facts: dict[str, Fact] = {"why": why.text, "remedy": why.remedy}
    yield Problem(code="service-without-address", object=ref(service), path=asked, facts=facts)


def _not_announced(plan: Plan, item: ServicePlan) -> Iterator[Problem]:
    """A service with addresses that no node announces, unless that is what is configured."""
    pool = plan.config.pools.get(item.pool)
    if not plan.nodes or not pool or item.l2.announced or item.bgp.announced:
        return
    against = [why for why in (*item.l2.reasons, *item.bgp.reasons) if why.verdict == "no"]
    if not (pool.l2 or pool.bgp) or any(why.code == "no-endpoints" for why in against):
        return
    refused = {**item.l2.refused, **item.bgp.refused}
    causes = [why for why in against if why.code not in SILENT]
    if not causes and {why.code for why in refused.values()} <= SILENT:
        return
    by_node = [f"{node}: {why.text}" for node, why in sorted(refused.items())]
    main = next(why for why in (*causes, *refused.values()) if why.code not in SILENT)
    facts: dict[str, Fact] = {
        "addresses": listed(item.addresses),
        "why": listed([*dict.fromkeys(why.text for why in causes), *by_node]),
        "remedy": main.remedy,
    }
    yield Problem(code="service-not-announced", object=_ref(item.service), facts=facts)


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
    ledger: Ledger,
    waiting: Mapping[tuple[str, int], list[ObjectKey]],
    pools: Mapping[str, ObjectRef],
) -> Iterator[Problem]:
    """For each pool and family that has nothing to give: who waits for it, and what is in use."""
    for (name, version), keys in sorted(waiting.items()):
        usage = ledger.usage(name)
        capacity, assigned = usage.capacity[version], usage.assigned[version]
        facts: dict[str, Fact] = {
            "who": "1 service waits" if len(keys) == 1 else f"{len(keys)} services wait",
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
