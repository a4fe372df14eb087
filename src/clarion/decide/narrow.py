"""The part of a plan that one question is about, without the cost of the whole.

Addresses are decided for all services, for any of them may stand in the way of another. Who
announces them is decided for the service asked about and those whose addresses share a prefix with
its own: no others can have a part in its routes or answers. For a pool nobody's announcements are
decided, for a peer no answers on the segment, and the routes to this peer alone. A property test
holds that the answers are those of the whole plan.
"""

from collections.abc import Iterable

import msgspec

from clarion.base.addr import BITS, Address, Prefix, covering_prefix, parse_address
from clarion.base.errors import InvalidInputError
from clarion.decide.allocate import Outcome
from clarion.decide.config import EMPTY, ConfigResult, build_config
from clarion.decide.endpoints import service_of
from clarion.decide.plan import Plan, ServicePlan
from clarion.decide.planner import Planner, plan
from clarion.decide.problems import Problem
from clarion.decide.setaside import set_aside
from clarion.decide.settings import Config
from clarion.decide.snapshot import Snapshot
from clarion.model.core import LoadBalancerStatus, Service, ServiceStatus
from clarion.model.meta import ObjectKey

ALLOCATION_FINDINGS = frozenset(("services-wait", "service-without-address"))
"""Codes of problems that follow from the addresses of all services."""


def plan_for(snapshot: Snapshot, kind: str, name: str) -> Plan:
    """As much of the plan as an answer about one thing needs; arguments as `explain`."""
    if kind == "node" and any(node.name == name for node in snapshot.nodes):
        return plan(snapshot, name)
    if kind == "pool":
        return _with_config(_allocated(snapshot), snapshot, _config(snapshot))
    if kind == "peer":
        return _of_peer(snapshot, name)
    if kind not in ("service", "address"):
        return plan(snapshot)
    whole = _allocated(snapshot)
    found = {key: item.outcome for key, item in whole.services.items() if item.outcome}
    wanted = _asked(found, kind, name)
    if not wanted:
        # What does not exist is answered with the names of what does, or with the whole pool.
        return _with_config(whole, snapshot, _config(snapshot))
    config = _config(snapshot).config
    prefixes = {prefix for key in wanted for prefix in _prefixes(config, found[key].addresses)}
    kept = {key for key, item in found.items() if _touches(item, prefixes)} | wanted
    part = _announced(_only(snapshot, found, kept))
    return msgspec.structs.replace(
        part,
        pools=whole.pools,
        problems=(*part.problems, *_of_allocation(whole)),
        services={
            key: _joined(item, found[key], whole.services[key])
            for key, item in part.services.items()
        },
    )


def _joined(part: ServicePlan, outcome: Outcome, whole: ServicePlan) -> ServicePlan:
    """Who announces a service, with what was decided about its addresses."""
    if not outcome.addresses:
        return whole
    return msgspec.structs.replace(part, outcome=outcome, written=whole.written)


def _of_allocation(whole: Plan) -> Iterable[Problem]:
    """What only shows once all addresses are decided."""
    return (item for item in whole.problems if item.code in ALLOCATION_FINDINGS)


def _config(snapshot: Snapshot) -> ConfigResult:
    return build_config(snapshot, snapshot.in_force or EMPTY)


def _with_config(part: Plan, snapshot: Snapshot, whole: ConfigResult) -> Plan:
    """A part of a plan with all configuration and what is wrong with it."""
    problems = (*whole.problems, *_of_allocation(part))
    return msgspec.structs.replace(
        part,
        config=whole.config,
        problems=tuple(sorted(problems, key=lambda problem: problem.order)),
        set_aside=set_aside(snapshot, whole.problems),
    )


def _of_peer(snapshot: Snapshot, name: str) -> Plan:
    """The routes to one peer; what services bring about is no problem of a peer."""
    peers = tuple(peer for peer in snapshot.peers if peer.name == name)
    empty = msgspec.structs.replace(snapshot, services=(), endpoint_slices=())
    whole = _config(empty)
    if name not in whole.config.peers:
        return plan(empty)
    bare = msgspec.structs.replace(snapshot, l2_advertisements=(), peers=peers)
    return _with_config(plan(bare), snapshot, whole)


def _allocated(snapshot: Snapshot) -> Plan:
    """The addresses of all services: pools alone decide about them."""
    bare = msgspec.structs.replace(
        snapshot,
        endpoint_slices=(),
        l2_advertisements=(),
        bgp_advertisements=(),
        peers=(),
    )
    return plan(bare)


def _announced(snapshot: Snapshot) -> Plan:
    """Who announces the addresses that the services have in their status."""
    planner = Planner(snapshot.options, allocate=False)
    planner.load(snapshot)
    planner.refresh(snapshot.now)
    return planner.plan()


def _asked(allocated: dict[ObjectKey, Outcome], kind: str, name: str) -> set[ObjectKey]:
    """The services that the question is about."""
    if kind == "service":
        space, _, own = name.rpartition("/")
        return {ObjectKey(space or "default", own)} & allocated.keys()
    try:
        address = parse_address(name)
    except InvalidInputError:
        return set()
    return {key for key, item in allocated.items() if address in item.addresses}


def _prefixes(config: Config, addresses: Iterable[Address]) -> Iterable[Prefix]:
    """The widest prefixes as which the addresses could be announced."""
    for address in addresses:
        lengths = (ad.lengths.get(address.version, 0) for ad in config.bgp.values())
        yield covering_prefix(address, min((*lengths, BITS[address.version])))


def _touches(item: Outcome, prefixes: set[Prefix]) -> bool:
    return any(address in prefix for address in item.addresses for prefix in prefixes)


def _only(
    snapshot: Snapshot, allocated: dict[ObjectKey, Outcome], kept: set[ObjectKey]
) -> Snapshot:
    """The snapshot with these services alone, their addresses already in their status."""
    return msgspec.structs.replace(
        snapshot,
        services=tuple(
            _settled(item, allocated[item.key]) for item in snapshot.services if item.key in kept
        ),
        endpoint_slices=tuple(
            item for item in snapshot.endpoint_slices if service_of(item) in kept
        ),
    )


def _settled(service: Service, outcome: Outcome) -> Service:
    status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=outcome.ingress))
    return msgspec.structs.replace(service, status=status)
